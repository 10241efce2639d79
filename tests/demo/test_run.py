"""The demo from the outside: it runs, reports, ends, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from instrumented_sessions.demo.run import HEADLESS_DURATION_S, DemoOptions
from tests.demo.conftest import StartDemo
from tests.demo.processes import GUARD_S, left_behind, wait_until

TRANSPORTS = ["notes", "printer", "search", "tickets", "weather"]

pytestmark = pytest.mark.timeout(120)


def rows(printed: str) -> dict[str, list[str]]:
    """Return the cells of the table of transports, by transport."""
    lines = [line.split() for line in printed.splitlines()]
    return {cells[0]: cells for cells in lines if cells and cells[0] in TRANSPORTS}


def addresses(demo: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait until `demo` says where its dashboard and its metrics are."""
    assert demo.stdout is not None
    found = [re.fullmatch(r"(?:dashboard|metrics): +(\S+)\n", demo.stdout.readline()) for _ in range(2)]
    assert all(found), demo.stderr and demo.stderr.read()
    dashboard, metrics = (match[1] for match in found if match)
    return dashboard, metrics


def read(url: str) -> str:
    """Return what is at `url`; empty while nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError:
        return ""


def told(dashboard: str, what: str, name: str) -> set[str]:
    """Return the names of what the dashboard was told of by OTLP."""
    answer = json.loads(read(f"{dashboard}/api/v1/{what}") or "{}")
    return {each[name] for each in answer.get(what, [])}


def test_duration_depends_on_who_watches() -> None:
    """Without a person the demo ends by itself; with one it waits for Ctrl-C."""
    assert DemoOptions(headless=True).limit_s == HEADLESS_DURATION_S
    assert DemoOptions().limit_s == float("inf")
    assert DemoOptions(duration_s=3.0).limit_s == 3.0


@pytest.mark.slow
def test_headless_demo_prints_what_it_measured(start_demo: StartDemo) -> None:
    """A demo without a person ends by itself with a table of all transports, and shows its faults."""
    demo = start_demo("--headless", "--duration", "12")
    out, err = demo.communicate(timeout=100)
    assert demo.returncode == 0, out + err
    assert left_behind(demo.pid) == []
    table = rows(out)
    assert sorted(table) == TRANSPORTS
    for cells in table.values():
        requests, hits, openings = (int(cell) for cell in cells[1:4])
        assert requests >= hits
        assert requests > 0
        assert openings > 0
    assert int(table["printer"][7]) > 0, "calls that take turns have to wait"
    assert "sleep_on_the_loop" in out or "compute_on_the_loop" in out
    assert re.search(r"Servers started again: [1-9]", out)  # How often depends on how long the start took.
    assert "Traceback" not in out + err
    assert "\x1b" not in out + err


@pytest.mark.slow
def test_healthy_demo_meets_no_errors(start_demo: StartDemo) -> None:
    """Without the faults nobody meets an error and no server dies."""
    demo = start_demo("--headless", "--healthy", "--duration", "8")
    out, err = demo.communicate(timeout=100)
    assert demo.returncode == 0, out + err
    assert "Agents met: no errors. Servers started again: 0." in out
    assert "_on_the_loop" not in out
    assert sorted(rows(out)) == TRANSPORTS


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_reporting_demo_cleanly(number: signal.Signals, start_demo: StartDemo) -> None:
    """Ctrl-C ends it with a summary and exit code 0, after it reported to dashboard and Prometheus."""
    demo = start_demo()
    dashboard, metrics = addresses(demo)
    wait_until(lambda: "instrumented_sessions_sessions{" in read(metrics))
    wait_until(lambda: told(dashboard, "transports", "transport") >= set(TRANSPORTS), limit_s=60.0)
    wait_until(lambda: told(dashboard, "loops", "loop") >= {"planner", "answers", "portal"}, limit_s=60.0)
    os.kill(demo.pid, number)
    began_at = time.monotonic()
    out, err = demo.communicate(timeout=GUARD_S)
    assert time.monotonic() - began_at < GUARD_S
    assert demo.returncode == 0, out + err
    assert sorted(rows(out)) == TRANSPORTS
    assert "Traceback" not in out + err
    assert left_behind(demo.pid) == []


@pytest.mark.slow
def test_killed_demo_leaves_nothing_behind(start_demo: StartDemo) -> None:
    """A demo that is killed takes its servers and its dashboard along."""
    demo = start_demo("--headless", "--duration", "60")
    addresses(demo)
    wait_until(lambda: len(left_behind(demo.pid)) >= 6)  # The dashboard, three over HTTP, two over stdio.
    demo.kill()
    demo.wait(GUARD_S)
    wait_until(lambda: left_behind(demo.pid) == [])


@pytest.mark.slow
def test_signal_while_it_starts_ends_it(start_demo: StartDemo) -> None:
    """Somebody who stops the demo before it has begun does not wait for it to begin."""
    demo = start_demo()
    wait_until(lambda: left_behind(demo.pid) != [])
    os.kill(demo.pid, signal.SIGINT)
    out, err = demo.communicate(timeout=GUARD_S)
    assert demo.returncode == 0, out + err
    assert "Traceback" not in out + err
    assert left_behind(demo.pid) == []
