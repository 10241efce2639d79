"""Child processes that never outlive the process that started them.

`python -m instrumented_sessions.demo.leash PARENT_PID MODULE [ARGUMENT ...]` puts itself on the leash
of `PARENT_PID` and becomes `python -m MODULE ARGUMENT ...`.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

POLL_INTERVAL_S = 0.5
"""How often a child looks for its parent where the kernel does not do it, in seconds."""

_LOOK_INTERVAL_S = 0.1
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs `module` on a leash of this process."""
    return [sys.executable, "-m", __name__, str(os.getpid()), module, *arguments]


def start(
    module: str, *arguments: str, log: Path, stdout: IO[bytes] | int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start `module` on a leash of this process, its error output appended to `log`.

    On Linux the leash is held by the calling thread, so call this from one that lives as long as the child
    should. The child is in a session of its own, so that Ctrl-C reaches this process only.
    """
    with log.open("ab") as errors:
        return subprocess.Popen(
            command(module, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=errors,
            start_new_session=True,
        )


def first_line(process: subprocess.Popen[bytes], *, limit_s: float, stop: threading.Event) -> str:
    """Wait for the first line that `process` prints; empty when it ended, or after `limit_s` seconds.

    Also empty when `stop` is set.
    """
    assert process.stdout is not None
    deadline = time.monotonic() + limit_s
    while not stop.is_set() and time.monotonic() < deadline:
        if select.select([process.stdout], [], [], _LOOK_INTERVAL_S)[0]:
            return process.stdout.readline().decode(errors="replace").strip()
    return ""


def last_words(log: Path) -> str:
    """Return what a process said last in `log`, as half a sentence."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f"it said: {lines[-1]}" if lines else "it said nothing"


def end(process: subprocess.Popen[bytes], *, grace_s: float = 0.0) -> None:
    """End `process`: ask it with SIGTERM, kill its whole group after `grace_s` seconds; 0 kills at once."""
    if process.poll() is None and grace_s > 0:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            pass
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def die_with_parent(parent_pid: int) -> None:
    """Let this process be killed when `parent_pid`, which started it, is gone, however it went.

    The kernel sees to it on Linux, a thread that looks every `POLL_INTERVAL_S` elsewhere.
    """
    if not _ask_kernel():
        threading.Thread(target=_poll, args=(parent_pid,), name="demo-leash", daemon=True).start()
    if os.getppid() != parent_pid:  # It went before the leash was on.
        os._exit(1)


def _ask_kernel() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0)
    except (OSError, AttributeError):  # A libc that cannot be loaded by itself, or without prctl.
        return False


def _poll(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(POLL_INTERVAL_S)
    os._exit(1)


def main(argv: list[str]) -> None:
    """Go on the leash of `argv[0]`, then run the module `argv[1]` with the rest as its arguments."""
    parent_pid, module, *arguments = argv
    die_with_parent(int(parent_pid))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
