"""An agent that forks with warm sessions: run by the tests in a process of its own.

Arguments: the file for the answers (one JSON object), the address of an HTTP server, the command line of a
stdio server that tells its process id. What the child sees comes through a pipe.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

from instrumented_sessions import SessionManager
from instrumented_sessions.transports import StdioTransport, StreamableHTTPTransport


def tell(session: Any, tool: str) -> str:
    return str(session.call_tool(tool, {}, timeout_s=60.0).content[0].text)


def look(manager: SessionManager, sessions: list[Any]) -> dict[str, Any]:
    """Use the sessions, and say what is seen."""
    stdio, http = sessions
    return {
        "stdio": tell(stdio, "pid"),
        "http": tell(http, "whoami"),
        "generations": [session.generation for session in sessions],
        "calls": manager.statistics().counters["calls_ok"],
        "openings": manager.statistics().counters["openings_ok"],
    }


def main() -> None:
    file, address, *command = sys.argv[1:]
    manager = SessionManager()
    transports = [
        StdioTransport(id="stdio", command=command[0], args=command[1:]),
        StreamableHTTPTransport(id="http", url=address, mode="legacy"),
    ]
    sessions = [manager.session(transport) for transport in transports]
    seen = {"before": look(manager, sessions)}
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of every fork with threads.
        child = os.fork()
    if child == 0:
        found = look(manager, sessions)
        found["handles"] = all(
            manager.session(transport) is session
            for transport, session in zip(transports, sessions, strict=True)
        )
        os.write(writer, json.dumps(found).encode())
        sys.exit()  # As a program ends that knows nothing of forks: with all its clean-up.
    os.close(writer)
    with os.fdopen(reader) as pipe:
        seen["child"] = json.loads(pipe.read())
    seen["status"] = os.waitpid(child, 0)[1]  # type: ignore[assignment]
    seen["after"] = look(manager, sessions)
    manager.close()
    with open(file, "w", encoding="utf-8") as out:
        json.dump(seen, out)
    print("ready", flush=True)


if __name__ == "__main__":
    main()
