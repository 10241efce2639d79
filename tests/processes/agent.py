"""An agent that is about to be ended: run by the tests in a process of its own.

Arguments: what it does, and the command line of its stdio server. It prints `ready` when it is ready.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from instrumented_sessions import SessionClosedError, SessionManager, Settings
from instrumented_sessions.transports import StdioTransport

ENOUGH_TO_BLOCK = "x" * 1_000_000
FOREVER_S = 3600.0


def say_when_it_waits(session: Any) -> None:
    """Print `ready` as soon as a call on the session waits for its answer."""

    def watch() -> None:
        while not session.in_flight:
            threading.Event().wait(0.001)
        print("ready", flush=True)

    threading.Thread(target=watch, name="watch").start()


def hang(session: Any) -> None:
    """Wait for an answer that does not come."""
    session.call_tool("echo", {"text": ENOUGH_TO_BLOCK}, timeout_s=FOREVER_S)


def interrupted(manager: SessionManager, hung: Any, fine: StdioTransport) -> None:
    """Be interrupted in a wait, and go on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    other = manager.session(fine)
    say_when_it_waits(hung)
    try:
        hang(hung)
    except KeyboardInterrupt:
        assert manager.hangs() == []
        other.call_tool("echo", {"text": "after all"})
        print("went on", flush=True)


def terminated(hung: Any) -> None:
    """Be asked to end in a wait, by a handler as servers of all kinds have one."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
    say_when_it_waits(hung)
    hang(hung)


def leave_a_daemon(hung: Any) -> None:
    """End while a daemon thread waits."""

    def wait() -> None:
        try:
            hang(hung)
        except SessionClosedError:
            print("told", flush=True)

    threading.Thread(target=wait, name="hung", daemon=True).start()
    while not hung.in_flight:
        threading.Event().wait(0.001)
    print("ready", flush=True)


def main() -> None:
    what, *command = sys.argv[1:]
    manager = SessionManager(Settings(close_timeout_s=0.5, open_timeout_s=60.0))
    session = manager.session(StdioTransport(id="one", command=command[0], args=command[1:]))
    if what == "interrupted":
        good = StdioTransport(id="two", command=sys.executable, args=[command[1], "good"])
        interrupted(manager, session, good)
    elif what == "terminated":
        terminated(session)
    elif what == "daemon":
        leave_a_daemon(session)
    elif what == "vanishes":
        print("ready", flush=True)
        os._exit(0)
    else:
        print("ready", flush=True)
        threading.Event().wait(FOREVER_S)


if __name__ == "__main__":
    main()
