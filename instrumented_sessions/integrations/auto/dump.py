"""On a signal, writes what waits and all stacks to stderr, also while the main thread is blocked.

Two handlers share the signal. `faulthandler`'s needs no interpreter: it writes the stack of the thread that
was interrupted, usually the main one, at once, also while native code holds the GIL. Then Python's own asks
a thread of ours for the explanation and the stacks of all threads; Python runs it on the main thread, also
in the middle of a blocking call that Python knows. Native code that blocks without the GIL keeps it from
running; so as long as the main thread's loop is stalled, `faulthandler`'s handler asks our thread itself,
by writing to it.

`faulthandler` could write all stacks by itself. But reading the frames of a running thread has crashed
programs, so that they are read with the GIL held.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from ...events import Event, LoopRecovered, LoopStalled
from ...settings import ENV_PREFIX
from .hooks import guarded

VARIABLE = f"{ENV_PREFIX}DUMP_SIGNAL"
DEFAULT = "SIGUSR2"
THREAD_NAME = "instrumented-sessions-dump"
_OFF = frozenset({"none", "off", "0", "false", "no"})
_NEVER = ("SIGKILL", "SIGSTOP", "SIGSEGV", "SIGFPE", "SIGABRT", "SIGBUS", "SIGILL", "SIGINT", "SIGCHLD")
_CHUNK = 65_536
_QUIET_MS = 50
"""How long nothing more must come before a stack is taken to be complete, in milliseconds."""


def wanted_signal(environ: Mapping[str, str] | None = None) -> int | None:
    """Return the signal that the environment names, `SIGUSR2` by default; None when it is switched off.

    Raises:
        ValueError: There is no such signal, or it is not to be used so.
    """
    text = (os.environ if environ is None else environ).get(VARIABLE, "").strip() or DEFAULT
    if text.lower() in _OFF:
        return None
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    try:
        number = signal.Signals(int(text)) if text.isdigit() else signal.Signals[name]
    except (KeyError, ValueError):
        number = None
    if number is None or number.name in _NEVER:
        raise ValueError(
            f"{VARIABLE} must name a signal that is free, such as {DEFAULT}, or be 'none'; got {text!r}"
        )
    return int(number)


def is_handled(number: int) -> bool:
    """Return whether the program does something with a signal: handles it, natively too, or ignores it."""
    if signal.getsignal(number) is not signal.SIG_DFL:
        return True
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False  # Not Linux: only Python's own handlers are known.
    for line in status.splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


class DumpOnSignal:
    """Writes `explain()` to stderr each time the signal comes, until `close`.

    It is an observer as well: it has to hear of the main thread's stalls.

    Args:
        number: The signal.
        explain: Returns the text, on a thread of its own.

    Raises:
        ValueError: The program handles that signal already, or this is not the main thread.
    """

    def __init__(self, number: int, explain: Callable[[], str]) -> None:
        if is_handled(number):
            raise ValueError(f"{signal.Signals(number).name} has a handler already")
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("only the main thread can handle signals")
        self.number = number
        self._explain = explain
        self._thread: threading.Thread | None = None
        self._read = self._write = -1
        signal.signal(number, self._handle)
        self._start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Give the signal back and end the thread; a handler that the program has set since stays."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        theirs = signal.getsignal(self.number)
        faulthandler.unregister(self.number)
        if threading.current_thread() is threading.main_thread():
            ours = theirs == self._handle
            # One that was set since has been undone by the line before the last.
            signal.signal(self.number, signal.SIG_DFL if ours or theirs is None else theirs)
        write = self._write
        self._write = -1
        os.close(write)  # The thread sees the end of the pipe.
        thread.join(timeout_s)

    def on_event(self, event: Event) -> None:
        """Let the native handler ask by itself while the main thread's loop is stalled."""
        if not isinstance(event, (LoopStalled, LoopRecovered)) or self._thread is None:
            return
        if event.report.thread_id == threading.main_thread().ident:
            self._register(is_blocked=isinstance(event, LoopStalled))

    def after_fork_in_child(self) -> None:
        """Begin anew: the pipe is the parent's, and its thread does not run here."""
        if self._thread is not None:
            os.close(self._read)
            os.close(self._write)
            self._start()

    def _start(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)  # A handler must never wait.
        self._thread = threading.Thread(target=self._run, args=(self._read,), name=THREAD_NAME, daemon=True)
        self._thread.start()
        self._register(is_blocked=False)

    def _register(self, is_blocked: bool) -> None:
        """Register the native handler; when it is registered already, only its options change."""
        if signal.getsignal(self.number) == self._handle:  # Else the program has set its own since.
            file = self._write if is_blocked else _stderr()
            faulthandler.register(self.number, file=file, all_threads=False, chain=not is_blocked)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._write < 0:  # Closed by a thread that could not give the signal back.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        try:
            os.write(self._write, b"\n")
        except OSError:
            pass  # So many have been asked for that one more makes no difference, or it is closed.

    def _run(self, read: int) -> None:
        poll = select.poll()
        poll.register(read, select.POLLIN)
        try:
            while text := os.read(read, _CHUNK):
                _write_to_stderr(text)
                if not any(event & select.POLLIN for _, event in poll.poll(_QUIET_MS)):
                    guarded("a dump", self._write_explanation)
        finally:
            os.close(read)

    def _write_explanation(self) -> None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
        name = signal.Signals(self.number).name
        heading = f"=== instrumented-sessions: {name} in process {os.getpid()} at {at} ==="
        _write_to_stderr(f"{heading}\n{self._explain()}\n".encode(errors="replace"))


def _stderr() -> int:
    try:
        return sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
    except (OSError, ValueError):
        return 2


def _write_to_stderr(text: bytes) -> None:
    try:
        while text:
            text = text[os.write(_stderr(), text) :]
    except OSError:
        pass  # Nobody listens.
