"""A real MCP server for the tests, on either generation of the SDK, over stdio, streamable HTTP or SSE.

A program of its own; `tests.servers` starts and stops it. Over HTTP it prints its port when it listens.
It notes every request in a journal file, so that a test can tell what reached any of its incarnations,
and stops at a gate that the test holds, so that no test has to sleep.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
from typing import Any

import anyio
import mcp.types as types
import toolbox
import uvicorn
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage

HANDSHAKES = ("initialize", "server/discover")


class Watch:
    """Counts and delays handshakes and notes every request, whatever the transport."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.handshakes = 0

    async def see(self, message: Any) -> bool:
        """Take note of a request or notification; return whether the server may have it."""
        if not isinstance(message, dict) or "method" not in message:
            return True
        method = message["method"]
        self.note(method, (message.get("params") or {}).get("name", ""))
        if method == self.options.refuse:
            return False
        if method in HANDSHAKES:
            self.handshakes += 1
            if self.options.gate:
                await toolbox.pass_gate(self.options.gate, method)
            if self.options.handshake_delay:
                await anyio.sleep(self.options.handshake_delay)
        return True

    def note(self, method: str, name: str) -> None:
        if self.options.journal:
            with open(self.options.journal, "a", encoding="utf-8") as journal:
                journal.write(f"{os.getpid()} {method} {name}".rstrip() + "\n")

    @staticmethod
    def refusal(message: dict[str, Any]) -> dict[str, Any]:
        error = {"code": -32601, "message": "Method not found"}
        return {"jsonrpc": "2.0", "id": message.get("id"), "error": error}


async def serve_stdio(server: Any, watch: Watch) -> None:
    lowlevel = getattr(server, "_lowlevel_server", None) or server._mcp_server
    async with stdio_server() as (read, write), anyio.create_task_group() as group:
        send, receive = anyio.create_memory_object_stream[Any](0)

        async def pump() -> None:
            async with send:
                async for item in read:
                    if isinstance(item, Exception):
                        await send.send(item)
                        continue
                    message = item.message.model_dump(mode="json", by_alias=True, exclude_none=True)
                    if await watch.see(message):
                        await send.send(item)
                    else:
                        refusal = types.JSONRPCError.model_validate(watch.refusal(message))
                        wrap = getattr(types.JSONRPCMessage, "model_validate", None)  # A plain union on 2.x.
                        await write.send(SessionMessage(wrap(refusal) if wrap else refusal))

        group.start_soon(pump)
        await lowlevel.run(receive, write, lowlevel.create_initialization_options())
        group.cancel_scope.cancel()


class WatchedApp:
    """An ASGI middleware that shows each POSTed message to `watch` before the server sees it."""

    def __init__(self, app: Any, watch: Watch) -> None:
        self.app = app
        self.watch = watch

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        try:
            message = json.loads(body)
        except ValueError:
            message = None
        if not await self.watch.see(message):
            answer = json.dumps(self.watch.refusal(message)).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})
            return
        replayed = False

        async def replay() -> Any:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)


def app_of(server: Any, options: argparse.Namespace) -> Any:
    if options.transport == "sse":
        return server.sse_app()
    if hasattr(server, "_lowlevel_server"):  # 2.x takes these here, 1.x in its settings.
        return server.streamable_http_app(json_response=options.json, stateless_http=options.stateless)
    server.settings.json_response = options.json
    server.settings.stateless_http = options.stateless
    return server.streamable_http_app()


async def serve_http(server: Any, watch: Watch) -> None:
    options = watch.options
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", options.port))
    listener.listen(128)
    config = uvicorn.Config(
        WatchedApp(app_of(server, options), watch), log_level="error", timeout_graceful_shutdown=1
    )
    web = uvicorn.Server(config)
    # The kernel queues connections from here on, so the port may be told before the loop accepts.
    print(listener.getsockname()[1], flush=True)
    await web.serve(sockets=[listener])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", choices=["stdio", "http", "sse"], default="stdio")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="answer POSTs with JSON instead of events")
    parser.add_argument("--stateless", action="store_true")
    parser.add_argument("--legacy", dest="refuse", action="store_const", const="server/discover")
    parser.add_argument("--modern", dest="refuse", action="store_const", const="initialize")
    parser.add_argument("--handshake-delay", type=float, default=0.0, metavar="S")
    parser.add_argument("--gate", type=int, default=0, metavar="PORT", help="stop handshakes at this gate")
    parser.add_argument("--journal", default="", metavar="FILE")
    watch = Watch(parser.parse_args())
    logging.disable(logging.CRITICAL)  # 1.x servers complain of every session that is closed.
    server = toolbox.build(lambda: watch.handshakes)
    serve = serve_stdio if watch.options.transport == "stdio" else serve_http
    anyio.run(serve, server, watch)


if __name__ == "__main__":
    main()
