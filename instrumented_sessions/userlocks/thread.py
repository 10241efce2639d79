"""`ThreadLock`."""

from __future__ import annotations

import asyncio
import sys
import threading

from .. import observer
from ..locks import next_id
from ..parking import current_caller, current_task, sniffed
from ..vocabulary import Outcome
from .held import here, monotonic
from .waits import NamedLock

_running_loop = asyncio._get_running_loop
_frame = sys._getframe


class ThreadLock(NamedLock):
    """A `threading.Lock` with a name, whose waits are visible while they last.

    Events go to the observers of all managers; `hangs()` and `explain()` show who waits. A wait that
    would close a circle of waits raises `DeadlockError` in the one who is about to block. Not
    re-entrant: taking it twice is a circle of one. So is waiting, on an event loop's thread, for
    what a task of that loop holds: it could never go on to give it back.

    Args:
        name: What events and reports call it; a low-cardinality word.
    """

    __slots__ = ("_acquire", "_lock")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._lock = threading.Lock()
        self._acquire = self._lock.acquire

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, as `threading.Lock.acquire` does; `timeout` in seconds, -1: no limit.

        Raises:
            DeadlockError: Waiting would close a circle, with a timeout too; not when it is 0.
        """
        if timeout != -1 and not (blocking and timeout > 0):
            if not blocking or timeout:
                return self._acquire(blocking, timeout)  # Refuses its arguments.
            blocking = False
        if not self._acquire(False):
            return blocking and self._wait(timeout)
        # From here to the end this is what an uncontended lock costs, so nothing is called that need not be.
        seat = here.seat
        thread = me = seat.thread
        held = seat.held
        frame = _frame(1)
        self._where = (frame.f_code, frame.f_lasti)
        self._thread = thread
        self._since = monotonic()
        if _running_loop() is not None or sniffed.name is not None:
            me = current_task() or thread
        self._holder = me
        if held or me is not thread or self._handed_over:
            self._enter(me, ordered=blocking)
        else:
            self._held = held
            held.append(self)
        if observer.all_holds_are_heard:
            self._announce_taken(current_caller(), next_id(), 0.0, contended=False)
        return True

    def _wait(self, timeout: float) -> bool:
        wait = self._begin_wait(current_caller(blocks=True))
        outcome: Outcome | None = Outcome.CANCELLED
        try:
            outcome = None if self._acquire(True, timeout) else Outcome.TIMEOUT
        finally:
            self._end_wait(wait, outcome, current_task() or here.seat.thread)
        return outcome is None

    def release(self) -> None:
        """Give the lock back; from any thread, as the standard one.

        Raises:
            RuntimeError: It is not held.
        """
        self.__exit__()

    def locked(self) -> bool:
        """Return whether somebody holds it."""
        return self._lock.locked()

    __enter__ = acquire

    def __exit__(self, *exc_info: object) -> None:
        holder = self._holder
        thread = here.seat.thread
        held = self._held
        if holder is thread and len(held) == 1:
            held.clear()
        else:
            self._leave(thread if holder is thread else current_task() or thread)
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
