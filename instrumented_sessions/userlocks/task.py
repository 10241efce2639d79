"""`TaskLock`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from .. import observer
from ..locks import next_id
from ..parking import current_caller, current_task
from ..stacks import caller_location
from ..vocabulary import Outcome
from .held import held_by_tasks, here, monotonic
from .waits import NamedLock

_running_loop = asyncio._get_running_loop
# Before 3.12 `current_task` is written in Python, and takes twice as long as the table that it reads.
_current_task: Any = getattr(asyncio.tasks, "_current_tasks", {}).get
if sys.version_info >= (3, 12):
    _current_task = asyncio.current_task
_frame = sys._getframe


class TaskLock(NamedLock):
    """An `asyncio.Lock`, on trio a `trio.Lock`, with a name, whose waits are visible while they last.

    For the tasks of one loop: asyncio's, uvloop's or trio's. As `ThreadLock` in all else: events,
    `DeadlockError`, not re-entrant. Tasks get it in the order of asking; a cancelled one gives up its place.

    Args:
        name: What events and reports call it; a low-cardinality word.
    """

    __slots__ = ("_lock", "_loop", "_queue_length", "_trios")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._lock: Any = asyncio.Lock()
        self._loop: Any = None
        self._trios = False
        self._queue_length = 0

    async def acquire(self) -> bool:
        """Take the lock, as `asyncio.Lock.acquire` does.

        Raises:
            DeadlockError: Waiting would never end.
            RuntimeError: It is held or waited for on another loop.
        """
        loop = _running_loop()
        if loop is None or self._trios:
            return await self._acquire_elsewhere(loop)
        me = _current_task(loop)
        if self._queue_length or self._holder is not None:
            await self._wait(me)
            self._loop = loop
            return True
        await self._lock.acquire()
        # From here to the end this is what an uncontended lock costs, so nothing is called that need not be.
        frame = _frame(1)
        self._where = (frame.f_code, frame.f_lasti)
        if loop is not self._loop:  # Else its thread is known.
            self._loop = loop
            self._thread = here.seat.thread
        self._since = monotonic()
        self._holder = me
        if me in held_by_tasks or self._handed_over:
            self._enter(me)
        else:
            held_by_tasks[me] = self._held = [self]
        if observer.all_holds_are_heard:
            self._announce_taken(current_caller(), next_id(), 0.0, contended=False)
        return True

    async def _acquire_elsewhere(self, loop: Any) -> bool:
        """Take it on trio, or make it asyncio's again."""
        if (loop is None) is not self._trios:
            if self._lock.locked() or self._queue_length:
                raise RuntimeError(f"{self} is in use on a loop of another library; give each loop its own")
            self._lock = _trio_lock() if loop is None else asyncio.Lock()
            self._loop, self._trios = None, loop is None
        if loop is not None:
            return await self.acquire()
        me = current_task()
        if self._queue_length or self._lock.locked():
            await self._wait(me)
            return True
        await self._lock.acquire()
        self._thread = here.seat.thread
        self._where = caller_location()
        self._since = monotonic()
        self._holder = me
        self._enter(me)
        if observer.all_holds_are_heard:
            self._announce_taken(current_caller(), next_id(), 0.0, contended=False)
        return True

    async def _wait(self, me: Any) -> None:
        wait = self._begin_wait(current_caller())
        outcome: Outcome | None = Outcome.CANCELLED
        self._queue_length += 1
        try:
            await self._lock.acquire()
            outcome = None
        except Exception:
            outcome = Outcome.ERROR
            raise
        finally:
            self._queue_length -= 1
            self._end_wait(wait, outcome, me)

    def release(self) -> None:
        """Give the lock back; from any task of its loop as asyncio's, from its holder only as trio's.

        Raises:
            RuntimeError: It is not held, or not by this task of trio's.
        """
        me = current_task() if self._trios else _current_task(self._loop)
        holder = self._holder
        held = self._held
        if me is holder and len(held) == 1:
            held_by_tasks.pop(me, None)
        else:
            if me is not holder and self._trios:
                self._lock.release()  # Which trio's refuses.
            self._leave(me)
        if holder is not None:
            held_s = monotonic() - self._since
            self._holds += 1
            self._held_s += held_s
            if held_s > self._longest_hold_s:
                self._longest_hold_s = held_s
            if self._wait_id:
                self._announced_release(held_s, self._lock.release)
                return
        # It must name nobody before it is free.
        self._holder = None
        self._lock.release()

    def locked(self) -> bool:
        """Return whether somebody holds it."""
        locked: bool = self._lock.locked()
        return locked

    __aenter__ = acquire

    async def __aexit__(self, *exc_info: object) -> None:
        self.release()


def _trio_lock() -> Any:
    import trio

    return trio.Lock()
