"""A call on a handle, as `manager.calls` makes it: each `await` there begins a new step here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from instrumented_sessions.errors import SessionError
from instrumented_sessions.manager.calls import HEALTH_CHECK_AFTER_IDLE_S
from instrumented_sessions.manager.chains import chain_of
from instrumented_sessions.manager.records import CallTicket, Record, RequestTicket, Ticket
from instrumented_sessions.vocabulary import Outcome, SessionState

from .actors import Actor
from .choice import Choice

if TYPE_CHECKING:
    from .world import World


class Caller(Actor[CallTicket]):
    """Somebody who makes one call."""

    kind = CallTicket

    def __init__(self, world: World, name: str, key: str | None, limit_s: float) -> None:
        super().__init__(world, name, key, limit_s)
        assert key is not None
        self._handle = world.handle(key)
        self._awaits: str | None = None
        """What its task waits for: start, session, permit, check, answer; None: it has none."""
        self._idle_s = 0.0
        """How long its session was idle before."""
        self._runnable = False
        self._cancelled = False
        self._record: Record | None = None
        """Where its call was put."""
        self._request: RequestTicket | None = None

    def choices(self) -> Iterator[Choice]:
        yield from super().choices()
        if self._ticket is not None and self._ticket.open and self._awaits is not None:
            if self.world.clock.monotonic() >= self._ticket.deadline:
                yield Choice(f"{self.name}'s timer rings", self._timer)
        if self._runnable or (self._cancelled and self._awaits is not None):
            yield Choice(f"{self.name} runs", self._run)
        elif self._awaits == "check":
            yield Choice(f"{self.name}'s session is well", self._send)
            if self.world.left["losses"]:
                yield Choice(f"{self.name}'s session is dead", self._dead, due=False)
        elif self._awaits == "answer":
            yield Choice(f"{self.name} is answered", lambda: self._end(Outcome.OK))
            if self.world.left["refusals"]:
                yield Choice(f"{self.name} is refused", self._refused, due=False)
            if self.world.left["losses"]:
                yield Choice(f"{self.name} finds it lost", self._lost, due=False)

    # -- the shell's part -------------------------------------------------------------------------

    def _heard(self) -> None:
        if self.ticket.open:
            self.ticket.task = self
            self.world.pool.calls[self.ticket] = None
            self._awaits, self._runnable = "start", True

    def _left(self) -> None:
        self._finish(Outcome.CANCELLED)
        self.cancel()

    def _timer(self) -> None:
        assert self.ticket.claim()
        chain_of(self.world.pool, self.ticket)
        self.ticket.settle(Outcome.TIMEOUT)
        self._left()

    def granted(self) -> None:
        if self._awaits == "permit":
            self._runnable = True

    def failed(self, error: BaseException) -> None:
        self._finish(Outcome.ERROR, error)
        self.cancel()

    def cancel(self) -> None:
        self._cancelled = True

    def _woken(self, ticket: Ticket) -> None:
        super()._woken(ticket)
        if ticket is self._request and self._awaits == "session":
            self._runnable = True

    def _finish(self, outcome: Outcome, error: BaseException | None = None) -> None:
        if not self.ticket.finished:
            self.ticket.finished = True
            if self.ticket.claim():
                self.ticket.settle(outcome, error=error)

    # -- the task ---------------------------------------------------------------------------------

    def _run(self) -> None:
        self._runnable = False
        if self._cancelled:
            self._unwind()
        elif self._awaits == "start":
            self._begin()
        elif self._awaits == "session":
            self._have_session()
        else:
            self._permitted()

    def _task_ends(self, outcome: Outcome, error: BaseException | None = None) -> None:
        self._awaits = None
        self._finish(outcome, error)
        self.world.pool.calls.pop(self.ticket, None)

    def _begin(self) -> None:
        record = self._handle
        if record.state is SessionState.CLOSED or record.closing:
            self._task_ends(Outcome.ERROR, SessionError("closed"))
        elif record.state is SessionState.READY:
            self._put_on(record)
        else:
            self._want_session()

    def _want_session(self) -> None:
        request = self._request = self.make(RequestTicket, self.ticket.deadline)
        self.world.requests.append(request)
        request.call = self.ticket
        self.ticket.request = request
        self._awaits = "session"
        self.world.decide(self.world.pool.flights.request, request)
        if not request.open:
            self._runnable = False  # The future is done, so the task goes on without a switch.
            self._have_session()

    def _have_session(self) -> None:
        request = self._request
        assert request is not None
        self.ticket.request = None
        if request.error is not None:
            self.world.decide(self.world.pool.callbook.forgo, self.ticket, self._handle)
            self._task_ends(Outcome.ERROR, request.error)
        else:
            self._put_on(request.value)

    def _put_on(self, record: Record) -> None:
        call, pool = self.ticket, self.world.pool
        self._idle_s = self.world.clock.monotonic() - record.last_used_at
        if not self.world.decide(pool.callbook.begin, call, record):
            self._begin()
            return
        self._record, call.sent = record, False
        if call.acquisition is not None and call.acquisition.granted_at is None:
            deadlock = self.world.decide(pool.callbook.deadlock, call)
            if deadlock is not None:
                self._leave_session(Outcome.DEADLOCK)
                self._task_ends(Outcome.DEADLOCK, deadlock)
                return
            self._awaits = "permit"
            return
        self._permitted()

    def _permitted(self) -> None:
        if self._idle_s > HEALTH_CHECK_AFTER_IDLE_S and not self._replaced():
            self._awaits = "check"
        else:
            self._send()

    def _replaced(self) -> bool:
        record = self._record
        assert record is not None
        return self.ticket.generation != record.generation or record.connection is None

    def _send(self) -> None:
        record = self._record
        assert record is not None
        if self._replaced():
            self._leave_session(Outcome.CANCELLED)
            self._begin()
            return
        self.ticket.sent = True
        assert not record.connection.ended, (
            f"{self.name} is sent on {record.connection.name}, which has ended"
        )
        self._awaits = "answer"

    def _leave_session(self, outcome: Outcome) -> None:
        self.world.decide(self.world.pool.callbook.end, self.ticket, self._record, outcome)

    def _end(self, outcome: Outcome, error: BaseException | None = None) -> None:
        self._leave_session(outcome)
        self._task_ends(outcome, error)

    def _lose(self, *, others_go_on: bool) -> None:
        generation = self.ticket.generation
        self._leave_session(Outcome.ERROR)
        cause = ConnectionResetError(self.name)
        self.world.decide(self.world.pool.lost, self._record, generation, cause, others_go_on)

    def _dead(self) -> None:
        self.world.spend("losses")
        self._lose(others_go_on=False)
        self._leave_session(Outcome.CANCELLED)
        self._begin()

    def _refused(self) -> None:
        self.world.spend("refusals")
        self._lose(others_go_on=True)
        if self.ticket.sent_again:
            self._end(Outcome.ERROR, SessionError("refused twice"))
            return
        self.ticket.sent_again = True
        self._leave_session(Outcome.ERROR)
        self._begin()

    def _lost(self) -> None:
        self.world.spend("losses")
        self._lose(others_go_on=False)
        self._end(Outcome.ERROR, SessionError("lost"))

    def _unwind(self) -> None:
        """Its cancellation arrives, wherever it waits."""
        request, outcome = self._request, self.ticket.outcome or Outcome.CANCELLED
        if self._awaits == "session" and request is not None and request.claim():
            request.ended_phase = request.phase
            request.outcome = outcome
            self.world.decide(self.world.pool.flights.leave, request, outcome)
        if self._awaits == "session":
            self.world.decide(self.world.pool.callbook.forgo, self.ticket, self._handle)
        self.ticket.request = None
        if self._awaits in ("permit", "check", "answer"):
            self._leave_session(outcome)
        self._task_ends(Outcome.CANCELLED)
