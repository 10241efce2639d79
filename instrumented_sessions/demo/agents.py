"""The demonstration's agents without its dashboard, for the compose stack: they report where `OTEL_*` says.

`python -m instrumented_sessions.demo.agents` runs until a signal; `/metrics` answers on 127.0.0.1:9464.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from ..manager import SessionManager
from ..telemetry import setup
from .fleet import Fleet
from .load import Load
from .scene import Scene

METRICS_PORT = 9464
"""The usual port of OpenTelemetry's metrics for Prometheus; the container's health check asks there."""


def main(metrics_port: int = METRICS_PORT) -> int:
    """Run until SIGINT or SIGTERM; return the exit code."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    scene = Scene(healthy=False, seed=0)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sessions-agent-")))
        fleet = stack.enter_context(Fleet(scene.http_servers(), directory, stop))
        telemetry = setup(prometheus_port=metrics_port)
        stack.callback(telemetry.close, 2.0)
        errlog = stack.enter_context((directory / "stdio.log").open("w"))
        manager = stack.enter_context(SessionManager(scene.settings()))
        transports = scene.transports(fleet.url, errlog)
        load = Load(manager, transports, seed=scene.seed, healthy=scene.healthy, stop=stop)
        load.start()
        sys.stdout.write(f"metrics: http://127.0.0.1:{telemetry.prometheus_port}/metrics\n")
        sys.stdout.flush()
        stop.wait()
    for error in load.unexpected[:3]:
        sys.stderr.write(f"an agent met an error that nobody planned: {error!r}\n")
    return 1 if load.unexpected else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
