"""An agent that forks while it closes a manager: run by the tests in a process of its own.

Its child says in one line of JSON what it sees, and exits with 0.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import warnings

from instrumented_sessions import PortalClosedError, Queued, SessionManager, Settings
from instrumented_sessions.events import Event, SessionRequested
from instrumented_sessions.testing import FakeTransport


class Told:
    """An observer that knows when it is told of a request."""

    def __init__(self) -> None:
        self.done = threading.Event()

    def on_event(self, event: Event) -> None:
        if isinstance(event, SessionRequested):
            self.done.set()


def look(closing: SessionManager, open_one: SessionManager, told: Told) -> dict[str, bool]:
    """Say what a manager that was closing and one that was not do in the child."""
    closing.close(timeout_s=3600.0)
    try:
        closing.session(FakeTransport())
        refused = False
    except PortalClosedError:
        refused = True
    open_one.add_observer(Told())  # Whose lock the parent held.
    open_one.session(FakeTransport("other"))
    return {"refused": refused, "told": told.done.wait(60)}


def main() -> None:
    told = Told()
    queued = Queued(told)
    open_one = SessionManager(observers=[queued])
    transport = FakeTransport()
    closing = SessionManager(Settings(close_timeout_s=3600.0))
    session = closing.session(transport)
    transport.calling.close()
    caller = threading.Thread(target=lambda: session.call_tool("echo", {"text": "x"}, timeout_s=3600.0))
    caller.start()
    while not session.in_flight:
        threading.Event().wait(0.001)
    closer = threading.Thread(target=closing.close)
    closer.start()
    while repr(closing).startswith("<SessionManager open"):
        threading.Event().wait(0.001)
    print("ready", flush=True)
    with warnings.catch_warnings(), open_one._observers._lock:
        warnings.simplefilter("ignore")  # Python 3.12 warns of every fork with threads.
        child = os.fork()
    if child == 0:
        print(json.dumps(look(closing, open_one, told)), flush=True)
        queued.close()
        sys.exit()
    status = os.waitpid(child, 0)[1]
    transport.calling.open()
    caller.join()
    closer.join()
    open_one.close()
    sys.exit(status != 0 or not queued._queue.empty())


if __name__ == "__main__":
    main()
