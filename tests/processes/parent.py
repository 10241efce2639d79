"""An agent that has a forked child, and waits to be killed: run by the tests in a process of its own.

Argument: the command line of its stdio server. It prints `ready` and the child's process id.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings

from instrumented_sessions import SessionManager
from instrumented_sessions.transports import StdioTransport


def main() -> None:
    command = sys.argv[1:]
    manager = SessionManager()
    manager.session(StdioTransport(id="one", command=command[0], args=command[1:]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of every fork with threads.
        child = os.fork()
    if child:
        print("ready", flush=True)
        print(child, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
