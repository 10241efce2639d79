"""What a connection that the program opened itself is called: a label of few values, free of secrets.

Arguments, paths and queries of a target may hold tokens, so that only what cannot is taken from them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .launchers import launched, launcher_of, name_of

OTHER = "other"
"""The id of what came when there were too many ids."""

MAX_IDS = 100


class Target(NamedTuple):
    """How a connection is labelled."""

    kind: str
    """`stdio`, `sse`, `http`, `websocket`, `memory` or `unknown`."""
    id: str


UNKNOWN = Target("unknown", "unknown")
MEMORY = Target("memory", "memory")


def of_command(command: str, args: Sequence[str] = ()) -> Target:
    """Return the target of a server that is a child process: its program's name, or its script's.

    A launcher is named by what it launches, and by itself where that is not certain.
    """
    program = name_of(command)
    launcher = launcher_of(program)
    if launcher is None:
        return Target("stdio", program or "stdio")
    name, rest = launched(launcher, args)
    return of_command(name, rest) if name else Target("stdio", program)


def of_url(kind: str, url: str) -> Target:
    """Return the target of a server at an address: its host and port, as paths may hold secrets."""
    parts = urlsplit(str(url))
    port = f":{parts.port}" if parts.port is not None else ""
    return Target(kind, f"{parts.hostname}{port}" if parts.hostname else kind)


def of_call(opener: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Target:
    """Return the target of a call of one of the SDK's functions that open a transport."""
    if opener == "stdio_client":
        server = args[0] if args else kwargs["server"]
        return of_command(str(server.command), [str(arg) for arg in server.args])
    kind = {"sse_client": "sse", "websocket_client": "websocket"}.get(opener, "http")
    return of_url(kind, args[0] if args else kwargs["url"])


class Labels:
    """Keeps the number of ids bounded; any thread may call it."""

    def __init__(self, max_ids: int = MAX_IDS) -> None:
        self._max_ids = max_ids
        self._lock = threading.Lock()  # Protects the one below.
        self._ids: set[str] = set()

    def bounded(self, target: Target) -> Target:
        """Return `target`, or one with the id `OTHER` once there are too many."""
        with self._lock:
            if target.id not in self._ids and len(self._ids) >= self._max_ids:
                return target._replace(id=OTHER)
            self._ids.add(target.id)
        return target
