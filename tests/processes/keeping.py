"""An agent that closes its session while a forked child lives: run by the tests in a process of its own.

Argument: the command line of its stdio server.
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
    if child == 0:
        signal.pause()
    manager.close()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("ready", flush=True)


if __name__ == "__main__":
    main()
