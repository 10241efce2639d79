"""The gates between an opening and its server: drain, back-off, room and lock, in this order."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ..errors import SessionOpenError
from ..events import OpeningStarted
from ..vocabulary import OpenFailure, Outcome, Phase, SessionState
from .backoff import Backoff
from .effects import Connect, Say
from .errors import deadlock_error
from .records import Gate, Opening, Record

if TYPE_CHECKING:
    from .pool import Pool


class Gates:
    """Who may open now, and who waits for what; pure, as the pool is."""

    def __init__(self, pool: Pool, rng: random.Random) -> None:
        self._pool = pool
        self._rng = rng
        self._room_queue: dict[Opening, None] = {}
        self._backoffs: dict[str, Backoff] = {}

    @property
    def room_wanted(self) -> bool:
        """Whether somebody waits for room."""
        return bool(self._room_queue)

    def backoff(self, transport_id: str) -> Backoff:
        """Return the pause of one transport."""
        backoff = self._backoffs.get(transport_id)
        if backoff is None:
            backoff = self._backoffs[transport_id] = Backoff(self._pool.settings, self._rng)
        return backoff

    def let_pass(self, opening: Opening) -> None:
        """Take an opening as far as it can go; where it cannot, it is left in that gate's queue."""
        record = opening.record
        if opening.gate is Gate.DRAIN:
            if record.state is SessionState.DRAINING or record.key in self._pool.leaving:
                return
            opening.gate = Gate.BACKOFF
        if opening.gate is Gate.BACKOFF:
            backoff = self.backoff(record.transport_id)
            if not backoff.passes(opening):
                self.refuse_short_limits(opening)
                return
            opening.gate = Gate.ROOM
        if opening.gate is Gate.ROOM:
            if self._room_queue or len(self._pool.active) >= self._pool.settings.max_sessions:
                self._room_queue[opening] = None
                self.make_room()
                return
            self._enter_lock(opening)

    def _enter_lock(self, opening: Opening) -> None:
        record = opening.record
        opening.gate = Gate.LOCK
        record.generation = opening.generation
        self._pool.move(record, "open")
        self._pool.active[record.key] = record
        opening.announced = True
        self._pool.do(
            Say(
                OpeningStarted(
                    at=self._pool.clock.time(),
                    key=record.key,
                    transport_kind=opening.transport.kind,
                    opening_id=opening.id,
                    generation=opening.generation,
                    request_id=opening.first_request_id,
                )
            )
        )
        opening.acquisition = self._pool.permits.acquire_opening(opening)
        if opening.acquisition.granted_at is not None:
            self.connect(opening)
            return
        cycle = self._pool.permits.cycle(opening.acquisition)
        if cycle is not None:
            for ticket in list(opening.requests):
                error = deadlock_error(self._pool, ticket, opening, cycle)
                self._pool.flights.forget_request(ticket)
                self._pool.answer(ticket, Outcome.DEADLOCK, error=error)
            self._pool.flights.drop(opening, Outcome.DEADLOCK)

    def connect(self, opening: Opening) -> None:
        """Let an opening with a permit talk to its server."""
        opening.gate = Gate.SERVER
        opening.granted_at = self._pool.clock.monotonic()
        self._pool.do(Connect(opening))

    def make_room(self) -> None:
        """Let the first waiters for room in, and send idle sessions away for the others."""
        while self._room_queue and len(self._pool.active) < self._pool.settings.max_sessions:
            opening = next(iter(self._room_queue))
            del self._room_queue[opening]
            self._enter_lock(opening)
        going = sum(1 for record in self._pool.active.values() if record.state is SessionState.DRAINING)
        for record in self._idle_first()[: max(0, len(self._room_queue) - going)]:
            self._pool.drain(record)

    def _idle_first(self) -> list[Record]:
        """READY sessions without calls, the least recently used first."""
        if not self._room_queue:
            return []
        idle = [
            record
            for record in self._pool.active.values()
            if record.state is SessionState.READY and not record.calls and not record.promised
        ]
        for record in idle:
            self._pool.absorb_hits(record)
        return sorted(idle, key=lambda record: record.last_used_at)

    def refuse_short_limits(self, opening: Opening) -> None:
        """In a back-off, answer at once those whose limit ends before it."""
        backoff = self._backoffs.get(opening.record.transport_id)
        if opening.gate is not Gate.BACKOFF or backoff is None or backoff.retry_at is None:
            return
        now = self._pool.clock.monotonic()
        for ticket in list(opening.requests):
            if ticket.deadline < backoff.retry_at:
                self._pool.flights.forget_request(ticket)
                retry_after_s = max(0.0, backoff.retry_at - now)
                error = SessionOpenError(
                    f"session {ticket.key} is not opened: its transport failed {backoff.failures} times"
                    f" in a row; the next attempt is allowed in {retry_after_s:.2f} s",
                    category=OpenFailure.BACKOFF,
                    retry_after_s=retry_after_s,
                    key=ticket.key,
                    phase=Phase.QUEUE,
                    waited_s=now - ticket.asked_at,
                    limit_s=ticket.limit_s,
                )
                error.__cause__ = self._pool.tally(ticket.key.transport_id).last_failure
                self._pool.answer(ticket, Outcome.REFUSED, error=error)
        if not opening.requests:
            self._pool.flights.drop(opening, Outcome.REFUSED)

    def failed(self, transport_id: str, attempt: Opening | None = None) -> None:
        """Note that `attempt` failed, or that a session lived too short; nobody else tries now."""
        backoff = self.backoff(transport_id)
        self.go_on(backoff.failed(self._pool.clock.monotonic(), attempt))
        if backoff.retry_at is None:
            return
        for opening in list(self._pool.openings):
            if opening.record.transport_id == transport_id and opening.gate in (Gate.ROOM, Gate.LOCK):
                self._room_queue.pop(opening, None)
                self._pool.flights.step_back(opening)
                backoff.queue[opening] = None
        for opening in list(backoff.queue):
            self.refuse_short_limits(opening)

    def go_on(self, opening: Opening | None) -> None:
        """Let an opening that a back-off has released pass the other gates."""
        if opening is not None:
            opening.gate = Gate.ROOM
            self.let_pass(opening)

    def forget(self, opening: Opening) -> None:
        """Take an opening that has ended out of all queues."""
        self._room_queue.pop(opening, None)
        backoff = self._backoffs.get(opening.record.transport_id)
        if backoff is not None:
            self.go_on(backoff.left(opening))

    def tick(self, now: float) -> None:
        """End the pauses that are due."""
        for transport_id, backoff in list(self._backoffs.items()):
            self.go_on(backoff.pause_over(now))
            if backoff.idle:
                del self._backoffs[transport_id]

    def next_pause_end(self) -> float | None:
        """Return when the next back-off ends, in monotonic seconds; None when none is on."""
        return min((b.retry_at for b in self._backoffs.values() if b.retry_at is not None), default=None)

    def retry_at(self, transport_id: str) -> float | None:
        """Return when a transport's back-off ends, in monotonic seconds; None when it has none."""
        backoff = self._backoffs.get(transport_id)
        return backoff.retry_at if backoff is not None else None
