"""Decides the life of all sessions of one manager: single flight, gates, breaks, drains.

Pure: it owns no thread and does no I/O. Its inputs are called on the portal's thread with `mutex`
held; what must be done is collected as effects, which the shell takes and carries out afterwards.
Other threads hold `mutex` only to read.
"""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from ..clock import Clock
from ..errors import (
    PortalClosedError,
    SessionBrokenError,
    SessionClosedError,
    SessionError,
    SessionOpenError,
    TransportConflictError,
)
from ..events import OpeningEnded, OpeningStarted, SessionStateChanged
from ..settings import Settings
from ..state import advance
from ..vocabulary import OpenFailure, Outcome, Phase, SessionKey, SessionState
from ..waitgraph import GRAPH, WaitGraph
from .backoff import STABLE_AFTER_S, Backoff
from .effects import Abort, Answer, Connect, Disconnect, Effect, Fail, Grant, Say
from .errors import deadlock_error, drain_error
from .permits import PermitTable
from .records import CallTicket, CloseTicket, Gate, Opening, Record, RequestTicket, Tally, Ticket

_SLOT_STATES = (SessionState.CREATING, SessionState.READY, SessionState.DRAINING)


class Pool:
    """All sessions of one manager.

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
        self.settings = settings
        self.clock = clock
        self.mutex = threading.Lock()
        self.graph = graph
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
        self._targets: dict[str, Any] = {}
        self._room_queue: dict[Opening, None] = {}
        self._retiring: dict[Any, set[CallTicket]] = {}
        """Connections of lost sessions whose calls still wait for their answers."""
        self._backoffs: dict[str, Backoff] = {}
        self._make_handle = make_handle
        self._rng = rng or random.Random()
        self._effects: list[Effect] = []
        self.permits = PermitTable(settings, clock, graph, self._effects.append)

    def say(self, effect: Say) -> None:
        """Add an event to what must be done."""
        self._effects.append(effect)

    def take(self) -> list[Effect]:
        """Return the effects collected since the last time."""
        effects = self._effects[:]
        self._effects.clear()
        return effects

    def tally(self, transport_id: str) -> Tally:
        """Return the counters of one transport."""
        return self.tallies.setdefault(transport_id, Tally())

    # -- requests ---------------------------------------------------------------------------

    def request(self, ticket: RequestTicket) -> None:
        """Somebody wants a session that was not warm: join its opening, or begin one."""
        if not ticket.open:
            return  # It left before it was heard.
        if self.closed:
            self._answer(
                ticket, Outcome.REFUSED, error=PortalClosedError("the manager is closed", key=ticket.key)
            )
            return
        conflict = self._conflict(ticket)
        if conflict is not None:
            self._answer(ticket, Outcome.REFUSED, error=conflict)
            return
        record = self._record(ticket)
        if record.state is SessionState.READY:
            self._answer(ticket, Outcome.HIT, value=record)
            return
        opening = record.opening
        if opening is None:
            opening = Opening(record, self.clock.monotonic())
            opening.first_request_id = ticket.id
            record.opening = opening
            self.openings[opening] = None
            with self.graph.lock:
                self.graph.hold(("opening", opening.id), ("opening", opening.id))
        with self.graph.lock:
            cycle = self.graph.cycle(ticket.party_id, ("opening", opening.id))
            if cycle is None:
                self.graph.wait(ticket.party_id, ("opening", opening.id))
        if cycle is not None:
            self._answer(ticket, Outcome.DEADLOCK, error=deadlock_error(self, ticket, opening, cycle))
            return
        opening.requests[ticket] = None
        ticket.opening = opening
        if len(opening.requests) == 1:
            self._pass_gates(opening)
        else:
            self._refuse_short_limits(opening)

    def leave(self, ticket: RequestTicket, outcome: Outcome) -> None:
        """A request was claimed by its caller: `outcome` is `timeout` or `cancelled`."""
        self.tally(ticket.key.transport_id).counts[f"requests_{outcome}"] += 1
        opening = ticket.opening
        if opening is None or ticket not in opening.requests:
            return
        self._forget_request(ticket)
        if not opening.requests and opening.gate not in (Gate.SERVER, Gate.DONE):
            self._drop(opening, outcome)

    def _record(self, ticket: RequestTicket) -> Record:
        record = self.known.get(ticket.key)
        if record is None:
            record = Record(ticket.key, ticket.transport, self.clock)
            record.handle = self._make_handle(record)
            self.known[ticket.key] = record
        if record.state in (SessionState.COLD, SessionState.BROKEN):
            record.transport = ticket.transport
        return record

    def _conflict(self, ticket: RequestTicket) -> SessionError | None:
        """Refuse one id for two targets while sessions of the first are alive."""
        transport_id = ticket.key.transport_id
        target = self._targets.setdefault(transport_id, ticket.transport)
        if target is ticket.transport or target == ticket.transport:
            return None
        alive = any(record.transport_id == transport_id for record in self.active.values()) or any(
            opening.record.transport_id == transport_id for opening in self.openings
        )
        if alive:
            return TransportConflictError(
                f"transport id {transport_id!r} is already in use for another target or other credentials;"
                f" give {ticket.transport!r} an id of its own, or build one transport and keep it",
                key=ticket.key,
            )
        self._targets[transport_id] = ticket.transport
        return None

    # -- gates ------------------------------------------------------------------------------

    def _pass_gates(self, opening: Opening) -> None:
        """Take an opening as far as it can go; where it cannot, it is left in that gate's queue."""
        record = opening.record
        if opening.gate is Gate.DRAIN:
            if record.state is SessionState.DRAINING or record.key in self.leaving:
                return
            opening.gate = Gate.BACKOFF
        if opening.gate is Gate.BACKOFF:
            backoff = self._backoffs.setdefault(record.transport_id, Backoff(self.settings, self._rng))
            if not backoff.passes(opening):
                self._refuse_short_limits(opening)
                return
            opening.gate = Gate.ROOM
        if opening.gate is Gate.ROOM:
            if self._room_queue or len(self.active) >= self.settings.max_sessions:
                self._room_queue[opening] = None
                self._make_room()
                return
            self._enter_lock(opening)

    def _enter_lock(self, opening: Opening) -> None:
        record = opening.record
        opening.gate = Gate.LOCK
        self._move(record, "open")
        self.active[record.key] = record
        record.generation = opening.generation
        opening.announced = True
        self._effects.append(
            Say(
                OpeningStarted(
                    at=self.clock.time(),
                    key=record.key,
                    transport_kind=opening.transport.kind,
                    opening_id=opening.id,
                    generation=opening.generation,
                    request_id=opening.first_request_id,
                )
            )
        )
        opening.acquisition = self.permits.acquire_opening(opening)
        if opening.acquisition.granted_at is not None:
            self._connect(opening)
            return
        cycle = self.permits.cycle(opening.acquisition)
        if cycle is not None:
            for ticket in list(opening.requests):
                error = deadlock_error(self, ticket, opening, cycle)
                self._forget_request(ticket)
                self._answer(ticket, Outcome.DEADLOCK, error=error)
            self._drop(opening, Outcome.DEADLOCK)

    def _connect(self, opening: Opening) -> None:
        opening.gate = Gate.SERVER
        opening.granted_at = self.clock.monotonic()
        self._effects.append(Connect(opening))

    def _make_room(self) -> None:
        """Let the first waiters for room in, and send idle sessions away for the others."""
        while self._room_queue and len(self.active) < self.settings.max_sessions:
            opening = next(iter(self._room_queue))
            del self._room_queue[opening]
            self._enter_lock(opening)
        going = sum(1 for record in self.active.values() if record.state is SessionState.DRAINING)
        for record in self._idle_first()[: max(0, len(self._room_queue) - going)]:
            self.drain(record)

    def _idle_first(self) -> list[Record]:
        """READY sessions without calls, the least recently used first."""
        idle = [r for r in self.active.values() if r.state is SessionState.READY and not r.calls]
        if not self._room_queue:
            return []
        for record in idle:
            self.absorb_hits(record)
        return sorted(idle, key=lambda record: record.last_used_at)

    def _refuse_short_limits(self, opening: Opening) -> None:
        """In a back-off, answer at once those whose limit ends before it."""
        backoff = self._backoffs.get(opening.record.transport_id)
        if opening.gate is not Gate.BACKOFF or backoff is None or backoff.retry_at is None:
            return
        now = self.clock.monotonic()
        for ticket in list(opening.requests):
            if ticket.deadline < backoff.retry_at:
                self._forget_request(ticket)
                retry_after_s = max(0.0, backoff.retry_at - now)
                error = SessionOpenError(
                    f"session {ticket.key} is not opened: its transport failed {backoff.failures} times in a row;"
                    f" the next attempt is allowed in {retry_after_s:.2f} s",
                    category=OpenFailure.BACKOFF,
                    retry_after_s=retry_after_s,
                    key=ticket.key,
                    phase=Phase.QUEUE,
                    waited_s=now - ticket.asked_at,
                    limit_s=ticket.limit_s,
                )
                error.__cause__ = self.tally(ticket.key.transport_id).last_failure
                self._answer(ticket, Outcome.REFUSED, error=error)
        if not opening.requests:
            self._drop(opening, Outcome.REFUSED)

    # -- openings ---------------------------------------------------------------------------

    def authorizing(self, opening: Opening) -> None:
        """An opening waits for a person: its permit goes to the next one for good."""
        self._release_permit(opening)

    def opened(self, opening: Opening, connection: Any) -> None:
        """An opening succeeded."""
        record = opening.record
        if opening.gate is not Gate.SERVER:
            return  # Too late: it was given up meanwhile; the shell ends its owner.
        now = self.clock.monotonic()
        record.connection = connection
        record.opened_at = record.last_used_at = now
        lifetime = self.settings.max_lifetime_s
        record.expires_at = now + lifetime * self._rng.uniform(0.9, 1.0) if lifetime is not None else None
        self._move(record, "opened")
        if not self.closed:
            self.warm[record.key] = record.handle
        self._end_opening(opening, Outcome.OK, now)
        for ticket in list(opening.requests):
            self._forget_request(ticket)
            created = ticket.id == opening.first_request_id
            self._answer(ticket, Outcome.CREATED if created else Outcome.JOINED, value=record)
        for released in self._backoffs[record.transport_id].succeeded():
            self._pass_gates(released)
        if self._room_queue:
            self._make_room()

    def open_failed(
        self,
        opening: Opening,
        outcome: Outcome,
        make_error: Callable[[RequestTicket], BaseException],
        *,
        cause: BaseException | None = None,
        category: OpenFailure | None = None,
    ) -> None:
        """An opening failed (`error`), passed its limit (`timeout`), or was ended by us (`cancelled`).

        Args:
            make_error: Makes the error of one request.
            cause: What went wrong.
        """
        if opening.gate is not Gate.SERVER:
            return
        now = self.clock.monotonic()
        record = opening.record
        self._move(record, "open_failed", error=cause)
        self._vacate(record)
        self._effects.append(Abort(opening))
        tickets = list(opening.requests)
        errors = [make_error(ticket) for ticket in tickets]
        self._end_opening(opening, outcome, now, category=category, error=cause)
        for ticket, error in zip(tickets, errors, strict=True):
            self._forget_request(ticket)
            self._answer(ticket, outcome, error=error)
        if outcome is not Outcome.CANCELLED:
            self.tally(record.transport_id).last_failure = cause
            self._failed(record.transport_id, opening.granted_at or now)
        elif (backoff := self._backoffs.get(record.transport_id)) is not None:
            self._go_on(backoff.left(opening))
        self._make_room()

    def _drop(self, opening: Opening, outcome: Outcome) -> None:
        """Forget an opening that nobody waits for and that has not reached its server."""
        record = opening.record
        gate = opening.gate
        self._room_queue.pop(opening, None)
        if gate is Gate.LOCK and opening.acquisition is not None:
            self.permits.abandon(opening.acquisition, outcome)
            opening.acquisition = None
        if opening.announced:
            self._move(record, "dropped")
            self._vacate(record)
            record.generation -= 1
        self._end_opening(
            opening, Outcome.CANCELLED if outcome is Outcome.TIMEOUT else outcome, self.clock.monotonic()
        )
        if (backoff := self._backoffs.get(record.transport_id)) is not None:
            self._go_on(backoff.left(opening))
        if opening.announced:
            self._make_room()

    def _end_opening(
        self,
        opening: Opening,
        outcome: Outcome,
        now: float,
        *,
        category: OpenFailure | None = None,
        error: BaseException | None = None,
    ) -> None:
        phase = opening.phase
        self._release_permit(opening)
        opening.gate = Gate.DONE
        opening.record.opening = None
        del self.openings[opening]
        with self.graph.lock:
            self.graph.unhold(("opening", opening.id), ("opening", opening.id))
        if not opening.announced:
            return
        granted_at = opening.granted_at
        self.tally(opening.record.transport_id).counts[f"openings_{outcome}"] += 1
        self._effects.append(
            Say(
                OpeningEnded(
                    at=self.clock.time(),
                    key=opening.record.key,
                    transport_kind=opening.transport.kind,
                    opening_id=opening.id,
                    generation=opening.generation,
                    outcome=outcome,
                    waited_s=(granted_at or now) - opening.started_at,
                    duration_s=now - granted_at if granted_at is not None else 0.0,
                    phase=phase,
                    category=category,
                    error=error,
                )
            )
        )

    def _release_permit(self, opening: Opening) -> None:
        acquisition, opening.acquisition = opening.acquisition, None
        if acquisition is None or acquisition.granted_at is None:
            return
        following = self.permits.release(acquisition)
        if isinstance(following, Opening):
            self._connect(following)

    def _forget_request(self, ticket: RequestTicket) -> None:
        opening = ticket.opening
        assert opening is not None
        del opening.requests[ticket]
        with self.graph.lock:
            self.graph.unwait(ticket.party_id, ("opening", opening.id))

    def _failed(self, transport_id: str, began_at: float) -> None:
        backoff = self._backoffs.setdefault(transport_id, Backoff(self.settings, self._rng))
        now = self.clock.monotonic()
        self._go_on(backoff.failed(now, began_at))
        for opening in list(backoff.queue):
            self._refuse_short_limits(opening)

    def _go_on(self, opening: Opening | None) -> None:
        if opening is not None:
            opening.gate = Gate.ROOM
            self._pass_gates(opening)

    # -- life -------------------------------------------------------------------------------

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
        if record.state is SessionState.READY:
            self.warm.pop(record.key, None)
            self.absorb_hits(record)
            age_s = now - record.opened_at
            self._move(record, "lost", error=cause)
            self._vacate(record)
            self.tally(record.transport_id).counts["lost"] += 1
            if age_s < STABLE_AFTER_S:
                self.tally(record.transport_id).last_failure = cause
                self._failed(record.transport_id, record.opened_at)
            elif (backoff := self._backoffs.get(record.transport_id)) is not None:
                backoff.stable()
        if calls_go_on and record.calls and record.connection is not None:
            self._retiring[record.connection] = set(record.calls)
            record.calls.clear()
            record.connection = None
            self._make_room()
            return
        self._disconnect(record)
        self._fail_calls(
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
        self._make_room()

    def drain(self, record: Record, *, close_timeout_s: float | None = None) -> None:
        """Let a READY session end when its calls have ended; idle and lifetime drains end in COLD."""
        self.warm.pop(record.key, None)
        self.absorb_hits(record)
        limit_s = self.settings.close_timeout_s if close_timeout_s is None else close_timeout_s
        record.drain_deadline = self.clock.monotonic() + limit_s
        self._move(record, "drain")
        if not record.calls:
            self._disconnect(record)

    def drained(self, record: Record, generation: int) -> None:
        """The connection of a DRAINING session has ended."""
        if record.generation != generation or record.state is not SessionState.DRAINING:
            return
        self._fail_calls(record, partial(drain_error, record, now=self.clock.monotonic()), None)
        if record.closing:
            self._finish_closing(record)
        else:
            self._move(record, "drained")
            self._vacate(record)
        self._after_drain(record.key)

    def close_session(self, ticket: CloseTicket) -> None:
        """Somebody closes a session: it drains, its handle ends, its key is free for a new one."""
        record = self.known.get(ticket.key)
        leaving = self.leaving.get(ticket.key)
        if record is None and leaving is None:
            self._answer(ticket, Outcome.OK)
            return
        if record is None or record.state is SessionState.CLOSED:
            if leaving is None:
                self._answer(ticket, Outcome.OK)
            else:
                leaving.closers.append(ticket)
            return
        record.closers.append(ticket)
        self._close_record(record, max(0.0, ticket.deadline - self.clock.monotonic()))

    def close(self, close_timeout_s: float) -> None:
        """The manager closes: no new requests, every session ends."""
        self.closed = True
        self.warm.clear()
        for opening in list(self.openings):
            self.abandon_opening(opening, lambda t: PortalClosedError("the manager was closed", key=t.key))
        for record in [*self.active.values(), *self.known.values()]:
            self._close_record(record, close_timeout_s)

    def _close_record(self, record: Record, close_timeout_s: float) -> None:
        if record.state is SessionState.CLOSED or record.closing:
            return
        if record.opening is not None:
            self.abandon_opening(
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

    def _detach(self, record: Record) -> None:
        """Free the key for a new handle, which waits for this one's end."""
        self.known.pop(record.key, None)
        self.leaving[record.key] = record

    def _finish_closing(self, record: Record) -> None:
        self._move(record, "close")
        self._vacate(record)
        if self.known.get(record.key) is record:
            del self.known[record.key]
        if self.leaving.get(record.key) is record:
            del self.leaving[record.key]
        for closer in record.closers:
            self._answer(closer, Outcome.OK)
        record.closers.clear()

    def _after_drain(self, key: SessionKey) -> None:
        record = self.known.get(key)
        if record is not None and record.opening is not None and record.opening.gate is Gate.DRAIN:
            self._pass_gates(record.opening)
        self._make_room()

    def abandon_opening(self, opening: Opening, make_error: Callable[[RequestTicket], BaseException]) -> None:
        """End an opening by our own wish, at whichever gate it is."""
        if opening.gate is Gate.SERVER:
            self.open_failed(opening, Outcome.CANCELLED, make_error)
            return
        for ticket in list(opening.requests):
            self._forget_request(ticket)
            self._answer(ticket, Outcome.REFUSED, error=make_error(ticket))
        if opening.gate is not Gate.DONE:
            self._drop(opening, Outcome.CANCELLED)

    def _disconnect(self, record: Record) -> None:
        connection, record.connection = record.connection, None
        if connection is not None:
            self._effects.append(Disconnect(connection))

    def _vacate(self, record: Record) -> None:
        """Give a session's room back."""
        if record.state not in _SLOT_STATES and self.active.get(record.key) is record:
            del self.active[record.key]

    # -- calls ------------------------------------------------------------------------------

    def begin_call(self, call: CallTicket, record: Record) -> bool:
        """Put a call on a READY session; returns False when the session is not ready any more.

        The call may be sent when its `acquisition` is None or granted; else a `Grant` follows.
        """
        if record.state is not SessionState.READY:
            return False
        call.generation = record.generation
        record.calls[call] = None
        record.last_used_at = self.clock.monotonic()
        if call.acquisition is None:
            call.acquisition = self.permits.acquire_call(call)
        return True

    def call_cycle(self, call: CallTicket) -> BaseException | None:
        """Return the error of a call whose wait for its lock closes a circle of waits."""
        if call.acquisition is None or call.acquisition.granted_at is not None:
            return None
        cycle = self.permits.cycle(call.acquisition)
        return deadlock_error(self, call, None, cycle) if cycle is not None else None

    def end_call(self, call: CallTicket, record: Record, outcome: Outcome) -> None:
        """A call has left its session, whether it was sent or not."""
        record.calls.pop(call, None)
        self.release_call(call, outcome)
        for connection, calls in list(self._retiring.items()):
            calls.discard(call)
            if not calls:
                del self._retiring[connection]
                self._effects.append(Disconnect(connection))
        record.last_used_at = self.clock.monotonic()
        if not record.calls:
            if record.state is SessionState.DRAINING:
                self._disconnect(record)
            elif self._room_queue:
                self._make_room()

    def release_call(self, call: CallTicket, outcome: Outcome) -> None:
        """Give a call's permit back, or stop waiting for one."""
        acquisition, call.acquisition = call.acquisition, None
        if acquisition is None:
            return
        if acquisition.granted_at is None:
            self.permits.abandon(acquisition, outcome)
            return
        following = self.permits.release(acquisition)
        if isinstance(following, CallTicket):
            self._effects.append(Grant(following))

    def _fail_calls(
        self, record: Record, make_error: Callable[[CallTicket], BaseException], cause: BaseException | None
    ) -> None:
        """End the calls that were sent; those that wait for a permit go on with the next generation."""
        for call in list(record.calls):
            del record.calls[call]
            if call.acquisition is not None and call.acquisition.granted_at is None:
                continue
            error = make_error(call)
            error.__cause__ = cause
            self.release_call(call, Outcome.ERROR)
            self._effects.append(Fail(call, error))

    # -- time -------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due: pauses that end, idle and old sessions, drains that take too long."""
        now = self.clock.monotonic()
        for transport_id, backoff in list(self._backoffs.items()):
            self._go_on(backoff.pause_over(now))
            if backoff.idle:
                del self._backoffs[transport_id]
        for record in [*self.active.values(), *self.leaving.values()]:
            if record.state is SessionState.READY and not record.calls:
                self.absorb_hits(record)
                idle = now - record.last_used_at >= self.settings.idle_timeout_s
                old = record.expires_at is not None and now >= record.expires_at
                if idle or old:
                    self.drain(record)
            elif record.state is SessionState.DRAINING and record.calls and now >= record.drain_deadline:
                self._fail_calls(record, partial(drain_error, record, now=now), None)
                self._disconnect(record)

    def next_pause_end(self) -> float | None:
        """Return when the next back-off ends, in monotonic seconds; None when none is on."""
        return min((b.retry_at for b in self._backoffs.values() if b.retry_at is not None), default=None)

    def retry_at(self, transport_id: str) -> float | None:
        """Return when a transport's back-off ends, in monotonic seconds; None when it has none."""
        backoff = self._backoffs.get(transport_id)
        return backoff.retry_at if backoff is not None else None

    def absorb_hits(self, record: Record) -> None:
        """Move a session's warm hits into its transport's counters; a hit counts as use."""
        hits = record.hits.read()
        if hits != record.hits_seen:
            self.tally(record.transport_id).warm_hits += hits - record.hits_seen
            record.hits_seen = hits
            record.last_used_at = self.clock.monotonic()

    # -- helpers ----------------------------------------------------------------------------

    def _move(self, record: Record, move: str, *, error: BaseException | None = None) -> None:
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

    def _answer(
        self, ticket: Ticket, outcome: Outcome, *, value: Any = None, error: BaseException | None = None
    ) -> None:
        if isinstance(ticket, RequestTicket):
            ticket.ended_phase = ticket.phase
        if ticket.claim():
            if isinstance(ticket, RequestTicket):
                self.tally(ticket.key.transport_id).counts[f"requests_{outcome}"] += 1
            self._effects.append(Answer(ticket, outcome, value, error))
