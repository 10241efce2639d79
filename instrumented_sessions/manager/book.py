"""What one manager keeps book of, and the few things that all parts of its pool do with it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from ..chain import ChainLink
from ..clock import Clock
from ..events import SessionStateChanged
from ..settings import Settings
from ..state import advance
from ..vocabulary import Outcome, SessionKey, SessionState
from ..waitgraph import WaitGraph
from .effects import Answer, Disconnect, Effect, Say
from .permits import PermitTable
from .records import CallTicket, Opening, Record, RequestTicket, Tally, Ticket

_SLOT_STATES = (SessionState.CREATING, SessionState.READY, SessionState.DRAINING)


class Book:
    """Sessions, openings, calls and counters; changed with `mutex` held."""

    def __init__(
        self, settings: Settings, clock: Clock, make_handle: Callable[[Record], Any], graph: WaitGraph
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.graph = graph
        self.mutex = threading.Lock()
        self.closed = False
        self.warm: dict[SessionKey, Any] = {}
        """Handles of READY sessions: the warm path reads it without a lock."""
        self.active: dict[SessionKey, Record] = {}
        """Sessions that take room: CREATING, READY or DRAINING."""
        self.known: weakref.WeakValueDictionary[SessionKey, Record] = weakref.WeakValueDictionary()
        """All sessions whose handle somebody may hold."""
        self.leaving: dict[SessionKey, Record] = {}
        """Sessions that end in CLOSED; their key is free for a new handle."""
        self.openings: dict[Opening, None] = {}
        self.calls: dict[CallTicket, None] = {}
        self.tallies: dict[str, Tally] = {}
        self.make_handle = make_handle
        self.portal_stall: Callable[[], ChainLink | None] = lambda: None
        """Tells whether the portal stands still; the shell knows."""
        self._effects: list[Effect] = []
        self.permits = PermitTable(settings, clock, graph, self._effects.append)

    def do(self, effect: Effect) -> None:
        """Add to what must be done."""
        self._effects.append(effect)

    def take(self) -> list[Effect]:
        """Return the effects collected since the last time."""
        effects = self._effects[:]
        self._effects.clear()
        return effects

    def tally(self, transport_id: str) -> Tally:
        """Return the counters of one transport."""
        return self.tallies.setdefault(transport_id, Tally())

    def absorb_hits(self, record: Record) -> None:
        """Move a session's warm hits into its transport's counters; a hit counts as use."""
        hits = record.hits.read()
        if hits != record.hits_seen:
            self.tally(record.transport_id).warm_hits += hits - record.hits_seen
            record.hits_seen = hits
            record.last_used_at = self.clock.monotonic()

    def move(self, record: Record, move: str, *, error: BaseException | None = None) -> None:
        """Change a session's state, and announce it."""
        old = record.state
        new = advance(record, move)
        is_open = old in (SessionState.READY, SessionState.DRAINING)
        self._effects.append(
            Say(
                SessionStateChanged(
                    at=self.clock.time(),
                    key=record.key,
                    transport_kind=record.transport.kind,
                    old=old,
                    new=new,
                    generation=record.generation,
                    move=move,
                    age_s=self.clock.monotonic() - record.opened_at if is_open else 0.0,
                    error=error,
                )
            )
        )

    def answer(
        self, ticket: Ticket, outcome: Outcome, *, value: Any = None, error: BaseException | None = None
    ) -> None:
        """Answer a ticket that is still open, and count it."""
        if isinstance(ticket, RequestTicket):
            ticket.ended_phase = ticket.phase
        if ticket.claim():
            if isinstance(ticket, RequestTicket):
                self.tally(ticket.key.transport_id).counts[f"requests_{outcome}"] += 1
            self._effects.append(Answer(ticket, outcome, value, error))

    def vacate(self, record: Record) -> None:
        """Give a session's room back."""
        if record.state not in _SLOT_STATES and self.active.get(record.key) is record:
            del self.active[record.key]

    def disconnect(self, record: Record) -> None:
        """Let the owner of a session leave its transport."""
        connection, record.connection = record.connection, None
        if connection is not None:
            self._effects.append(Disconnect(connection))
