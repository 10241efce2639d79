"""The owner task of one connection, and the server behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from instrumented_sessions.errors import SessionOpenError
from instrumented_sessions.manager.errors import opening_timeout_error
from instrumented_sessions.manager.records import Gate, Opening, RequestTicket
from instrumented_sessions.vocabulary import OpenFailure, Outcome, Phase, SessionState

from .actors import InnerRequester
from .choice import Choice

if TYPE_CHECKING:
    from .world import World


class Owner:
    """Mirrors `manager.connection.Connection` and what the shell does with its reports."""

    thread_id, thread_name = 1, "portal"

    def __init__(self, world: World, opening: Opening) -> None:
        self.name: str
        self._world = world
        self.opening = opening
        self.record = opening.record
        self.generation = opening.generation
        name = f"{opening.record.key}#{opening.generation}"
        # A key's next handle counts from 1 again.
        self.name = name + "'" * sum(owner.name.rstrip("'") == name for owner in world.owners)
        self.open = False
        """Whether it has its client."""
        self.leaving = self.aborted = self.ended = False
        self._told_loss = False
        self.phase = Phase.CONNECT
        self._limit_at = world.clock.monotonic() + world.settings.open_timeout_s
        opening.connection = self
        opening.server_phase = lambda: self.phase
        inner = world.scenario.inner.get(str(opening.record.key))
        self._inner = InnerRequester(world, f"{self.name}'s work", inner, opening) if inner else None

    def stack(self) -> tuple[str, ...]:
        return ()

    def instants(self) -> list[float]:
        inner = self._inner.instants() if self._inner is not None and not self.ended else []
        return inner if self.open or self.aborted else [self._limit_at, *inner]

    # -- what the pool wants ----------------------------------------------------------------------

    def leave(self) -> None:
        if not self.ended:
            self.leaving = True

    def abort(self) -> None:
        if not self.ended:
            self.leaving = self.aborted = True

    # -- what may happen --------------------------------------------------------------------------

    def choices(self) -> Iterator[Choice]:
        left = self._world.left
        if self.ended:
            return
        if self.leaving:
            yield Choice(f"{self.name} ends", self._end)
            if self.aborted and not self.open:
                yield Choice(f"{self.name} connects too late", self._connect, due=False)
        elif self.open:
            if left["losses"]:
                yield Choice(f"{self.name} dies", self._die, due=False)
                if not self._told_loss:
                    yield Choice(f"{self.name} is lost", self._lose, due=False)
        elif self._inner is not None and not self._inner.done:
            yield from self._inner.choices()
            yield from self._limit()
        else:
            yield Choice(f"{self.name} connects", self._connect)
            if left["fails"]:
                yield Choice(f"{self.name} fails", self._fail, due=False)
            if left["authorizes"] and self.phase is Phase.CONNECT:
                yield Choice(f"{self.name} asks a person", self._authorize, due=False)
            yield from self._limit()

    def _limit(self) -> Iterator[Choice]:
        if self._world.clock.monotonic() >= self._limit_at:
            yield Choice(f"{self.name} passes its limit", self._time_out)

    def _connect(self) -> None:
        self.open = True
        self._world.decide(self._world.pool.flights.opened, self.opening, self)

    def _authorize(self) -> None:
        self._world.spend("authorizes")
        self.phase = Phase.AUTHORIZE
        self._limit_at = self._world.clock.monotonic() + self._world.settings.authorize_timeout_s
        self._world.decide(self._world.pool.flights.authorizing, self.opening)

    def _fail(self) -> None:
        self._world.spend("fails")
        self._end()

    def _lose(self) -> None:
        """The transport notices; the task ends later."""
        self._world.spend("losses")
        self._told_loss = True
        cause = ConnectionResetError(self.name)
        self._world.decide(self._world.pool.lost, self.record, self.generation, cause)

    def _die(self) -> None:
        """The task ends by itself."""
        self._world.spend("losses")
        self._end()

    def _end(self) -> None:
        self.ended = True
        pool = self._world.pool
        if self._inner is not None:
            self._inner.cancel()
        if not self.open:
            self._world.decide(self._opening_ended)
        elif self.record.state is SessionState.READY:
            cause = ConnectionResetError(self.name)
            self._world.decide(pool.lost, self.record, self.generation, cause)
        else:
            self._world.decide(pool.drained, self.record, self.generation)

    def _opening_ended(self) -> None:
        def make_error(ticket: RequestTicket) -> BaseException:
            return SessionOpenError(self.name, category=OpenFailure.UNREACHABLE, key=ticket.key)

        cause = ConnectionRefusedError(self.name)
        self._world.pool.flights.open_failed(
            self.opening, Outcome.ERROR, make_error, cause=cause, category=OpenFailure.UNREACHABLE
        )

    def _time_out(self) -> None:
        pool = self._world.pool
        assert self.opening.gate is Gate.SERVER

        def make_error(ticket: RequestTicket) -> BaseException:
            return opening_timeout_error(pool, ticket, self.opening, 1.0, self.phase, None)

        def fail(*_: Any) -> None:
            cause = TimeoutError(self.name)
            pool.flights.open_failed(self.opening, Outcome.TIMEOUT, make_error, cause=cause)

        self._world.decide(fail)
