"""The callers: who asks for a session, makes a call, or closes something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from instrumented_sessions.chain import Party
from instrumented_sessions.manager.chains import chain_of
from instrumented_sessions.manager.records import (
    CloseTicket,
    Opening,
    RequestTicket,
    Ticket,
)
from instrumented_sessions.vocabulary import Outcome

from .choice import Choice

if TYPE_CHECKING:
    from .world import World

TicketT = TypeVar("TicketT", bound=Ticket)
AnyTicketT = TypeVar("AnyTicketT", bound=Ticket)


class Actor(Generic[TicketT]):
    """Somebody with one ticket, who may stop waiting when it pleases them, and does at their limit."""

    kind: type[TicketT]
    may_cancel = True

    def __init__(self, world: World, name: str, key: str | None, limit_s: float) -> None:
        self.world = world
        self.name = name
        self.key = key
        self._limit_s = limit_s
        self._ticket: TicketT | None = None

    @property
    def ticket(self) -> TicketT:
        assert self._ticket is not None
        return self._ticket

    @property
    def asked(self) -> bool:
        return self._ticket is not None

    @property
    def done(self) -> bool:
        """Whether it has its answer, or stopped waiting for one."""
        return self._ticket is not None and self._ticket.outcome is not None

    def instants(self) -> list[float]:
        return [self._ticket.deadline] if self._ticket is not None and self._ticket.open else []

    def choices(self) -> Iterator[Choice]:
        if self._ticket is None:
            yield Choice(f"{self.name} asks", self._ask)
        elif self._ticket.open:
            if self.may_cancel and self.world.left["cancels"]:
                yield Choice(f"{self.name} is cancelled", self._cancel, due=False)
            if self.world.clock.monotonic() >= self._ticket.deadline:
                yield Choice(f"{self.name} passes its limit", lambda: self._give_up(Outcome.TIMEOUT))

    def new_ticket(self) -> TicketT:
        return self.make(self.kind, self.world.clock.monotonic() + self._limit_s)

    def make(self, kind: type[AnyTicketT], deadline: float) -> AnyTicketT:
        """Make a ticket, which is counted when it is settled."""
        now = self.world.clock.monotonic()
        transport_id, conversation = self.key.split("/") if self.key else ("", "")
        transport = self.world.transport(transport_id) if self.key else None
        caller = Party(self.name, 0)
        ticket = kind(transport, conversation, lambda: self._woken(ticket), caller, now, deadline - now)
        ticket.party_id = ("actor", self.name)
        return ticket

    def _ask(self) -> None:
        self._ticket = self.new_ticket()
        self.world.post(self.name, self._heard)

    def _cancel(self) -> None:
        self.world.spend("cancels")
        self._give_up(Outcome.CANCELLED)

    def _give_up(self, outcome: Outcome) -> None:
        """In the caller's own thread; the portal hears of it later."""
        ticket = self.ticket
        assert ticket.claim()
        ticket.ended_phase = getattr(ticket, "phase")  # noqa: B009  # Each kind has one.
        chain_of(self.world.pool, ticket)  # As for the error's text; must work in every state.
        ticket.settle(outcome)
        self.world.post(f"that {self.name} has left", self._left)

    def _woken(self, ticket: Ticket) -> None:
        self.world.answers[ticket] += 1

    def _heard(self) -> None:
        raise NotImplementedError

    def _left(self) -> None:
        raise NotImplementedError


class Requester(Actor[RequestTicket]):
    """`manager.session()` or `asession()`."""

    kind = RequestTicket

    def _ask(self) -> None:
        super()._ask()
        self.world.requests.append(self.ticket)

    def _heard(self) -> None:
        self.world.decide(self.world.pool.flights.request, self.ticket)

    def _left(self) -> None:
        assert self.ticket.outcome is not None
        self.world.decide(self.world.pool.flights.leave, self.ticket, self.ticket.outcome)


class InnerRequester(Requester):
    """An opening's own work, which needs another session."""

    may_cancel = False

    def __init__(self, world: World, name: str, key: str, opening: Opening) -> None:
        super().__init__(world, name, key, 1e6)
        self._opening = opening

    def new_ticket(self) -> RequestTicket:
        ticket = super().new_ticket()
        ticket.inside = self._opening
        ticket.party_id = ("opening", self._opening.id)
        return ticket

    def cancel(self) -> None:
        """The opening has ended, so its task is cancelled."""
        if self._ticket is not None and self._ticket.open:
            self._give_up(Outcome.CANCELLED)


class Closer(Actor[CloseTicket]):
    """`close_session()`."""

    kind = CloseTicket
    may_cancel = False

    def _heard(self) -> None:
        self.world.decide(self.world.pool.close_session, self.ticket)

    def _left(self) -> None:
        pass


class ManagerCloser(Actor[CloseTicket]):
    """`close()`, which ends by force at its limit."""

    kind = CloseTicket
    may_cancel = False

    def choices(self) -> Iterator[Choice]:
        if self._ticket is None:
            yield Choice(f"{self.name} asks", self._ask)
        elif self._ticket.open:
            if self.world.clock.monotonic() >= self._ticket.deadline:
                yield Choice(f"{self.name} uses force", self._force)
            if self.world.pool.closed and all(owner.ended for owner in self.world.owners):
                if not self.world.pool.calls:
                    yield Choice(f"{self.name} is done", self._finish)

    def _heard(self) -> None:
        self.world.decide(self.world.pool.close, self._limit_s)

    def _force(self) -> None:
        for owner in self.world.owners:
            owner.abort()
        for call in self.world.pool.calls:
            call.task.cancel()
        self._finish()

    def _finish(self) -> None:
        assert self.ticket.claim()
        self.ticket.settle(Outcome.OK)
