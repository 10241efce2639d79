"""The shell around the pool: carries out what it decides, on the portal's thread."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ..chain import BlockingChain
from ..clock import Clock
from ..errors import PortalClosedError, SessionError, SessionOpenError
from ..events import CallEnded, CallStarted, Event, OpeningStarted, SessionAcquired, SessionRequested
from ..observer import AMBIENT, Announcer
from ..parking import AsyncioParker
from ..session import CallWork, Session
from ..settings import Settings
from ..transports.failures import classify_opening, unwrap
from ..vocabulary import Outcome, Phase, SessionState
from .calls import perform
from .chains import chain_of
from .connection import Connection
from .effects import Abort, Answer, Connect, Disconnect, Effect, Fail, Grant, Say
from .errors import drain_error, opening_timeout_error, timeout_error
from .pool import Pool
from .portal_stall import PortalStall
from .records import CallTicket, CloseTicket, Gate, Opening, Record, RequestTicket, Ticket
from .statistics import ManagerStatistics, statistics_of

_SNAPSHOT_REUSE = 10
"""How many times as old as it cost a snapshot may be that is shown in an error."""
_SWEEP_MIN_S, _SWEEP_MAX_S = 0.02, 5.0
_DEAD_CALLER_GRACE_S = 1.0
"""How long after its limit a ticket is ended for a caller whose loop does not run any more."""
_FORCE_AFTER_S = 2.0
"""How long cancelled owners may take when the manager closes by force."""


class Shell:
    """Carries out effects; all methods run on the portal's thread unless they say otherwise."""

    def __init__(
        self, settings: Settings, clock: Clock, observers: Announcer, make_handle: Callable[[Record], Session]
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.observers = observers
        self.pool = Pool(settings, clock, make_handle=make_handle)
        self.portal_stall = PortalStall(clock)
        self.pool.portal_stall = self.portal_stall.link
        self.tickets: dict[Ticket, None] = {}
        """Everybody who waits, also those the pool has not heard of yet; from any thread."""
        self._connections: set[Connection] = set()
        self._closers: list[CloseTicket] = []
        self._pause_timer: asyncio.TimerHandle | None = None
        self._opening_timers: dict[Opening, asyncio.TimerHandle] = {}
        self._drain_timers: dict[Ticket, asyncio.TimerHandle] = {}
        self._snapshot: tuple[ManagerStatistics | None, float, float] = (None, 0.0, 0.0)

    # -- from any thread ----------------------------------------------------------------------

    def announce(self, event: Event) -> None:
        """Tell all observers; in the thread and context of the fact."""
        self.observers.announce(event)
        AMBIENT.announce(event)

    def statistics(self) -> ManagerStatistics:
        """Return a snapshot."""
        with self.pool.mutex:
            return statistics_of(self.pool, list(self.tickets))

    def chain(self, ticket: Ticket) -> BlockingChain:
        """Return why `ticket` waits."""
        with self.pool.mutex:
            return chain_of(self.pool, ticket)

    def time_out(self, ticket: Ticket) -> bool:
        """End a ticket whose limit has passed; returns False when it was answered meanwhile."""
        if not ticket.claim():
            return False
        with self.pool.mutex:
            chain = chain_of(self.pool, ticket)
            snapshot = self._snapshot_of_an_error()
            error = timeout_error(ticket, snapshot, chain)
        ticket.ended_phase = chain.phase
        ticket.settle(Outcome.TIMEOUT, error=error)
        return True

    def _snapshot_of_an_error(self) -> ManagerStatistics:
        """Return a snapshot that is at most some times as old as it cost; `pool.mutex` must be held.

        With very many sessions it takes milliseconds, during which the portal waits, and when a
        transport hangs, very many limits pass at once.
        """
        snapshot, taken_at, cost_s = self._snapshot
        now = self.clock.monotonic()
        if snapshot is None or now - taken_at > _SNAPSHOT_REUSE * cost_s:
            snapshot = statistics_of(self.pool, list(self.tickets))
            self._snapshot = snapshot, now, self.clock.monotonic() - now
        return snapshot

    # -- decisions ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the sweeps; the first thing that runs on the loop."""
        self._sweep()

    def decide(self, method: Callable[..., Any], *args: Any) -> Any:
        """Let the pool decide, then carry out what follows."""
        with self.pool.mutex:
            result = method(*args)
            effects = self.pool.take()
        for effect in effects:
            self._carry_out(effect)
        self._arm_pause_timer()
        return result

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Say):
            self.announce(effect.event)
        elif isinstance(effect, Answer):
            timer = self._drain_timers.pop(effect.ticket, None)
            if timer is not None:
                timer.cancel()
            effect.ticket.settle(effect.outcome, value=effect.value, error=effect.error)
        elif isinstance(effect, Connect):
            self._connect(effect.opening)
        elif isinstance(effect, Abort):
            self._disarm(effect.opening)
            if effect.opening.connection is not None:
                effect.opening.connection.abort()
        elif isinstance(effect, Disconnect):
            effect.connection.leave(self.settings.close_timeout_s)
        elif isinstance(effect, Grant):
            if effect.call.granted is not None and not effect.call.granted.done():
                effect.call.granted.set_result(None)
        elif isinstance(effect, Fail):
            self.finish_call(effect.call, Outcome.ERROR, error=effect.error)
            self._cancel_call(effect.call)

    # -- requests -------------------------------------------------------------------------------

    def request(self, ticket: RequestTicket) -> None:
        """Take a request."""
        self.decide(self.pool.flights.request, ticket)

    def leave(self, ticket: RequestTicket) -> None:
        """A caller has stopped waiting."""
        assert ticket.outcome is not None
        self.decide(self.pool.flights.leave, ticket, ticket.outcome)

    async def ready(self, call: CallTicket) -> Record:
        """Wait for the session that `call` needs, in its task."""
        parker = AsyncioParker(asyncio.get_running_loop())
        now = self.clock.monotonic()
        ticket = RequestTicket(
            call.transport,
            call.key.conversation,
            parker.wake,
            call.caller,
            now,
            max(0.0, call.deadline - now),
        )
        ticket.party_id, ticket.stack, ticket.inside = call.party_id, call.stack, call.inside
        ticket.call = call
        call.request = ticket
        self.announce_requested(ticket)
        try:
            self.request(ticket)
            # The call's own limit ends this wait by cancelling its task.
            await parker.apark(max(0.0, call.deadline - now) + _DEAD_CALLER_GRACE_S)
        finally:
            if ticket.claim():
                ticket.ended_phase = ticket.phase
                ticket.outcome = call.outcome or Outcome.CANCELLED
                self.leave(ticket)
            call.request = None
            self.announce_acquired(ticket)
        if ticket.error is not None:
            error = ticket.error
            error.request_outcome = ticket.outcome  # type: ignore[attr-defined]  # Read by calls._outcome.
            raise error
        record: Record = ticket.value
        return record

    def announce_requested(self, ticket: RequestTicket) -> None:
        """Say that somebody waits for a session; in the caller's context, from any thread."""
        self.announce(
            SessionRequested(
                at=self.clock.time(),
                key=ticket.key,
                transport_kind=ticket.transport.kind,
                request_id=ticket.id,
                caller=ticket.caller,
                limit_s=ticket.limit_s,
                call_id=ticket.call.id if ticket.call is not None else None,
            )
        )

    def announce_acquired(self, ticket: RequestTicket) -> None:
        """Say how a request ended; in the caller's context, from any thread."""
        self.announce(
            SessionAcquired(
                at=self.clock.time(),
                key=ticket.key,
                transport_kind=ticket.transport.kind,
                request_id=ticket.id,
                outcome=ticket.outcome or Outcome.CANCELLED,
                waited_s=self.clock.monotonic() - ticket.asked_at,
                opening_id=ticket.opening.id if ticket.opening is not None else None,
                phase=ticket.ended_phase,
                error=ticket.error,
            )
        )

    # -- openings -------------------------------------------------------------------------------

    def _connect(self, opening: Opening) -> None:
        connection = Connection(opening, self)
        opening.connection = connection
        self._connections.add(connection)
        self._arm(opening, self.settings.open_timeout_s)

    def _arm(self, opening: Opening, limit_s: float) -> None:
        self._disarm(opening)
        loop = asyncio.get_running_loop()
        # In an empty context, as in `Connection`.
        self._opening_timers[opening] = loop.call_later(
            limit_s, self._opening_timed_out, opening, limit_s, context=contextvars.Context()
        )

    def _disarm(self, opening: Opening) -> None:
        timer = self._opening_timers.pop(opening, None)
        if timer is not None:
            timer.cancel()

    def _opening_timed_out(self, opening: Opening, limit_s: float) -> None:
        self._opening_timers.pop(opening, None)
        if opening.gate is not Gate.SERVER:
            return
        with self.pool.mutex:
            snapshot = self._snapshot_of_an_error()
        phase = opening.phase
        cause = TimeoutError(f"{opening.name} passed its limit of {limit_s:g} s in phase {phase}")

        def make_error(ticket: RequestTicket) -> BaseException:
            error = opening_timeout_error(self.pool, ticket, opening, limit_s, phase, snapshot)
            error.__cause__ = cause
            return error

        def fail() -> None:
            self.pool.flights.open_failed(opening, Outcome.TIMEOUT, make_error, cause=cause)

        self.decide(fail)

    def opening_scope(self, opening: Opening) -> AbstractContextManager[object]:
        """Return the observers' scope of an opening."""
        return self._scope(
            OpeningStarted(
                at=self.clock.time(),
                key=opening.record.key,
                transport_kind=opening.transport.kind,
                opening_id=opening.id,
                generation=opening.generation,
                request_id=opening.first_request_id,
            )
        )

    def opening_phase(self, opening: Opening, phase: Phase) -> None:
        """A transport says where its opening is."""
        if phase is Phase.AUTHORIZE and opening.gate is Gate.SERVER:
            self._arm(opening, self.settings.authorize_timeout_s)
            self.decide(self.pool.flights.authorizing, opening)

    def connected(self, connection: Connection) -> None:
        """An owner task has its client."""
        self._disarm(connection.opening)
        self.decide(self.pool.flights.opened, connection.opening, connection)

    def connection_lost(self, connection: Connection, cause: BaseException | None) -> None:
        """A transport noticed its end; the owner task has not."""
        if connection.adapter is not None:
            self.decide(self.pool.lost, connection.record, connection.generation, cause)

    def connection_ended(self, connection: Connection, cause: BaseException | None) -> None:
        """An owner task has ended: before it was open, by our wish, or by itself."""
        self._connections.discard(connection)
        opening = connection.opening
        self._disarm(opening)
        if connection.adapter is None:
            self._opening_ended(opening, cause)
        elif connection.record.state is SessionState.READY:
            self.decide(self.pool.lost, connection.record, connection.generation, cause)
        else:
            self.decide(self.pool.drained, connection.record, connection.generation)
        self._check_closed()

    def _opening_ended(self, opening: Opening, cause: BaseException | None) -> None:
        leaf = unwrap(cause) if cause is not None else None
        category, text = classify_opening(cause or RuntimeError("the transport ended without a client"))

        def make_error(ticket: RequestTicket) -> BaseException:
            now = self.clock.monotonic()
            retry_at = self.pool.gates.retry_at(ticket.key.transport_id)
            error = SessionOpenError(
                f"session {ticket.key} could not be opened ({category}): {text}",
                category=category,
                retry_after_s=max(0.0, retry_at - now) if retry_at is not None else None,
                key=ticket.key,
                phase=opening.server_phase(),
                waited_s=now - ticket.asked_at,
                limit_s=ticket.limit_s,
            )
            error.__cause__ = leaf
            return error

        def fail() -> None:
            self.pool.flights.open_failed(opening, Outcome.ERROR, make_error, cause=leaf, category=category)

        self.decide(fail)

    # -- calls ----------------------------------------------------------------------------------

    def start_call(self, call: CallTicket, work: CallWork, tell_progress: Any) -> None:
        """Begin a call, in a copy of the caller's context."""
        if not call.open:
            return  # It left before it was heard.
        loop = asyncio.get_running_loop()
        self.pool.calls[call] = None
        self.announce(self._call_started(call))
        timer = loop.call_later(max(0.0, call.deadline - self.clock.monotonic()), self._call_timed_out, call)
        call.task = loop.create_task(
            perform(self, call, call.session, work.body, tell_progress), name=f"call {work.method} {call.key}"
        )

        def ended(task: asyncio.Task[None]) -> None:
            timer.cancel()
            if not call.finished:  # Cancelled before its first step.
                self.finish_call(call, Outcome.REFUSED, error=_portal_ended(call))
            self.pool.calls.pop(call, None)
            self._check_closed()

        call.task.add_done_callback(ended)

    def call_scope(self, call: CallTicket) -> AbstractContextManager[object]:
        """Return the observers' scope of a call."""
        return self._scope(self._call_started(call))

    def finish_call(
        self, call: CallTicket, outcome: Outcome, *, value: Any = None, error: BaseException | None = None
    ) -> None:
        """Say that a call has ended, once, and answer its caller."""
        if call.finished:
            return
        call.finished = True
        claimed = call.claim()
        if not claimed and call.outcome is not None:
            outcome, error = call.outcome, call.error
        phase = call.ended_phase if not claimed else call.phase
        if isinstance(error, SessionError) and error.phase is not None:
            phase = error.phase
        with self.pool.mutex:
            self.pool.tally(call.key.transport_id).counts[f"calls_{outcome}"] += 1
        duration_s = self.clock.monotonic() - call.asked_at
        self.announce(
            CallEnded(
                at=self.clock.time(),
                key=call.key,
                transport_kind=call.transport.kind,
                call_id=call.id,
                method=call.method,
                target=call.target,
                outcome=outcome,
                duration_s=duration_s,
                phase=phase,
                error=error,
                slow=call.slow or 0 < self.settings.slow_call_threshold_s < duration_s,
                tool_error=outcome is Outcome.OK and _is_tool_error(call, value),
            )
        )
        if claimed:
            call.settle(outcome, value=value, error=error)

    def left_call(self, call: CallTicket) -> None:
        """A caller has stopped waiting for its call."""
        stuck_in_write = call.outcome is Outcome.TIMEOUT and call.ended_phase is Phase.WRITE
        self.finish_call(call, call.outcome or Outcome.CANCELLED)
        self._cancel_call(call)
        record = getattr(call.session, "_record", None)
        if stuck_in_write and record is not None:
            self.decide(self.pool.lost, record, call.generation, call.error)

    def _call_timed_out(self, call: CallTicket) -> None:
        if self.time_out(call):
            self.left_call(call)

    def _cancel_call(self, call: CallTicket) -> None:
        call.task_cancelled = True
        if call.task is not None:
            call.task.cancel()

    def _call_started(self, call: CallTicket) -> CallStarted:
        return CallStarted(
            at=self.clock.time(),
            key=call.key,
            transport_kind=call.transport.kind,
            call_id=call.id,
            method=call.method,
            target=call.target,
            caller=call.caller,
        )

    # -- closing --------------------------------------------------------------------------------

    def close_session(self, ticket: CloseTicket) -> None:
        """Close one session."""
        self.decide(self.pool.close_session, ticket)
        if ticket.open:
            limit_s = max(0.0, ticket.deadline - self.clock.monotonic())
            loop = asyncio.get_running_loop()
            self._drain_timers[ticket] = loop.call_later(limit_s, self._drain_is_due, ticket)

    def _drain_is_due(self, ticket: CloseTicket) -> None:
        del self._drain_timers[ticket]
        self.decide(self.pool.tick)

    def close(self, ticket: CloseTicket) -> None:
        """Close everything; the ticket is answered when nothing is left, at the latest at its limit."""
        self._closers.append(ticket)
        limit_s = max(0.0, ticket.deadline - self.clock.monotonic())
        self.decide(self.pool.close, limit_s)
        asyncio.get_running_loop().call_later(limit_s, self._force_close)
        self._check_closed()

    def _force_close(self) -> None:
        for connection in list(self._connections):
            connection.abort()
        for call in list(self.pool.calls):
            # Answered before its task is cancelled: its caller was not.
            error = drain_error(call.session._record, call, self.clock.monotonic())
            self.finish_call(call, Outcome.ERROR, error=error)
            self._cancel_call(call)
        asyncio.get_running_loop().call_later(_FORCE_AFTER_S, self._check_closed, True)

    def _check_closed(self, force: bool = False) -> None:
        if not self.pool.closed or ((self._connections or self.pool.calls) and not force):
            return
        for ticket in self._closers:
            if ticket.claim():
                ticket.settle(Outcome.OK)
        self._closers.clear()

    def portal_died(self, reason: BaseException | None) -> None:
        """The loop has ended by itself: everything on it is lost, the next use starts anew."""

        def fail_all() -> None:
            for opening in list(self.pool.openings):
                self.pool.flights.abandon(
                    opening,
                    lambda ticket: SessionOpenError(
                        f"session {ticket.key} could not be opened: the portal's loop ended: {reason!r}",
                        key=ticket.key,
                    ),
                )
            for record in list(self.pool.active.values()):
                self.pool.lost(record, record.generation, reason)
                self.pool.drained(record, record.generation)

        with self.pool.mutex:
            fail_all()
            effects = self.pool.take()
        for effect in effects:
            if isinstance(effect, (Say, Answer)):
                self._carry_out(effect)
            elif isinstance(effect, Fail):
                self.finish_call(effect.call, Outcome.ERROR, error=effect.error)
        self._connections.clear()
        self._check_closed(force=True)

    def portal_ended(self, portal: Any) -> None:
        """The loop is closed: refuse what was sent to it and not heard any more."""
        for ticket in list(self.tickets):
            if ticket.portal is not portal:
                continue
            if isinstance(ticket, CallTicket) and ticket in self.pool.calls:
                self.pool.calls.pop(ticket)
                self.finish_call(ticket, Outcome.REFUSED, error=_portal_ended(ticket))
            elif ticket.claim():
                ticket.settle(Outcome.REFUSED, error=_portal_ended(ticket))

    # -- helpers --------------------------------------------------------------------------------

    def _scope(self, event: Event) -> AbstractContextManager[object]:
        return Announcer.joined(event, self.observers, AMBIENT)

    def _arm_pause_timer(self) -> None:
        due = self.pool.gates.next_pause_end()
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None
        if due is not None:
            loop = asyncio.get_running_loop()
            pause_s = max(0.0, due - self.clock.monotonic())
            self._pause_timer = loop.call_later(
                pause_s, self.decide, self.pool.tick, context=contextvars.Context()
            )

    def _sweep(self) -> None:
        self.decide(self.pool.tick)
        latest = self.clock.monotonic() - _DEAD_CALLER_GRACE_S
        for ticket in list(self.tickets):
            if ticket.deadline < latest and self.time_out(ticket) and isinstance(ticket, RequestTicket):
                self.leave(ticket)
        shortest = min(self.settings.idle_timeout_s, self.settings.max_lifetime_s or float("inf"))
        pause_s = min(_SWEEP_MAX_S, max(_SWEEP_MIN_S, shortest / 10))
        asyncio.get_running_loop().call_later(pause_s, self._sweep)


def _portal_ended(ticket: Ticket) -> PortalClosedError:
    return PortalClosedError("the manager's portal ended before it took this", key=ticket.key)


def _is_tool_error(call: CallTicket, value: Any) -> bool:
    """Return whether a tool's result says that the tool failed; mcp 1.x and 2.x spell it differently."""
    if call.method != "tools/call":
        return False
    return any(getattr(value, name, None) is True for name in ("is_error", "isError"))
