"""`setup()`: exporters for programs that have none, and a handle that closes them within a limit."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from .. import live
from ..observer import AMBIENT
from . import environment

if TYPE_CHECKING:
    from .export_health import ExportHealth
    from .otlp import Signal
    from .prometheus import MetricsServer, PrometheusObserver

logger = logging.getLogger(__name__)

DROPPED_AS = "otlp"
"""The `observer` label of what the exporters drop."""

_EXIT_TIMEOUT_S = 3.0


class Telemetry:
    """What `setup()` started; close it before the program ends, or let the interpreter's exit do so."""

    def __init__(self) -> None:
        self._signals: list[Signal] = []
        self._endpoint: str | None = None
        self._service_name: str | None = None
        self._health: ExportHealth | None = None
        self._prometheus: PrometheusObserver | None = None
        self._server: MetricsServer | None = None
        self._exports = False
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        server = f", {self._server!r}" if self._server else ""
        return f"<Telemetry {state}, exports {', '.join(self.exports) or 'nothing'}{server}>"

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def exports(self) -> tuple[str, ...]:
        """The signals that are exported over OTLP by an SDK of ours; the program's own SDK has the others."""
        return tuple(signal.name for signal in self._signals)

    @property
    def prometheus_port(self) -> int | None:
        """Where `/metrics` is served; None when it is not."""
        return self._server.port if self._server else None

    def read_live(self) -> live.Reading:
        """Return how many spans and logs were dropped; called by `live`."""
        return live.Reading(dropped={DROPPED_AS: sum(signal.dropped for signal in self._signals)})

    def close(self, timeout_s: float = 5.0) -> bool:
        """Export what is queued and stop, within `timeout_s` seconds whatever the collector does.

        May be called twice. Managers go on; `setup()` may be called again.

        Returns:
            Whether everything ended in time; what did not is left to daemon threads, and dropped.
        """
        with _lock:
            if self._closed:
                return True
            self._closed = True
        atexit.unregister(self._at_exit)
        deadline = time.monotonic() + timeout_s
        threads = [
            threading.Thread(
                target=_stop, args=(signal,), name=f"instrumented-sessions-close-{signal.name}", daemon=True
            )
            for signal in self._signals
        ]
        for thread in threads:
            thread.start()
        if self._prometheus is not None:
            AMBIENT.remove(self._prometheus)
        if self._server is not None:
            self._server.close(max(0.0, deadline - time.monotonic()))
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        live.retire(self)
        ended = not any(thread.is_alive() for thread in threads)
        if not ended:
            for signal in self._signals:
                signal.abort()
        elif self._health is not None:
            self._health.remove()
        return ended

    def _export(self, service_name: str | None, endpoint: str | None) -> None:
        """Export every signal for which the program has no SDK of its own."""
        if self._exports:
            if endpoint not in (None, self._endpoint) or service_name not in (None, self._service_name):
                logger.warning(
                    "setup() already exports to %s; close() it first to change that",
                    self._endpoint or "OTEL_*",
                )
            return
        if environment.disabled():
            return
        from . import otlp

        self._exports, self._endpoint, self._service_name = True, endpoint, service_name
        self._health = otlp.EXPORT_HEALTH
        self._health.install(endpoint)
        about = otlp.resource(service_name)
        for signal in otlp.SIGNALS:
            wanted = environment.wants_otlp(signal.name, endpoint)
            if wanted and signal.start(endpoint, about):
                self._signals.append(signal)
            elif wanted:
                logger.info("%s go to the program's own SDK, not to one of ours", signal.name)

    def _serve(self, port: int, host: str) -> None:
        """Serve `/metrics`, if the port is free."""
        if self._server is not None:
            if port not in (0, self._server.port):
                logger.warning(
                    "setup() already serves metrics on port %s; close() it first to change that",
                    self._server.port,
                )
            return
        from .prometheus import MetricsServer, PrometheusObserver

        if self._prometheus is None:
            self._prometheus = PrometheusObserver()
        AMBIENT.add(self._prometheus)
        try:
            self._server = MetricsServer(port, host, registry=self._prometheus.registry)
        except OSError as error:
            logger.warning("no Prometheus metrics: %s:%s cannot be listened on (%s)", host, port, error)

    def _begin_in_child(self) -> None:
        """Begin anew after a fork: a new instance id, counters at zero, no socket shared with the parent."""
        if self._server is not None:
            self._server.abandon()
            self._server = None
        if self._signals:
            from . import otlp

            otlp.EXPORT_HEALTH.install(self._endpoint)
            about = otlp.fresh_instance()
            for signal in self._signals:
                if (
                    signal.name == "metrics"
                ):  # The SDK's lock may have been held by a collection in the parent:
                    restart = threading.Thread(  # should it hang for that, it hangs alone.
                        target=_restart,
                        args=(signal, self._endpoint, about),
                        name="instrumented-sessions-restart",
                        daemon=True,
                    )
                    restart.start()
                else:
                    _restart(signal, self._endpoint, about)
        live.register(self)

    def _at_exit(self) -> None:
        try:
            self.close(_EXIT_TIMEOUT_S)
        except RuntimeError:  # Some Pythons start no thread this late.
            logger.debug("telemetry was not flushed at exit", exc_info=True)


