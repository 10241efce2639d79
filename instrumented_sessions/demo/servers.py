"""The demo's MCP servers: one program, a name and a fault for each; on mcp 1.x and 2.x alike.

`python -m instrumented_sessions.demo.servers NAME` speaks over stdio. With `--port` it speaks streamable
HTTP on 127.0.0.1 and prints its port on one line as soon as it takes connections.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import random
import socket
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

NAMES = ("weather", "notes", "search", "tickets", "printer")
"""The servers there are; each has the one tool of `TOOLS`."""

TOOLS = {
    "weather": "forecast",
    "notes": "find_note",
    "search": "find_page",
    "tickets": "look_up",
    "printer": "print_page",
}

_HANDSHAKES = {"initialize", "server/discover"}
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class Behaviour:
    """How one server's tool answers: how long it takes, when it stalls, what it refuses.

    Args:
        name: One of `NAMES`.
        seed: Where its randomness starts.
        stall_every: A call in this many blocks the whole server; 0 (default): never.
        stall_s: For how long, in seconds.
        one_at_a_time: Whether a call that comes during another is refused.
    """

    def __init__(
        self,
        name: str,
        *,
        seed: int = 0,
        stall_every: int = 0,
        stall_s: float = 0.0,
        one_at_a_time: bool = False,
    ) -> None:
        self.name = name
        self._random = random.Random(f"{name}-{seed}")
        self._stall_every = stall_every
        self._stall_s = stall_s
        self._one_at_a_time = one_at_a_time
        self._busy = False

    async def answer(self, subject: str) -> str:
        """Answer after a while.

        Raises:
            RuntimeError: The server takes one call at a time and is at one.
        """
        if self._one_at_a_time and self._busy:
            raise RuntimeError(f"{self.name} takes one call at a time")
        self._busy = True
        try:
            if self._stall_every and self._random.randrange(self._stall_every) == 0:
                time.sleep(self._stall_s)  # noqa: ASYNC251 - on purpose, so that the whole server stands still
            low_s, high_s = (0.08, 0.2) if self._one_at_a_time else (0.01, 0.06)
            await asyncio.sleep(self._random.uniform(low_s, high_s))
        finally:
            self._busy = False
        return f"{self.name}: {subject}"


def build(behaviour: Behaviour) -> Any:
    """Return an MCP server of the installed SDK with the one tool of `behaviour`."""
    try:
        server_class = importlib.import_module("mcp.server").MCPServer
    except AttributeError:  # mcp 1.x
        server_class = importlib.import_module("mcp.server.fastmcp").FastMCP
    server = server_class(behaviour.name, log_level="CRITICAL")

    async def tool(subject: str) -> str:
        return await behaviour.answer(subject)

    server.tool(name=TOOLS[behaviour.name], description=f"Ask {behaviour.name} about a subject.")(tool)
    return server


def delay_handshakes(app: _App, delay_s: float) -> _App:
    """Return `app` with a pause of `delay_s` seconds before each answer to a handshake."""

    async def delayed(scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if _method(body) in _HANDSHAKES:
            await asyncio.sleep(delay_s)
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> _Message:
            return unread.pop() if unread else await receive()

        await app(scope, receive_again, send)

    return delayed


def _method(body: bytes) -> str | None:
    try:
        message = json.loads(body)
    except ValueError:
        return None
    return message.get("method") if isinstance(message, dict) else None


def serve_http(server: Any, *, port: int, slow_handshake_s: float = 0.0, die_after_s: float = 0.0) -> None:
    """Serve over streamable HTTP on 127.0.0.1 until killed.

    Args:
        server: What `build` returned.
        port: 0 lets the system choose; the port is printed.
        slow_handshake_s: Seconds before each answer to a handshake.
        die_after_s: Crash after this many seconds; 0 (default): never.
    """
    uvicorn = importlib.import_module("uvicorn")
    app = server.streamable_http_app()
    if slow_handshake_s:
        app = delay_handshakes(app, slow_handshake_s)
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    print(listener.getsockname()[1], flush=True)  # noqa: T201 - a line for the program that started this one
    if die_after_s:
        crash = threading.Timer(die_after_s, os._exit, args=(1,))
        crash.daemon = True
        crash.start()
    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


def main(argv: list[str] | None = None) -> None:
    """Run the server that `argv` (default: the command line) describes, until its client leaves."""
    parser = argparse.ArgumentParser(prog="python -m instrumented_sessions.demo.servers", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--port", type=int, help="speak HTTP on this port; 0: any (default: stdio)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--slow-handshake-s", type=float, default=0.0, help="seconds until a handshake is answered"
    )
    parser.add_argument("--stall-every", type=int, default=0, help="one call in this many stalls; 0: none")
    parser.add_argument("--stall-s", type=float, default=0.0, help="seconds that a stall lasts")
    parser.add_argument("--die-after-s", type=float, default=0.0, help="seconds until it crashes; 0: never")
    parser.add_argument("--one-at-a-time", action="store_true", help="refuse a second call")
    options = parser.parse_args(argv)
    behaviour = Behaviour(
        options.name,
        seed=options.seed,
        stall_every=options.stall_every,
        stall_s=options.stall_s,
        one_at_a_time=options.one_at_a_time,
    )
    server = build(behaviour)
    delay_s = options.slow_handshake_s
    if options.port is None:
        time.sleep(delay_s)  # Nothing reads the handshake yet, so it waits for its answer.
        server.run("stdio")
    else:
        serve_http(server, port=options.port, slow_handshake_s=delay_s, die_after_s=options.die_after_s)


if __name__ == "__main__":
    main()
