"""Single flight: the requests for one session share one opening, which belongs to the pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import PortalClosedError, SessionError, TransportConflictError
from ..events import OpeningEnded
from ..vocabulary import OpenFailure, Outcome, Phase, SessionState
from .effects import Abort, Say
from .errors import deadlock_error
from .records import Gate, Opening, Record, RequestTicket

if TYPE_CHECKING:
    from .pool import Pool


class Flights:
    """The requests' and openings' part of the pool; pure, as the pool is."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._targets: dict[str, Any] = {}

    def request(self, ticket: RequestTicket) -> None:
        """Somebody wants a session that was not warm: join its opening, or begin one."""
        if not ticket.open:
            return  # It left before it was heard.
        if self._pool.closed:
            self._pool.answer(
                ticket, Outcome.REFUSED, error=PortalClosedError("the manager is closed", key=ticket.key)
            )
            return
        conflict = self._conflict(ticket)
        if conflict is not None:
            self._pool.answer(ticket, Outcome.REFUSED, error=conflict)
            return
        record = self._record(ticket)
        if record.state is SessionState.READY:
            self._pool.answer(ticket, Outcome.HIT, value=record)
            return
        opening = record.opening
        if opening is None:
            opening = Opening(record, self._pool.clock.monotonic())
            opening.first_request_id = ticket.id
            record.opening = opening
            self._pool.openings[opening] = None
            with self._pool.graph.lock:
                self._pool.graph.hold(("opening", opening.id), ("opening", opening.id))
        with self._pool.graph.lock:
            cycle = self._pool.graph.cycle(ticket.party_id, ("opening", opening.id))
            if cycle is None:
                self._pool.graph.wait(ticket.party_id, ("opening", opening.id))
        if cycle is not None:
            self._pool.answer(
                ticket, Outcome.DEADLOCK, error=deadlock_error(self._pool, ticket, opening, cycle)
            )
            return
        opening.requests[ticket] = None
        ticket.opening = opening
        if len(opening.requests) == 1:
            self._pool.gates.let_pass(opening)
        else:
            self._pool.gates.refuse_short_limits(opening)

    def leave(self, ticket: RequestTicket, outcome: Outcome) -> None:
        """A request was claimed by its caller: `outcome` is `timeout` or `cancelled`."""
        self._pool.tally(ticket.key.transport_id).counts[f"requests_{outcome}"] += 1
        opening = ticket.opening
        if opening is None or ticket not in opening.requests:
            return
        self.forget_request(ticket)
        if not opening.requests and opening.gate not in (Gate.SERVER, Gate.DONE):
            self.drop(opening, outcome)

    def _record(self, ticket: RequestTicket) -> Record:
        record = self._pool.known.get(ticket.key)
        if record is not None and record.state in (SessionState.COLD, SessionState.BROKEN):
            target = record.transport
            if not (target is ticket.transport or target == ticket.transport):
                self._pool.close_cold(record)  # Its handle belongs to the other target.
                record = None
        if record is None:
            record = Record(ticket.key, ticket.transport, self._pool.clock)
            record.handle = self._pool.make_handle(record)
            self._pool.known[ticket.key] = record
        if record.state in (SessionState.COLD, SessionState.BROKEN):
            record.transport = ticket.transport
        return record

    def _conflict(self, ticket: RequestTicket) -> SessionError | None:
        """Refuse one id for two targets while sessions of the first are alive."""
        transport_id = ticket.key.transport_id
        target = self._targets.setdefault(transport_id, ticket.transport)
        if target is ticket.transport or target == ticket.transport:
            return None
        alive = any(record.transport_id == transport_id for record in self._pool.active.values()) or any(
            opening.record.transport_id == transport_id for opening in self._pool.openings
        )
        if alive:
            return TransportConflictError(
                f"transport id {transport_id!r} is already in use for another target or other credentials;"
                f" give {ticket.transport!r} an id of its own, or build one transport and keep it",
                key=ticket.key,
            )
        self._targets[transport_id] = ticket.transport
        return None

    def authorizing(self, opening: Opening) -> None:
        """An opening waits for a person: its permit goes to the next one for good."""
        self._release_permit(opening)

    def opened(self, opening: Opening, connection: Any) -> None:
        """An opening succeeded."""
        record = opening.record
        if opening.gate is not Gate.SERVER:
            return  # Too late: it was given up meanwhile; the shell ends its owner.
        now = self._pool.clock.monotonic()
        record.connection = connection
        record.opened_at = record.last_used_at = now
        lifetime = self._pool.settings.max_lifetime_s
        record.expires_at = (
            now + lifetime * self._pool.rng.uniform(0.9, 1.0) if lifetime is not None else None
        )
        self._pool.move(record, "opened")
        if not self._pool.closed:
            self._pool.warm[record.key] = record.handle
        self._end_opening(opening, Outcome.OK, now)
        record.promised = {
            t.call: None for t in opening.requests if t.call is not None and t.open and t.call.open
        }
        for ticket in list(opening.requests):
            self.forget_request(ticket)
            created = ticket.id == opening.first_request_id
            self._pool.answer(ticket, Outcome.CREATED if created else Outcome.JOINED, value=record)
        for released in self._pool.gates.backoff(record.transport_id).succeeded():
            self._pool.gates.let_pass(released)
        if self._pool.gates.room_wanted:
            self._pool.gates.make_room()

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
        now = self._pool.clock.monotonic()
        record = opening.record
        self._pool.move(record, "open_failed", error=cause)
        self._pool.vacate(record)
        self._pool.do(Abort(opening))
        if outcome is not Outcome.CANCELLED:
            # Before its permit goes to the next one, who would fail as well, and before the errors are
            # made: they say when the next attempt is allowed.
            self._pool.tally(record.transport_id).last_failure = cause
            self._pool.gates.failed(record.transport_id, opening)
        tickets = list(opening.requests)
        errors = [make_error(ticket) for ticket in tickets]
        self._end_opening(opening, outcome, now, category=category, error=cause)
        for ticket, error in zip(tickets, errors, strict=True):
            self.forget_request(ticket)
            # The opening was cancelled, its callers were not.
            answer = Outcome.REFUSED if outcome is Outcome.CANCELLED else outcome
            self._pool.answer(ticket, answer, error=error)
        if outcome is Outcome.CANCELLED:
            self._pool.gates.forget(opening)
        self._pool.gates.make_room()

    def abandon(self, opening: Opening, make_error: Callable[[RequestTicket], BaseException]) -> None:
        """End an opening by our own wish, at whichever gate it is."""
        if opening.gate is Gate.SERVER:
            self.open_failed(opening, Outcome.CANCELLED, make_error)
            return
        for ticket in list(opening.requests):
            self.forget_request(ticket)
            self._pool.answer(ticket, Outcome.REFUSED, error=make_error(ticket))
        if opening.gate is not Gate.DONE:
            self.drop(opening, Outcome.CANCELLED)

    def drop(self, opening: Opening, outcome: Outcome) -> None:
        """Forget an opening that nobody waits for and that has not reached its server."""
        announced = opening.announced
        self._withdraw(opening, outcome)
        self._end_opening(opening, outcome, self._pool.clock.monotonic())
        self._pool.gates.forget(opening)
        if announced:
            self._pool.gates.make_room()

    def step_back(self, opening: Opening) -> None:
        """Let an opening that has not reached its server wait for its transport, which has failed."""
        self._withdraw(opening, Outcome.REFUSED)
        opening.gate = Gate.BACKOFF
        opening.started_at = self._pool.clock.monotonic()

    def _withdraw(self, opening: Opening, outcome: Outcome) -> None:
        """Undo what an opening did to wait for its lock."""
        record = opening.record
        if not opening.announced:
            return
        phase = opening.phase
        if opening.acquisition is not None:
            self._pool.permits.abandon(opening.acquisition, outcome)
            opening.acquisition = None
        self._pool.move(record, "dropped")
        self._pool.vacate(record)
        record.generation -= 1
        ended = Outcome.CANCELLED if outcome is Outcome.TIMEOUT else outcome
        self._say_ended(opening, ended, self._pool.clock.monotonic(), phase)
        opening.announced = False

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
        del self._pool.openings[opening]
        with self._pool.graph.lock:
            self._pool.graph.unhold(("opening", opening.id), ("opening", opening.id))
        if opening.announced:
            self._say_ended(opening, outcome, now, phase, category=category, error=error)

    def _say_ended(
        self,
        opening: Opening,
        outcome: Outcome,
        now: float,
        phase: Phase,
        *,
        category: OpenFailure | None = None,
        error: BaseException | None = None,
    ) -> None:
        granted_at = opening.granted_at
        self._pool.tally(opening.record.transport_id).counts[f"openings_{outcome}"] += 1
        self._pool.do(
            Say(
                OpeningEnded(
                    at=self._pool.clock.time(),
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
        following = self._pool.permits.release(acquisition)
        if isinstance(following, Opening):
            self._pool.gates.connect(following)

    def forget_request(self, ticket: RequestTicket) -> None:
        """Take a request off its opening."""
        opening = ticket.opening
        assert opening is not None
        del opening.requests[ticket]
        with self._pool.graph.lock:
            self._pool.graph.unwait(ticket.party_id, ("opening", opening.id))
