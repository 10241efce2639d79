"""Serves what a process knows of itself on a loopback address, from threads that no loop can block.

Only this machine can reach it. So that no web page can either, the `Host` must name this machine, against
DNS rebinding, and requests that a browser makes for another site are refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from ...chain import BlockingChain
from ...events import StallReport
from ...settings import ENV_PREFIX, check_limit_s
from .hooks import note_failure
from .process import ProcessView, all_stacks

VARIABLE = f"{ENV_PREFIX}DIAGNOSTICS"
SERVICE = "instrumented-sessions diagnostics"
"""What `/healthz` says it is."""

THREAD_NAME = "instrumented-sessions-diagnostics"
_OFF = frozenset({"none", "off", "false", "no"})
_REST_S = 0.1
_REQUEST_LIMIT_S = 10.0
_TEXT, _JSON = "text/plain; charset=utf-8", "application/json"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Answer(NamedTuple):
    """What is sent back."""

    body: str
    content_type: str = _TEXT
    status: int = 200


def wanted_address(environ: Mapping[str, str] | None = None) -> tuple[str, int] | None:
    """Return where to listen; by default any free port of 127.0.0.1, None when it is switched off.

    Raises:
        ValueError: It is no address, or not one of this machine's own.
    """
    text = (os.environ if environ is None else environ).get(VARIABLE, "").strip()
    if text.lower() in _OFF:
        return None
    host, _, port = text.rpartition(":") if ":" in text else ("", "", text)
    host = host.strip("[]") or "127.0.0.1"
    if (port and not (port.isascii() and port.isdigit() and int(port) < 65_536)) or not _is_loopback(host):
        raise ValueError(
            f"{VARIABLE} must be a port, a loopback address such as 127.0.0.1:9465, or 'none'; got {text!r}"
        )
    return host, int(port or 0)


class DiagnosticsServer:
    """Answers `/explain`, `/hangs`, `/stalls`, `/statistics`, `/stacks`, `/metrics` and `/healthz`.

    Args:
        view: What the process knows of itself.
        host: A loopback address.
        port: Where to listen; 0 takes a free one, see `address`.
        metrics: Returns metrics in Prometheus' text form; None when there are none.

    Raises:
        OSError: The port is taken.
    """

    def __init__(
        self, view: ProcessView, host: str, port: int, metrics: Callable[[], str] | None = None
    ) -> None:
        self._routes: dict[str, Callable[[Mapping[str, list[str]]], Answer]] = {
            "/": lambda _: _as_json({"service": SERVICE, "pid": os.getpid(), "paths": sorted(self._routes)}),
            "/healthz": lambda _: _as_json({"service": SERVICE, "pid": os.getpid()}),
            "/explain": lambda _: Answer(view.explain() + "\n"),
            "/hangs": lambda query: _as_json(
                [chain_as_data(chain) for chain in view.hangs(_older_than(query))]
            ),
            "/stalls": lambda _: _as_json([stall_as_data(report) for report in view.stalls()]),
            "/statistics": lambda _: _as_json(view.statistics()),
            "/stacks": lambda _: Answer(all_stacks() + "\n"),
            "/metrics": lambda _: _metrics(metrics),
        }
        self._host = host
        self._start(port)

    @property
    def address(self) -> str:
        """Where it listens, as a URL."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.server_port}"

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop listening and end the thread."""
        self._server.wake_to_end(timeout_s)
        self._thread.join(timeout_s)
        self._server.server_close()

    def after_fork_in_child(self) -> None:
        """Listen on a port of its own: the parent's socket, and its thread, stay the parent's."""
        self._server.socket.close()
        self._start(0)

    def answer(self, path: str, headers: Message | Mapping[str, str]) -> Answer:
        """Return the answer to a GET; never raises."""
        refusal = _refusal(headers)
        if refusal is not None:
            return refusal
        parts = urlsplit(path)
        route = self._routes.get(parts.path)
        if route is None:
            return Answer(f"there are {' '.join(sorted(self._routes))}\n", status=404)
        try:
            return route(parse_qs(parts.query))
        except ValueError as error:
            return Answer(f"{error}\n", status=400)
        except Exception as error:
            note_failure(f"answering {parts.path}")
            return Answer(f"this failed: {type(error).__name__}\n", status=500)

    def _start(self, port: int) -> None:
        self._server = _Server((self._host, port), self)
        self._thread = threading.Thread(target=self._server.serve, name=THREAD_NAME, daemon=True)
        self._thread.start()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], diagnostics: DiagnosticsServer) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.diagnostics = diagnostics
        self._ending = threading.Event()
        super().__init__(address, _Handler)

    def serve(self) -> None:
        """Serve until `wake_to_end`, without looking up now and then as `serve_forever` does."""
        while not self._ending.is_set():
            try:
                request, address = self.get_request()
            except OSError:
                if self.socket.fileno() < 0:
                    return
                self._ending.wait(_REST_S)  # Out of descriptors, as sick agents are: do not spin.
                continue
            if self._ending.is_set():
                self.shutdown_request(request)
            else:
                try:
                    self.process_request(request, address)
                except RuntimeError:  # The system gives no thread.
                    self.shutdown_request(request)

    def wake_to_end(self, timeout_s: float) -> None:
        """Let `serve` return."""
        self._ending.set()
        with contextlib.suppress(OSError):
            socket.create_connection((self.server_name, self.server_port), timeout_s).close()

    def server_bind(self) -> None:
        """Bind without looking up the host's name, which may take seconds."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever asked has gone away."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_LIMIT_S
    server: _Server

    def do_GET(self) -> None:
        answer = self.server.diagnostics.answer(self.path, self.headers)
        body = answer.body.encode(errors="replace")
        self.send_response(answer.status)
        for name, value in (
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: stderr is the program's."""


def chain_as_data(chain: BlockingChain) -> dict[str, Any]:
    """Return a chain as plain data, with the sentence that explains it."""
    data = dataclasses.asdict(chain)
    data["key"] = None if chain.key is None else chain.key._asdict()
    return {"summary": str(chain), **data}


def stall_as_data(report: StallReport) -> dict[str, Any]:
    """Return a stall as plain data."""
    return {
        "loop": report.loop,
        "thread_id": report.thread_id,
        "started_at": report.started_at,
        "duration_s": report.duration_s,
        "cause": str(report.cause),
        "blames_code": report.cause.blames_code,
        "culprit": None if report.culprit is None else report.culprit._asdict(),
        "task": report.task,
        "stacks": [
            {"frames": [str(frame) for frame in sample.frames], "count": sample.count}
            for sample in report.stacks
        ],
    }


def _as_json(data: object) -> Answer:
    return Answer(json.dumps(data, default=str) + "\n", _JSON)


def _metrics(metrics: Callable[[], str] | None) -> Answer:
    if metrics is None:
        return Answer("metrics need: pip install 'instrumented-sessions[prometheus]'\n", status=501)
    return Answer(metrics(), _PROMETHEUS)


def _older_than(query: Mapping[str, list[str]]) -> float:
    return check_limit_s(float(query.get("older_than_s", ["0"])[0]), "older_than_s")


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refusal(headers: Message | Mapping[str, str]) -> Answer | None:
    host = headers.get("Host", "")
    try:
        parts = urlsplit(f"//{host}")
        is_ours = (
            parts.username is None and not parts.path and _is_loopback((parts.hostname or "").rstrip("."))
        )
    except ValueError:
        is_ours = False
    if not is_ours:
        return Answer("this server is another one\n", status=421)
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return Answer("requests from other sites are refused\n", status=403)
    if headers.get("Sec-Fetch-Site", "none") in ("cross-site", "same-site"):
        return Answer("requests from other sites are refused\n", status=403)
    return None
