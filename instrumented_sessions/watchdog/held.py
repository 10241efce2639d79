"""Stacks taken while native code holds the GIL, when no Python thread can take any.

A timer of the kernel runs on the CPU clock of each loop's thread. The watchdog winds it up again each time
it wakes, so it only fires when that thread keeps computing and the watchdog cannot run. Its signal goes to
the watchdog's own thread, which waits for the GIL and for nothing else: no system call of the program is
interrupted. There `faulthandler`, which needs no GIL, writes down all stacks. The one timer of
`faulthandler` itself, which test runners use, is left alone.

Linux only; elsewhere, and where the signals are all taken, stacks are those of the first moment after.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import re
import signal
import sys
import threading
import time
from typing import Any

from ..chain import CodeLocation
from .pulse import Seat

_SIGEV_THREAD_ID = 4
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)")
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
_CANDIDATES = 8
"""How many signals, from the highest one down, are tried for one that nobody uses."""


class _SigEvent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread_id", ctypes.c_int),
        ("padding", ctypes.c_byte * 44),
    )


class _Timer:
    """A timer on the CPU clock of one thread that signals another one."""

    def __init__(self, library: Any, seat: Seat, native_id: int, signal_number: int) -> None:
        self._library = library
        self._id = ctypes.c_void_p()
        self._fires_at_cpu_s = float("-inf")
        event = _SigEvent(None, signal_number, _SIGEV_THREAD_ID, native_id)
        if library.timer_create(seat.cpu_clock, ctypes.byref(event), ctypes.byref(self._id)):
            raise OSError("timer_create failed")

    def wind(self, cpu_s: float, after_s: float) -> float:
        """Fire once the thread, which has used `cpu_s`, has used at least another `after_s` seconds.

        Returns:
            Up to which CPU time of the thread that holds.
        """
        if self._fires_at_cpu_s - cpu_s < after_s:
            # A quarter more: an idle thread uses next to nothing, so its timer is hardly ever wound up.
            self._fires_at_cpu_s = cpu_s + 1.25 * after_s
            seconds, fraction = divmod(1.25 * after_s, 1.0)
            spec = (ctypes.c_long * 4)(0, 0, int(seconds), int(fraction * 1e9))
            self._library.timer_settime(self._id, 0, ctypes.byref(spec), None)
        return self._fires_at_cpu_s - after_s

    def delete(self) -> None:
        """Never fire again."""
        self._library.timer_delete(self._id)


SWITCH = "INSTRUMENTED_SESSIONS_HELD_STACKS"
"""The environment variable that switches this on; off by default, because it is not safe yet."""


class HeldStacks:
    """Takes stacks while the GIL is held; made, used and closed on the watchdog's thread."""

    def __init__(self) -> None:
        self._timers: dict[Seat, _Timer] = {}
        self._lock = threading.Lock()  # Protects the timers, which `disarm` deletes from any thread.
        self._native_id = threading.get_native_id()
        self._signal = 0
        self._file = -1
        self._library: Any = None
        try:
            self._library = _timers_library()
            self._signal = _free_signal()
            self._file = os.memfd_create("instrumented-sessions-held-stacks")
            os.set_blocking(self._file, False)
            _append(self._file)
            faulthandler.register(self._signal, file=self._file, all_threads=True, chain=False)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {self._signal})
        except (AttributeError, ImportError, OSError, LookupError):
            self._library = None

    def arm(self, seat: Seat, cpu_s: float, after_s: float) -> float:
        """Take stacks once the thread has used another `after_s` seconds of CPU time.

        Args:
            seat: The thread.
            cpu_s: CPU time it has used so far, in seconds.
            after_s: More than it can use before the watchdog runs again.

        Returns:
            The CPU time of the thread at which to call this again.
        """
        with self._lock:
            if self._library is None or seat.cpu_clock is None:
                return float("inf")
            timer = self._timers.get(seat)
            if timer is None:
                try:
                    timer = self._timers[seat] = _Timer(self._library, seat, self._native_id, self._signal)
                except OSError:
                    self._library = None
                    return float("inf")
            return timer.wind(cpu_s, after_s)

    def forget(self, seat: Seat) -> None:
        """Take no more stacks for this thread."""
        with self._lock:
            timer = self._timers.pop(seat, None)
            if timer is not None:
                timer.delete()

    def take(self, late_s: float) -> dict[int, tuple[CodeLocation, ...]]:
        """Return the stacks taken during the last `late_s` seconds, by thread id, outermost call first."""
        if self._library is None:
            return {}
        status = os.fstat(self._file)
        if not status.st_size:
            return {}
        text = os.pread(self._file, status.st_size, 0).decode(errors="replace")
        os.ftruncate(self._file, 0)
        return parse_stacks(text) if status.st_mtime > time.time() - late_s - 0.1 else {}

    def disarm(self) -> None:
        """Delete all timers and make no new ones; from any thread.

        Without a handler the signal would end the process, so this comes before the interpreter's end.
        """
        with self._lock:
            self._library = None
            for timer in self._timers.values():
                timer.delete()
            self._timers.clear()

    def abandon(self) -> None:
        """Give back what a child has after a fork; the timers and the thread are the parent's."""
        self._timers.clear()
        self._library = None
        self._release()

    def close(self) -> None:
        """Give everything back."""
        self.disarm()
        self._release()

    def _release(self) -> None:
        if self._file >= 0:
            # What a timer has sent has reached this thread by now, because it is sent to no other one.
            faulthandler.unregister(self._signal)
            os.close(self._file)
            self._file = -1


def parse_stacks(text: str) -> dict[int, tuple[CodeLocation, ...]]:
    """Return the stacks in what `faulthandler` wrote, by thread id, outermost call first."""
    stacks: dict[int, list[CodeLocation]] = {}
    frames: list[CodeLocation] = []
    for line in text.splitlines():
        if thread := _THREAD.match(line):
            frames = stacks[int(thread[1], 16)] = []
        elif frame := _FRAME.match(line):
            frames.append(CodeLocation(frame[3], frame[1], int(frame[2])))
    return {ident: tuple(reversed(frames)) for ident, frames in stacks.items()}


def _timers_library() -> Any:
    """Return the C library, called without letting go of the GIL."""
    if os.environ.get(SWITCH) != "1":
        # The dump reads the frames of threads that may be running: it has crashed programs under load.
        raise LookupError(f"stacks of a held GIL are taken only where {SWITCH}=1 asks for it")
    if not sys.platform.startswith("linux") or sys.maxsize < 2**32:
        raise LookupError("timers are used on 64-bit Linux only")
    library = ctypes.PyDLL(None)
    if not hasattr(library, "timer_create"):
        library = ctypes.PyDLL("librt.so.1")
    return library


def _free_signal() -> int:
    """Return a real-time signal that has no handler."""
    for number in range(signal.SIGRTMAX - 1, signal.SIGRTMAX - 1 - _CANDIDATES, -1):
        if signal.getsignal(number) is signal.SIG_DFL:
            return number
    raise LookupError("every signal that was tried has a handler")


def _append(descriptor: int) -> None:
    """Let every write go to the end, so that an emptied file begins at its start again."""
    import fcntl

    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
