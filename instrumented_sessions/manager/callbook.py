"""Calls in flight: their place on a session, and their permit of the call lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..vocabulary import Outcome, SessionState
from .effects import Disconnect, Fail, Grant
from .errors import deadlock_error
from .records import CallTicket, Record

if TYPE_CHECKING:
    from .pool import Pool


class CallBook:
    """The calls' part of the pool; pure, as the pool is."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._retiring: dict[Any, set[CallTicket]] = {}
        """Connections of lost sessions whose calls still wait for their answers."""

    def begin(self, call: CallTicket, record: Record) -> bool:
        """Put a call on a READY session; returns False when the session is not ready any more.

        The call may be sent when its `acquisition` is None or granted; else a `Grant` follows.
        """
        record.promised.pop(call, None)
        if record.state is not SessionState.READY:
            return False
        call.generation = record.generation
        record.calls[call] = None
        record.last_used_at = self._pool.clock.monotonic()
        if call.acquisition is None:
            call.acquisition = self._pool.permits.acquire_call(call)
        return True

    def forgo(self, call: CallTicket, record: Record) -> None:
        """A call that waited for the session will not begin."""
        record.promised.pop(call, None)
        if self._pool.gates.room_wanted:
            self._pool.gates.make_room()

    def deadlock(self, call: CallTicket) -> BaseException | None:
        """Return the error of a call whose wait for its lock closes a circle of waits."""
        if call.acquisition is None or call.acquisition.granted_at is not None:
            return None
        cycle = self._pool.permits.cycle(call.acquisition)
        return deadlock_error(self._pool, call, None, cycle) if cycle is not None else None

    def end(self, call: CallTicket, record: Record, outcome: Outcome) -> None:
        """A call has left its session, whether it was sent or not."""
        record.calls.pop(call, None)
        self.release(call, outcome)
        for connection, calls in list(self._retiring.items()):
            calls.discard(call)
            if not calls:
                del self._retiring[connection]
                self._pool.do(Disconnect(connection))
        record.last_used_at = self._pool.clock.monotonic()
        if not record.calls:
            if record.state is SessionState.DRAINING:
                self._pool.disconnect(record)
            elif self._pool.gates.room_wanted:
                self._pool.gates.make_room()

    def release(self, call: CallTicket, outcome: Outcome) -> None:
        """Give a call's permit back, or stop waiting for one."""
        acquisition, call.acquisition = call.acquisition, None
        if acquisition is None:
            return
        if acquisition.granted_at is None:
            self._pool.permits.abandon(acquisition, outcome)
            return
        following = self._pool.permits.release(acquisition)
        if isinstance(following, CallTicket):
            self._pool.do(Grant(following))

    def retire(self, record: Record) -> None:
        """Keep a lost session's connection until its calls have their answers."""
        self._retiring[record.connection] = set(record.calls)
        record.calls.clear()
        record.connection = None

    def fail_all(
        self, record: Record, make_error: Callable[[CallTicket], BaseException], cause: BaseException | None
    ) -> None:
        """End the calls that were sent; the others go on with the next generation."""
        sent = [call for call in record.calls if call.sent]
        for call in record.calls:
            # All at once, so that they ask for the next session, and its permit, in the order they came in.
            if call.acquisition is not None and call.acquisition.granted_at is None:
                self.release(call, Outcome.ERROR)
                self._pool.do(Grant(call))
        record.calls.clear()
        for call in sent:
            error = make_error(call)
            error.__cause__ = cause
            self.release(call, Outcome.ERROR)
            self._pool.do(Fail(call, error))
