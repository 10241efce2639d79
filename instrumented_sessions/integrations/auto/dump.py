"""On a signal, writes what waits and all stacks to stderr.

The signal must work while the main thread is blocked, when no Python handler would run. So its handler is
`faulthandler`'s, which needs no interpreter: it writes the stack of the thread that was interrupted, usually
the main one, into a pipe. A thread of ours waits in `splice`, by which the kernel itself passes that on to
stderr, also while native code holds the GIL. As soon as that thread can run, it adds the explanation and the
stacks of all threads. These are read with the GIL held: `faulthandler` could read them at once, but reading
the frames of a running thread has crashed programs.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ...settings import ENV_PREFIX
from .hooks import guarded

VARIABLE = f"{ENV_PREFIX}DUMP_SIGNAL"
DEFAULT = "SIGUSR2"
THREAD_NAME = "instrumented-sessions-dump"
_OFF = frozenset({"none", "off", "0", "false", "no"})
_CHUNK = 65_536
_QUIET_MS = 50
"""How long nothing more must come before a stack is taken to be complete, in milliseconds."""


def wanted_signal(environ: dict[str, str] | os._Environ[str] | None = None) -> int | None:
    """Return the signal that the environment names, `SIGUSR2` by default; None when it is switched off.

    Raises:
        ValueError: There is no such signal, or it cannot be handled.
    """
    text = (os.environ if environ is None else environ).get(VARIABLE, "").strip() or DEFAULT
    if text.lower() in _OFF:
        return None
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    number = int(text) if text.isdigit() else getattr(signal, name, None)
    if number is None or number not in signal.valid_signals():
        raise ValueError(f"{VARIABLE} must name a signal, such as {DEFAULT}, or be 'none'; got {text!r}")
    if number in (
        signal.SIGKILL,
        signal.SIGSTOP,
        signal.SIGSEGV,
        signal.SIGFPE,
        signal.SIGABRT,
        signal.SIGBUS,
    ):
        raise ValueError(f"{VARIABLE} cannot be {text}, which no program may handle so")
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
    """Writes `explain()` and all stacks to stderr each time the signal comes, until `close`.

    Args:
        number: The signal.
        explain: Returns the text that comes first.

    Raises:
        ValueError: The program handles that signal already.
    """

    def __init__(self, number: int, explain: Callable[[], str]) -> None:
        if is_handled(number):
            raise ValueError(f"{signal.Signals(number).name} has a handler already")
        self.number = number
        self._explain = explain
        self._thread: threading.Thread | None = None
        self._start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Give the signal back and end the thread; a handler that the program has set since stays."""
        if self._thread is not None:
            self._unregister()
            os.close(self._write)  # The thread sees the end of the pipe.
            self._thread.join(timeout_s)
            self._thread = None

    def after_fork_in_child(self) -> None:
        """Begin anew: the pipe is the parent's, and its thread does not run here."""
        if self._thread is None:
            return
        self._thread = None
        self._unregister()
        os.close(self._read)
        os.close(self._write)
        if not is_handled(self.number):  # By the program, since.
            self._start()

    def _start(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)  # A handler must never wait.
        faulthandler.register(self.number, file=self._write, all_threads=False, chain=False)
        self._thread = threading.Thread(target=self._run, args=(self._read,), name=THREAD_NAME, daemon=True)
        self._thread.start()

    def _unregister(self) -> None:
        theirs = signal.getsignal(self.number)
        faulthandler.unregister(self.number)
        if theirs not in (signal.SIG_DFL, None) and threading.current_thread() is threading.main_thread():
            signal.signal(self.number, theirs)  # Set by the program since; the line before has undone it.

    def _run(self, read: int) -> None:
        try:
            while _pass_on(read):
                while _has_more(read) and _pass_on(read):
                    pass
                guarded("a dump", self._write_all)
        finally:
            os.close(read)

    def _write_all(self) -> None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
        name = signal.Signals(self.number).name
        text = f"\n=== instrumented-sessions: {name} in process {os.getpid()} at {at} ===\n"
        text += f"{self._explain()}\n"
        _write(text.encode(errors="replace"))


def _stderr() -> int:
    try:
        return sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
    except (OSError, ValueError):
        return 2


def _pass_on(read: int) -> bool:
    """Wait for what the handler writes and pass it on to stderr; False at the end of the pipe."""
    try:
        return os.splice(read, _stderr(), _CHUNK) > 0  # type: ignore[attr-defined,unused-ignore]  # Linux only.
    except (AttributeError, OSError):
        pass  # Not Linux, or a stderr that cannot be spliced to, such as a file opened for appending.
    text = os.read(read, _CHUNK)
    _write(text)
    return bool(text)


def _has_more(read: int) -> bool:
    poll = select.poll()
    poll.register(read, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(_QUIET_MS))


def _write(text: bytes) -> None:
    try:
        while text:
            text = text[os.write(_stderr(), text) :]
    except OSError:
        pass  # Nobody listens.
