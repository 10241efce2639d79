"""A real OTLP/HTTP receiver that parses what it is sent, and collectors that do not work."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from instrumented_sessions.telemetry.old_sdk import EVENT_NAME

T = TypeVar("T")


class Collector:
    """Keeps spans, metrics and log records by their resource's attributes."""

    def __init__(self, port: int = 0) -> None:
        self._arrived = threading.Condition()  # Protects what follows.
        self.spans: list[tuple[dict[str, str], Any]] = []
        self.metrics: list[tuple[dict[str, str], Any]] = []
        self.logs: list[tuple[dict[str, str], Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector._receive(self.path, body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="collector")
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def _receive(self, path: str, body: bytes) -> None:
        with self._arrived:
            if path == "/v1/traces":
                for of_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                    about = _strings(of_spans.resource)
                    self.spans += [(about, span) for scope in of_spans.scope_spans for span in scope.spans]
            elif path == "/v1/metrics":
                for of_metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    about = _strings(of_metrics.resource)
                    self.metrics += [
                        (about, metric) for scope in of_metrics.scope_metrics for metric in scope.metrics
                    ]
            elif path == "/v1/logs":
                for of_logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                    about = _strings(of_logs.resource)
                    self.logs += [
                        (about, record) for scope in of_logs.scope_logs for record in scope.log_records
                    ]
            else:
                raise AssertionError(f"unexpected path {path}")
            self._arrived.notify_all()

    def until(self, found: Callable[[], T | None], timeout_s: float = 10.0) -> T:
        """Wait for something to arrive."""
        result: T | None = None

        def there() -> bool:
            nonlocal result
            result = found()
            return result is not None

        with self._arrived:
            assert self._arrived.wait_for(there, timeout_s), "it did not arrive"
        assert result is not None
        return result

    def span(self, name: str) -> tuple[dict[str, str], Any]:
        return self.until(lambda: next((pair for pair in self.spans if pair[1].name == name), None))

    def metric(self, name: str) -> tuple[dict[str, str], Any]:
        return self.until(lambda: next((pair for pair in self.metrics if pair[1].name == name), None))

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()


class BlackHole:
    """Accepts connections and requests, and never answers."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.swallowed = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="black-hole")
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self.swallowed.set()

    def close(self) -> None:
        """Answer no more; whoever hangs in a request gets a closed connection."""
        if self._listener.fileno() == -1:
            return
        self._listener.shutdown(socket.SHUT_RDWR)  # Wakes the thread up.
        self._thread.join(5)
        self._listener.close()
        for connection in self._connections:
            connection.close()


def event_name(record: Any) -> str:
    """What kind of fact a log record is; an attribute where records have no field for it."""
    field: str = getattr(record, "event_name", "")
    return field or next(pair.value.string_value for pair in record.attributes if pair.key == EVENT_NAME)


def _strings(resource: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in resource.attributes}
