"""Servers that misbehave in one chosen way, on bare sockets, so that they need no SDK to do it.

Each runs in a thread of its own until its `with` block ends. `Raw` is the socket; the functions make
its behaviours. `mcp()` is a correct little server over HTTP whose answer to one method is replaced.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

STDIO = Path(__file__).parent / "raw_stdio.py"
"""A program that misbehaves over stdio; its argument says how, see there."""

LIMIT_S = 15.0


class Request:
    """One HTTP request on a connection."""

    def __init__(
        self,
        connection: socket.socket,
        server: Raw,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
    ) -> None:
        self.connection = connection
        self.headers = headers
        """By their names in lower case."""
        self.server = server
        self.method = method
        self.path = path
        try:
            self.message: Any = json.loads(body)
        except ValueError:
            self.message = None

    @property
    def rpc(self) -> str:
        """The JSON-RPC method; empty when there is none."""
        return self.message.get("method", "") if isinstance(self.message, dict) else ""

    def send(self, text: str | bytes) -> None:
        """Write raw bytes."""
        self.connection.sendall(text.encode() if isinstance(text, str) else text)

    def answer(self, status: int = 200, body: str = "", **headers: str) -> None:
        """Write a whole HTTP response."""
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body.encode())}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines) + "\r\n\r\n" + body)

    def result(self, result: Any) -> None:
        """Write a JSON-RPC result."""
        body = json.dumps({"jsonrpc": "2.0", "id": self.message["id"], "result": result})
        self.answer(200, body, content_type="application/json")

    def error(self, code: int, message: str, status: int = 200) -> None:
        """Write a JSON-RPC error."""
        error = {"code": code, "message": message}
        body = json.dumps({"jsonrpc": "2.0", "id": self.message.get("id"), "error": error})
        self.answer(status, body, content_type="application/json")

    def events(self, text: str = "") -> None:
        """Begin an event stream, and write `text`; it goes on until the connection closes."""
        self.send(f"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{text}")

    def hang(self) -> None:
        """Say nothing more until the server is closed or the client goes away."""
        self.server.wait(self.connection)


Behaviour = Callable[[Request], None]


class Raw:
    """A listening socket whose connections are served by `behaviour`, in threads."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[Request] = []
        """All requests so far."""
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []

    def url(self, path: str = "/mcp", userinfo: str = "") -> str:
        """Return its address."""
        return f"http://{userinfo}127.0.0.1:{self.port}{path}"

    def wait(self, connection: socket.socket) -> None:
        """Wait until this is closed, or `connection` is."""
        try:
            while not self._closing.is_set() and connection.recv(65536):
                pass
        except OSError:
            pass

    def _spawn(self, function: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=function, args=args, name="raw-server", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while (request := self._read(connection)) is not None:
                    self.requests.append(request)
                    self._behaviour(request)
            except OSError:
                pass

    def _read(self, connection: socket.socket) -> Request | None:
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = connection.recv(65536)
            if not chunk:
                return None
            head += chunk
        head, _, body = head.partition(b"\r\n\r\n")
        first, *fields = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
        length = int(headers.get("content-length", 0))
        while len(body) < length:
            body += connection.recv(65536)
        method, path, _ = first.split(" ")
        return Request(connection, self, method, path, headers, body)

    def close(self) -> None:
        """Close all connections; from any thread, as often as one likes."""
        self._closing.set()
        for one in (self._listener, *self._connections):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()

    def __enter__(self) -> Raw:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        for thread in self._threads:
            thread.join(LIMIT_S)


def silent(request: Request) -> None:
    """Accept, and never answer."""
    request.hang()


def status(code: int, body: str = "no", content_type: str = "text/plain", **headers: str) -> Behaviour:
    """Answer every request with this status."""
    return lambda request: request.answer(code, body, content_type=content_type, **headers)


def html(request: Request) -> None:
    """Answer with a web page."""
    request.answer(200, "<html><body>Welcome</body></html>", content_type="text/html; charset=utf-8")


def garbage_json(request: Request) -> None:
    """Say that it is JSON, which it is not."""
    request.answer(200, "}{", content_type="application/json")


def garbage_bytes(request: Request) -> None:
    """Answer with something that is not HTTP."""
    request.send(b"\x00\x01\x02 hello\r\n\r\n")
    request.connection.shutdown(socket.SHUT_RDWR)


def redirect(request: Request) -> None:
    """Send the client to another server."""
    request.answer(307, location="http://elsewhere.invalid/mcp?token=s3cret-in-location")


def accepted(request: Request) -> None:
    """Answer a request with 202, as if it were a notification."""
    request.answer(202)


def closes(request: Request) -> None:
    """Close the connection instead of answering."""
    request.connection.shutdown(socket.SHUT_RDWR)


def keep_alives(request: Request) -> None:
    """Open an event stream on which nothing comes but comments."""
    request.events(": ping\n\n" * 3)
    request.hang()


def mcp(**replaced: Behaviour) -> Behaviour:
    """Speak MCP correctly over streamable HTTP, handshake protocol, except where `replaced` says otherwise.

    Its keys are JSON-RPC methods with `_` for `/`: `tools_call`, `initialize`; and `GET`, `DELETE`.
    """

    def behave(request: Request) -> None:
        special = replaced.get((request.rpc or request.method).replace("/", "_"))
        if special is not None:
            special(request)
        elif request.method == "DELETE":
            request.answer(200)
        elif request.method != "POST":
            request.answer(405)
        elif request.rpc == "initialize":
            info = {"name": "raw", "version": "0"}
            version = request.message["params"]["protocolVersion"]
            request.result({"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info})
        elif request.rpc == "tools/list":
            request.result({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})
        elif request.rpc == "tools/call":
            request.result({"content": [{"type": "text", "text": "ok"}]})
        elif request.rpc == "ping":
            request.result({})
        elif isinstance(request.message, dict) and "id" in request.message:
            request.error(-32601, "Method not found")
        else:
            request.answer(202)

    return behave


def sse(post: Behaviour | None = None) -> Behaviour:
    """Open an event stream of the older protocol; deal with POSTs by `post`, default 202 and no answer."""

    def behave(request: Request) -> None:
        if request.method == "GET":
            request.events("event: endpoint\ndata: /messages\n\n")
            request.hang()
        elif post is not None:
            post(request)
        else:
            request.answer(202)

    return behave
