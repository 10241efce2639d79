"""Decides the life of all sessions of one manager: single flight, gates, breaks, drains.

Pure: it owns no thread and does no I/O. Its inputs are called on the portal's thread with `mutex`
held; what must be done is collected as effects, which the shell takes and carries out afterwards.
Other threads hold `mutex` only to read.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from ..clock import Clock
from ..errors import PortalClosedError, SessionBrokenError, SessionClosedError
from ..settings import Settings
from ..vocabulary import Outcome, SessionKey, SessionState
from ..waitgraph import GRAPH, WaitGraph
from .backoff import STABLE_AFTER_S
from .book import Book
from .callbook import CallBook
from .errors import drain_error
from .flights import Flights
from .gates import Gates
from .records import CloseTicket, Gate, Record


class Pool(Book):
    """All sessions of one manager: its own inputs are about their life, its parts have the rest.

    Args:
        make_handle: Makes the `Session` for a new record.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        make_handle: Callable[[Record], Any] = lambda record: record,
        graph: WaitGraph = GRAPH,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(settings, clock, make_handle, graph)
        self.rng = rng or random.Random()
        self.gates = Gates(self, self.rng)
        self.flights = Flights(self)
        self.callbook = CallBook(self)

    def lost(
        self, record: Record, generation: int, cause: BaseException | None, calls_go_on: bool = False
    ) -> None:
        """The connection of a READY or DRAINING session ended by itself, or cannot be used any more.

        Args:
            calls_go_on: Leave the other calls in flight to their own answers; the connection is
                kept until they have them.
        """
        if record.generation != generation or record.state not in (SessionState.READY, SessionState.DRAINING):
            return
        now = self.clock.monotonic()
        was_ready = record.state is SessionState.READY
        if was_ready:
            self.warm.pop(record.key, None)
            self.absorb_hits(record)
            age_s = now - record.opened_at
            self.move(record, "lost", error=cause)
            self.vacate(record)
            self.tally(record.transport_id).counts["lost"] += 1
            if age_s < STABLE_AFTER_S:
                self.tally(record.transport_id).last_failure = cause
                self.gates.failed(record.transport_id)
            else:
                self.gates.backoff(record.transport_id).stable()
        if calls_go_on and record.calls and record.connection is not None:
            if was_ready:  # A drain lets them end by itself, within its limit.
                self.callbook.retire(record)
                self.gates.make_room()
            return
        self.disconnect(record)
        self.callbook.fail_all(
            record,
            lambda call: SessionBrokenError(
                f"session {record.key} was lost during {call.method} {call.target or ''}".rstrip()
                + f": {cause!r}; the server may have run it, so it is not sent again",
                may_have_run=True,
                key=record.key,
                phase=call.phase,
                waited_s=now - call.asked_at,
                limit_s=call.limit_s,
            ),
            cause,
        )
        self.gates.make_room()

    def drain(self, record: Record, *, close_timeout_s: float | None = None) -> None:
        """Let a READY session end when its calls have ended; idle and lifetime drains end in COLD."""
        self.warm.pop(record.key, None)
        self.absorb_hits(record)
        limit_s = self.settings.close_timeout_s if close_timeout_s is None else close_timeout_s
        record.drain_deadline = self.clock.monotonic() + limit_s
        self.move(record, "drain")
        if not record.calls:
            self.disconnect(record)

    def drained(self, record: Record, generation: int) -> None:
        """The connection of a DRAINING session has ended."""
        if record.generation != generation or record.state is not SessionState.DRAINING:
            return
        record.connection = None  # It may have ended by itself, before its calls had.
        self.callbook.fail_all(record, partial(drain_error, record, now=self.clock.monotonic()), None)
        if record.closing:
            self._finish_closing(record)
        else:
            self.move(record, "drained")
            self.vacate(record)
        self._after_drain(record.key)

    def close_session(self, ticket: CloseTicket) -> None:
        """Somebody closes a session: it drains, its handle ends, its key is free for a new one."""
        record = self.known.get(ticket.key)
        leaving = self.leaving.get(ticket.key)
        if record is None and leaving is None:
            self.answer(ticket, Outcome.OK)
            return
        if record is None or record.state is SessionState.CLOSED:
            if leaving is None:
                self.answer(ticket, Outcome.OK)
            else:
                leaving.closers.append(ticket)
            return
        record.closers.append(ticket)
        self._close_record(record, max(0.0, ticket.deadline - self.clock.monotonic()))

    def close(self, close_timeout_s: float) -> None:
        """The manager closes: no new requests, every session ends."""
        self.closed = True
        self.warm.clear()
        # Those at the server last: each end lets the next one connect.
        for opening in sorted(self.openings, key=lambda opening: opening.gate.value):
            self.flights.abandon(opening, lambda t: PortalClosedError("the manager was closed", key=t.key))
        for record in [*self.active.values(), *self.known.values()]:
            self._close_record(record, close_timeout_s)

    def _close_record(self, record: Record, close_timeout_s: float) -> None:
        if record.state is SessionState.CLOSED or record.closing:
            return
        if record.opening is not None:
            self.flights.abandon(
                record.opening,
                lambda t: SessionClosedError(f"session {t.key} was closed while it was opening", key=t.key),
            )
        record.closing = True
        if record.state is SessionState.READY:
            self._detach(record)
            self.drain(record, close_timeout_s=close_timeout_s)
        elif record.state is SessionState.DRAINING:
            self._detach(record)
        else:
            self._finish_closing(record)

    def close_cold(self, record: Record) -> None:
        """Close a session without a connection: its key is taken by another target."""
        self._close_record(record, 0.0)

    def _detach(self, record: Record) -> None:
        """Free the key for a new handle, which waits for this one's end."""
        self.known.pop(record.key, None)
        self.leaving[record.key] = record

    def _finish_closing(self, record: Record) -> None:
        self.move(record, "close")
        self.vacate(record)
        if self.known.get(record.key) is record:
            del self.known[record.key]
        if self.leaving.get(record.key) is record:
            del self.leaving[record.key]
        for closer in record.closers:
            self.answer(closer, Outcome.OK)
        record.closers.clear()

    def _after_drain(self, key: SessionKey) -> None:
        record = self.known.get(key)
        if record is not None and record.opening is not None and record.opening.gate is Gate.DRAIN:
            self.gates.let_pass(record.opening)
        self.gates.make_room()

    def tick(self) -> None:
        """Do what is due: pauses that end, idle and old sessions, drains that take too long."""
        now = self.clock.monotonic()
        self.gates.tick(now)
        for record in [*self.active.values(), *self.leaving.values()]:
            if record.state is SessionState.READY and not record.calls:
                self.absorb_hits(record)
                idle = now - record.last_used_at >= self.settings.idle_timeout_s
                old = record.expires_at is not None and now >= record.expires_at
                if idle or old:
                    self.drain(record)
            elif record.state is SessionState.DRAINING and record.calls and now >= record.drain_deadline:
                self.callbook.fail_all(record, partial(drain_error, record, now=now), None)
                self.disconnect(record)