_lock = threading.RLock()  # Protects the one below, and who closes it.
_current: Telemetry | None = None
_fork_hook_installed = False


def setup(
    *,
    service_name: str | None = None,
    otlp_endpoint: str | None = None,
    prometheus_port: int | None = None,
    prometheus_host: str = "127.0.0.1",
) -> Telemetry:
    """Export what all managers of this process report, existing ones included.

    Adds an OpenTelemetry SDK with OTLP/HTTP exporters for each of traces, metrics and logs that has no
    provider yet; one that the program has set is never replaced. Spans are exported every 0.2 s and
    metrics every 5 s, unless `OTEL_BSP_SCHEDULE_DELAY` or `OTEL_METRIC_EXPORT_INTERVAL` say otherwise.

    Calling it again returns the same handle: what is running stays as it is, what was not yet running
    is added. After `close()` it begins anew, and so it does in the child after a fork: with a new
    `service.instance.id` and with histograms and counters at zero.

    While the collector cannot be reached, the exporters' own complaints are kept out of the log: there is
    one line when exports begin to fail, and one when they work again.

    `OTEL_SDK_DISABLED` and `OTEL_*_EXPORTER` are heeded: `none` leaves a signal out, `otlp` is what happens
    anyway, and `prometheus` serves metrics at `OTEL_EXPORTER_PROMETHEUS_HOST` and `_PORT` (127.0.0.1:9464).
    Another value, and a protocol other than `http/protobuf`, gets a warning and no export of that signal.
    `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=base2_exponential_bucket_histogram` sends
    exponential histograms over OTLP; `/metrics` keeps its buckets.

    All of it works with OpenTelemetry 1.30 and later. With 1.34 and before, log records have no field
    for an event's name, so it is their attribute `event.name`.

    Args:
        service_name: Default: `OTEL_SERVICE_NAME`.
        otlp_endpoint: The collector's base address, such as `http://127.0.0.1:4318`; `/v1/traces` and so on
            are appended. Default: `OTEL_EXPORTER_OTLP_*`, else `http://localhost:4318`.
        prometheus_port: Serve `/metrics` there, from a thread that answers while every loop is stalled;
            0 takes a free port. A taken port is logged, not raised. Default: do not serve. When it is all
            that is given, and no `OTEL_EXPORTER_OTLP_*ENDPOINT` is set, nothing is exported over OTLP.
        prometheus_host: Address to serve on. Default 127.0.0.1.

    Returns:
        A handle with `close(timeout_s)`, which is also called at the interpreter's exit.

    Raises:
        ImportError: A package is missing; the message says what to install.
    """
    global _current, _fork_hook_installed
    from . import otel

    wants_otlp = otlp_endpoint is not None or prometheus_port is None or environment.names_collector()
    if prometheus_port is None and (address := environment.prometheus_address()) is not None:
        prometheus_host, prometheus_port = address
    with _lock:
        handle = _current if _current is not None and not _current.closed else Telemetry()
        if wants_otlp:
            handle._export(service_name, otlp_endpoint)
        if prometheus_port is not None:
            handle._serve(prometheus_port, prometheus_host)
        if handle is not _current:
            _current = handle
            live.register(handle)
            atexit.register(handle._at_exit)
        if not _fork_hook_installed and hasattr(os, "register_at_fork"):
            _fork_hook_installed = True
            os.register_at_fork(after_in_child=_after_fork)
    otel.install()
    return handle


def _stop(signal: Signal) -> None:
    try:
        signal.stop()
    except Exception:
        logger.warning("closing the export of %s failed", signal.name, exc_info=True)


def _restart(signal: Signal, endpoint: str | None, about: object) -> None:
    try:
        signal.forget()
        signal.start(endpoint, about)  # type: ignore[arg-type]  # A Resource, named only where the SDK is.
    except Exception:
        logger.warning("%s are not exported after a fork", signal.name, exc_info=True)


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # Another thread of the parent may have held it.
    if _current is not None and not _current.closed:
        _current._begin_in_child()
