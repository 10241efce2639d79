"""`ThreadLock` and `TaskLock`: standard locks whose waits are seen and whose deadlocks raise."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any

from .chain import BlockingChain, ChainLink, Party
from .clock import SYSTEM_CLOCK
from .errors import DeadlockError
from .events import DeadlockDetected, LockAcquired, LockReleased, LockWaitAbandoned, LockWaitStarted
from .locks import next_id
from .observer import announce_everywhere
from .parking import Caller, current_caller
from .vocabulary import Outcome, Phase
from .waitgraph import GRAPH

_waits: dict[int, _Wait] = {}
"""Who waits for a user lock now, by wait id; single operations on a dict need no lock."""


class _Hold:
    """One holder of one lock."""

    __slots__ = ("caller", "since", "wait_id")

    def __init__(self, caller: Caller, wait_id: int) -> None:
        self.caller = caller
        self.since = SYSTEM_CLOCK.monotonic()
        self.wait_id = wait_id


class _Wait:
    """One waiter for one lock."""

    __slots__ = ("caller", "lock", "since", "wait_id")

    def __init__(self, lock: _NamedLock, caller: Caller, wait_id: int) -> None:
        self.lock = lock
        self.caller = caller
        self.since = SYSTEM_CLOCK.monotonic()
        self.wait_id = wait_id


class _NamedLock:
    """What both locks do around the standard one: events, wait-for edges, the check for cycles."""

    def __init__(self, name: str) -> None:
        if not name or not isinstance(name, str):
            raise ValueError(f"name must be a non-empty string; got {name!r}")
        self.name = name
        self._hold: _Hold | None = None

    def __repr__(self) -> str:
        hold = self._hold
        state = f"held by {hold.caller.party}" if hold is not None else "free"
        return f"<{type(self).__name__} {self.name!r} {state}>"

    def _granted(self, caller: Caller, wait_id: int, waited_s: float, contended: bool) -> None:
        self._hold = _Hold(caller, wait_id)
        with GRAPH.lock:
            GRAPH.hold(caller.party_id, self)
        announce_everywhere(
            LockAcquired(**self._facts(caller.party, wait_id), waited_s=waited_s, contended=contended)
        )

    def _give_up_hold(self) -> _Hold | None:
        hold, self._hold = self._hold, None
        if hold is not None:
            with GRAPH.lock:
                GRAPH.unhold(hold.caller.party_id, self)
        return hold

    def _announce_release(self, hold: _Hold | None) -> None:
        if hold is not None:
            held_s = SYSTEM_CLOCK.monotonic() - hold.since
            announce_everywhere(LockReleased(**self._facts(hold.caller.party, hold.wait_id), held_s=held_s))

    def _begin_wait(self, caller: Caller, wait_id: int) -> _Wait:
        """Note that somebody is about to block.

        Raises:
            DeadlockError: The wait would close a circle.
        """
        with GRAPH.lock:
            cycle = GRAPH.cycle(caller.party_id, self)
            if cycle is None:
                GRAPH.wait(caller.party_id, self)
        wait = _Wait(self, caller, wait_id)
        if cycle is not None:
            chain = _chain(wait, is_cycle=True)
            announce_everywhere(DeadlockDetected(at=SYSTEM_CLOCK.time(), cycle=chain, lock=None))
            stacks = "".join(f"\n  {link.holder}: {' > '.join(link.stack[-4:])}" for link in chain.links)
            raise DeadlockError(
                f"waiting for lock {self.name!r} would never end, it closes a circle of {len(cycle)}:"
                f" {chain}. Take these locks in one order everywhere.{stacks}",
                cycle=chain,
                phase=Phase.LOCK,
            )
        _waits[wait_id] = wait
        hold = self._hold
        announce_everywhere(
            LockWaitStarted(
                **self._facts(caller.party, wait_id),
                holders=(hold.caller.party,) if hold is not None else (),
                held_s=wait.since - hold.since if hold is not None else 0.0,
            )
        )
        return wait

    def _end_wait(self, wait: _Wait, outcome: Outcome | None) -> None:
        """A wait ended with the lock (`outcome` is None) or without."""
        del _waits[wait.wait_id]
        with GRAPH.lock:
            GRAPH.unwait(wait.caller.party_id, self)
        waited_s = SYSTEM_CLOCK.monotonic() - wait.since
        if outcome is None:
            self._granted(wait.caller, wait.wait_id, waited_s, contended=True)
        else:
            announce_everywhere(
                LockWaitAbandoned(
                    **self._facts(wait.caller.party, wait.wait_id), outcome=outcome, waited_s=waited_s
                )
            )

    def _facts(self, owner: Party, wait_id: int) -> dict[str, Any]:
        return {
            "at": SYSTEM_CLOCK.time(),
            "key": None,
            "transport_kind": None,
            "lock": None,
            "lock_name": self.name,
            "granularity": None,
            "wait_id": wait_id,
            "owner_id": None,
            "owner": owner,
        }


class ThreadLock(_NamedLock):
    """A `threading.Lock` with a name, whose waits are visible while they last.

    Events go to the observers of all managers; `hangs()` and `explain()` show who waits. A wait that
    would close a circle of waits raises `DeadlockError` in the one who is about to block. Not
    re-entrant: taking it twice is a circle of one.

    Args:
        name: What events and reports call it; a low-cardinality word.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._lock = threading.Lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, as `threading.Lock.acquire` does; `timeout` in seconds, -1: no limit.

        Raises:
            DeadlockError: Waiting would never end.
        """
        if self._lock.acquire(False):
            self._granted(current_caller(), next_id(), 0.0, contended=False)
            return True
        if not blocking:
            return self._lock.acquire(blocking, timeout)  # Checks its arguments as the standard lock does.
        wait = self._begin_wait(current_caller(), next_id())
        outcome: Outcome | None = Outcome.CANCELLED
        try:
            outcome = None if self._lock.acquire(True, timeout) else Outcome.TIMEOUT
        finally:
            self._end_wait(wait, outcome)
        return outcome is None

    def release(self) -> None:
        """Give the lock back; from any thread, as the standard one.

        Raises:
            RuntimeError: It is not held.
        """
        hold = self._give_up_hold()
        self._lock.release()
        self._announce_release(hold)

    def locked(self) -> bool:
        """Return whether somebody holds it."""
        return self._lock.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class TaskLock(_NamedLock):
    """An `asyncio.Lock` with a name, whose waits are visible while they last; as `ThreadLock`.

    For the tasks of one asyncio or uvloop loop.

    Args:
        name: What events and reports call it; a low-cardinality word.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def acquire(self) -> bool:
        """Take the lock, as `asyncio.Lock.acquire` does.

        Raises:
            DeadlockError: Waiting would never end.
        """
        caller = current_caller()
        if not (self._lock.locked() or self._waiting):
            await self._lock.acquire()
            self._granted(caller, next_id(), 0.0, contended=False)
            return True
        wait = self._begin_wait(caller, next_id())
        outcome: Outcome | None = Outcome.CANCELLED
        self._waiting += 1
        try:
            await self._lock.acquire()
            outcome = None
        finally:
            self._waiting -= 1
            self._end_wait(wait, outcome)
        return True

    def release(self) -> None:
        """Give the lock back; from any task of its loop, as the standard one.

        Raises:
            RuntimeError: It is not held.
        """
        hold = self._give_up_hold()
        self._lock.release()
        self._announce_release(hold)

    def locked(self) -> bool:
        """Return whether somebody holds it."""
        return self._lock.locked()

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def waiting_chains() -> list[BlockingChain]:
    """Return why each waiter for a user lock waits; from any thread."""
    return [_chain(wait) for wait in list(_waits.values())]


