"""The shell around the pool: carries out what it decides, on the portal's thread."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ..chain import BlockingChain
from ..clock import Clock
from ..errors import SessionOpenError, SessionTimeoutError
from ..events import Event, SessionAcquired, SessionRequested
from ..observer import AMBIENT, Announcer
from ..session import Session
from ..settings import Settings
from ..vocabulary import Outcome
from .calldesk import DEAD_CALLER_GRACE_S, CallDesk
from .chains import chain_of
from .effects import Abort, Answer, Connect, Disconnect, Effect, Fail, Grant, Say
from .errors import timeout_error
from .openings import Openings
from .pool import Pool
from .portal_stall import PortalStall
from .records import CloseTicket, Record, RequestTicket, Ticket
from .statistics import ManagerStatistics, statistics_of

_SNAPSHOT_REUSE = 10
"""How many times as old as it cost a snapshot may be that is shown in an error."""
_SWEEP_MIN_S, _SWEEP_MAX_S = 0.02, 5.0
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
        self.openings = Openings(self)
        self.calls = CallDesk(self)
        self.tickets: dict[Ticket, None] = {}
        """Everybody who waits, also those the pool has not heard of yet; from any thread."""
        self._closers: list[CloseTicket] = []
        self._pause_timer: asyncio.TimerHandle | None = None
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
        error = self._timeout_error(ticket)
        assert error.phase is not None
        ticket.ended_phase = error.phase
        ticket.settle(Outcome.TIMEOUT, error=error)
        return True

    def give_up(self, ticket: Ticket) -> SessionTimeoutError:
        """Return the error of a ticket whose answer was decided, and is kept from its caller for too long."""
        ticket.given_up = self._timeout_error(ticket)
        return ticket.given_up

    def _timeout_error(self, ticket: Ticket) -> SessionTimeoutError:
        with self.pool.mutex:
            chain = chain_of(self.pool, ticket)
            return timeout_error(ticket, self.snapshot_of_an_error(), chain)

    def snapshot_of_an_error(self) -> ManagerStatistics:
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
            self.openings.connect(effect.opening)
        elif isinstance(effect, Abort):
            self.openings.abort(effect.opening)
        elif isinstance(effect, Disconnect):
            effect.connection.leave(self.settings.close_timeout_s)
        elif isinstance(effect, Grant):
            if effect.call.granted is not None and not effect.call.granted.done():
                effect.call.granted.set_result(None)
        elif isinstance(effect, Fail):
            self.calls.fail(effect.call, effect.error)

    # -- requests -------------------------------------------------------------------------------

    def request(self, ticket: RequestTicket) -> None:
        """Take a request."""
        self.decide(self.pool.flights.request, ticket)

    def leave(self, ticket: RequestTicket) -> None:
        """A caller has stopped waiting."""
        assert ticket.outcome is not None
        self.decide(self.pool.flights.leave, ticket, ticket.outcome)

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
        outcome, phase, error = ticket.outcome or Outcome.CANCELLED, ticket.ended_phase, ticket.error
        if ticket.given_up is not None:
            outcome, phase, error = Outcome.TIMEOUT, ticket.given_up.phase or phase, ticket.given_up
        self.announce(
            SessionAcquired(
                at=self.clock.time(),
                key=ticket.key,
                transport_kind=ticket.transport.kind,
                request_id=ticket.id,
                outcome=outcome,
                waited_s=self.clock.monotonic() - ticket.asked_at,
                opening_id=ticket.opening.id if ticket.opening is not None else None,
                phase=phase,
                error=error,
            )
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
        self.check_closed()

    def _force_close(self) -> None:
        self.openings.abort_all()
        self.calls.cut_all()
        asyncio.get_running_loop().call_later(_FORCE_AFTER_S, self.check_closed, True)

    def check_closed(self, force: bool = False) -> None:
        """Answer who closes everything when nothing is left, or at once with `force`."""
        if not self.pool.closed or ((self.openings.alive or self.pool.calls) and not force):
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
                self.calls.finish_call(effect.call, Outcome.ERROR, error=effect.error)
        self.openings.alive.clear()
        self.check_closed(force=True)

    def portal_ended(self, portal: Any) -> None:
        """The loop is closed: refuse what was sent to it and not heard any more."""
        for ticket in list(self.tickets):
            if ticket.portal is portal:
                self.calls.refuse(ticket)

    # -- helpers --------------------------------------------------------------------------------

    def scope(self, event: Event) -> AbstractContextManager[object]:
        """Return the observers' scope of what `event` began."""
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
        latest = self.clock.monotonic() - DEAD_CALLER_GRACE_S
        for ticket in list(self.tickets):
            if ticket.deadline < latest and self.time_out(ticket) and isinstance(ticket, RequestTicket):
                self.leave(ticket)
        shortest = min(self.settings.idle_timeout_s, self.settings.max_lifetime_s or float("inf"))
        pause_s = min(_SWEEP_MAX_S, max(_SWEEP_MIN_S, shortest / 10))
        asyncio.get_running_loop().call_later(pause_s, self._sweep)
