"""Puts the demo together, and takes it apart again in a bounded time."""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ..manager import SessionManager
from ..telemetry import setup
from ..telemetry.recorder import Recorder
from . import extras
from .dashboard import Dashboard, check_port
from .fleet import Fleet
from .load import Load
from .progress import ProgressLine, describe
from .scene import Scene
from .summary import (
    describe_loops,
    describe_transports,
    latest_reports,
    summarise_loops,
    summarise_transports,
)

HEADLESS_DURATION_S = 20.0
"""How long the demo lasts without a person when no duration is given, in seconds."""

CAPACITY_EVENTS = 50_000
"""How many events the summary can be made from; some ten minutes of the demo."""

_LOOK_INTERVAL_S = 0.25
_LOAD_END_S = 1.5  # Longer than the longest stall of a loop.
_TELEMETRY_END_S = 1.0


@dataclass(frozen=True)
class DemoOptions:
    """What a person can choose.

    Attributes:
        duration_s: Seconds from the first request; None: until a signal, or `HEADLESS_DURATION_S` when
            headless.
        headless: Without a person: no live line, and it ends by itself.
        healthy: Without the slow, stalling and dying parts.
        seed: Where all randomness starts.
        port: Of the dashboard; 0: any that is free.
        metrics_port: Of the Prometheus metrics; 0: any that is free.
    """

    duration_s: float | None = None
    headless: bool = False
    healthy: bool = False
    seed: int = 0
    port: int = 0
    metrics_port: int = 0

    @property
    def limit_s(self) -> float:
        """How long the load lasts, in seconds; infinite until a signal."""
        if self.duration_s is not None:
            return self.duration_s
        return HEADLESS_DURATION_S if self.headless else float("inf")


def run_demo(options: DemoOptions, *, out: TextIO | None = None, err: TextIO | None = None) -> int:
    """Run the demo; call it from the main thread, which handles signals.

    Ends after its duration, or with SIGINT or SIGTERM; a second signal kills it at once.

    Args:
        options: What to run.
        out: Where addresses and the summary go; default standard output.
        err: Where progress goes; default standard error.

    Returns:
        0 when it ended as it should, a signal included; 1 when agents met an error
        that nobody planned, or did not end.

    Raises:
        Problem: A part is missing, a port is taken, or a process did not start.
    """
    extras.require("the demo", "otel", "prometheus", "dashboard")
    # Warnings about slow sessions are the demo's daily bread: the dashboard gets them, not the terminal.
    logging.getLogger().addHandler(logging.NullHandler())
    with _stopping_on_signals() as stop, tempfile.TemporaryDirectory(prefix="sessions-demo-") as directory:
        return _play(options, Path(directory), stop, out or sys.stdout, err or sys.stderr)


def _play(options: DemoOptions, directory: Path, stop: threading.Event, out: TextIO, err: TextIO) -> int:
    scene = Scene(healthy=options.healthy, seed=options.seed)
    recorder = Recorder(CAPACITY_EVENTS)
    progress = ProgressLine(err, live=not options.headless)
    check_port(options.metrics_port, "--metrics-port")  # setup() would only log that it is taken.
    with ExitStack() as stack:  # Left in reverse: manager, telemetry, servers, dashboard.
        dashboard = stack.enter_context(Dashboard(directory, port=options.port, stop=stop))
        fleet = stack.enter_context(Fleet(scene.http_servers(), directory, stop))
        address = dashboard.wait_for_address()
        if stop.is_set():
            return 0
        telemetry = setup(
            service_name="sessions-demo",
            otlp_endpoint=address,
            prometheus_port=options.metrics_port,
        )
        stack.callback(telemetry.close, _TELEMETRY_END_S)
        errlog = stack.enter_context((directory / "stdio.log").open("w"))
        manager = stack.enter_context(SessionManager(scene.settings(), observers=[recorder]))
        transports = scene.transports(fleet.url, errlog)
        load = Load(manager, transports, seed=options.seed, healthy=options.healthy, stop=stop)
        out.write(f"dashboard: {address}\n")
        out.write(f"metrics:   http://127.0.0.1:{telemetry.prometheus_port}/metrics\n")
        if not options.headless:
            out.write("Ctrl-C ends the demo.\n")
        out.flush()
        load.start()
        _watch(manager, recorder, progress, options.limit_s, stop)
        stop.set()
        progress.clear()
        statistics, events = manager.statistics(), recorder.events
    all_ended = load.join(_LOAD_END_S)  # Closing the manager has freed whoever still waited.
    parts = statistics.by_transport  # Without those that nobody has asked for yet.
    counters = {name: parts[name].counters if name in parts else {} for name in transports}
    out.write(f"\n{describe_transports(summarise_transports(counters, events))}\n")
    out.write(f"\n{describe_loops(summarise_loops(events))}\n")
    out.write(f"\n{_describe_errors(load.errors, fleet.restarts)}\n")
    if recorder.dropped:
        out.write(f"Lock waits and stalls are those of the last {len(events)} events.\n")
    for error in load.unexpected[:3]:
        err.write(f"an agent met an error that nobody planned: {error!r}\n")
    if not all_ended:
        err.write(f"agents still run {_LOAD_END_S:g} s after their manager was closed\n")
    return 0 if all_ended and not load.unexpected else 1


def _describe_errors(errors: Mapping[tuple[str, str], int], restarts: int) -> str:
    """Say what the agents met, and how often a server came back."""
    met = ", ".join(f"{name} {error} {count}" for (name, error), count in sorted(errors.items()))
    return f"Agents met: {met or 'no errors'}. Servers started again: {restarts}."


def _watch(
    manager: SessionManager, recorder: Recorder, progress: ProgressLine, limit_s: float, stop: threading.Event
) -> None:
    """Show how it goes until `limit_s` seconds have passed or `stop` is set."""
    began_at = time.monotonic()
    while (elapsed_s := time.monotonic() - began_at) < limit_s:
        reports = latest_reports(recorder.events)
        ongoing = [f"{report.loop}: {report.culprit or report.cause}" for report in reports if report.ongoing]
        sessions = {str(state): count for state, count in manager.statistics().sessions.items()}
        progress.show(
            describe(elapsed_s, sessions, manager.hangs(), len(reports), ongoing[-1] if ongoing else "")
        )
        if stop.wait(min(_LOOK_INTERVAL_S, limit_s - elapsed_s)):
            return


@contextmanager
def _stopping_on_signals() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; the second has its usual effect."""
    stop = threading.Event()
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: object) -> None:
        stop.set()
        for each in usual:
            signal.signal(each, signal.SIG_DFL)

    for number in usual:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