def _chain(wait: _Wait, *, is_cycle: bool = False) -> BlockingChain:
    now = SYSTEM_CLOCK.monotonic()
    by_party = {other.caller.party_id: other for other in list(_waits.values())}
    links: list[ChainLink] = []
    seen: set[Any] = {wait.caller.party_id}
    lock: _NamedLock | None = wait.lock
    while lock is not None:
        hold = lock._hold
        if hold is None:
            break
        following = by_party.get(hold.caller.party_id)
        stack = hold.caller.stack()
        if following is not None:
            doing = f"waits for lock {following.lock.name!r}"
        elif is_cycle and hold.caller.party_id == wait.caller.party_id:
            doing = f"waits for lock {wait.lock.name!r}"
        else:
            doing = f"is at {stack[-1]}" if stack else ""
        links.append(ChainLink(f"lock {lock.name!r}", hold.caller.party, now - hold.since, doing, stack))
        if hold.caller.party_id in seen:
            break
        seen.add(hold.caller.party_id)
        lock = following.lock if following is not None else None
    return BlockingChain(
        key=None,
        phase=Phase.LOCK,
        waited_s=now - wait.since,
        waiter=wait.caller.party,
        started_at=SYSTEM_CLOCK.time() - (now - wait.since),
        links=tuple(links),
        is_cycle=is_cycle,
        waiter_stack=wait.caller.stack(),
    )
