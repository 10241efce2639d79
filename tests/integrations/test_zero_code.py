"""An agent that has never heard of us, run as a whole: its telemetry, its hangs, its children."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from instrumented_sessions import cli
from tests import needs, servers
from tests.integrations import programs
from tests.telemetry.collector import Collector

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def instrument_command(*program: str) -> list[str]:
    """`opentelemetry-instrument`; where it, or our entry point, is not installed the test does not run."""
    tool = Path(sys.executable).parent / "opentelemetry-instrument"
    points = metadata.entry_points(group="opentelemetry_instrumentor")
    if not tool.exists():
        needs.give_up("opentelemetry-instrument", "pip install opentelemetry-distro")
    if not any(point.name == "instrumented_sessions" for point in points):
        needs.give_up("our entry point", "install this checkout: pip install -e .")
    return [str(tool), sys.executable, *program]


@pytest.mark.parametrize("way", ["run", "opentelemetry-instrument"])
def test_agent_reports_its_session_over_otlp(way: str, collector: Collector) -> None:
    """Opening, call and the process's name arrive, and the program's output and exit code are its own."""
    program = (str(programs.AGENT), "talk", str(servers.SERVER))
    command = programs.run_command(*program) if way == "run" else instrument_command(*program)
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": "agent-of-a-test",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        **(programs.RUN if way == "run" else {}),
    }
    with programs.running(command, **variables) as agent:
        assert agent.says("answer") == "hello"
        about, opening = span(collector, "session.create")
        _, call = span(collector, "tools/call echo")
        metric(collector, "mcp.client.operation.duration")
        assert agent.ends() == 0
    assert about["service.name"] == "agent-of-a-test"
    facts = {pair.key: pair.value.string_value for pair in call.attributes}
    assert facts["instrumented_sessions.transport.id"] == "server.py"
    assert facts["code.function.name"] == "talk"
    assert facts["instrumented_sessions.outcome"] == "ok"
    assert opening.end_time_unix_nano <= call.start_time_unix_nano


def test_programs_own_sdk_comes_first_and_gets_everything(collector: Collector) -> None:
    """A program that sets its SDK up in `main` keeps it, and finds our spans in it."""
    done = programs.run(
        programs.run_command(programs.AGENT, "sdk", servers.SERVER),
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        **programs.RUN,
    )
    spans = programs.facts(done.stdout)["spans"]
    assert {"session.acquire", "session.create", "tools/call echo"} <= set(spans)
    assert "Overriding" not in done.stderr
    assert collector.spans == []


def test_stall_reaches_the_backend(collector: Collector) -> None:
    """A loop that blocks is a span with the line that blocks it."""
    command = programs.run_command(programs.AGENT, "stall")
    with programs.running(command, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, **programs.RUN) as agent:
        _, stall = span(collector, "loop.stall")
        assert agent.ends() == 0
    facts = {pair.key: pair.value.string_value for pair in stall.attributes}
    assert facts["code.function.name"] == "stall"


def test_signal_writes_what_waits_and_all_stacks() -> None:
    """A process that nobody prepared says on stderr where it is, and goes on."""
    with programs.running(
        programs.run_command(programs.AGENT, "block", "idle"), **programs.RUN, **programs.QUIET
    ) as agent:
        agent.says("ready")
        for _ in range(2):
            os.kill(agent.process.pid, signal.SIGUSR2)
            agent.complains("=== instrumented-sessions: SIGUSR2 in process")
            agent.complains("Nothing waits, and every loop runs.")
            agent.complains("instrumented-sessions doctor http://127.0.0.1:")
            agent.complains("All stacks")
            agent.complains("in a_worker_that_waits")
            agent.complains("Thread 'instrumented-sessions-dump'")
        assert agent.process.poll() is None


def test_signal_finds_native_code_that_keeps_the_gil() -> None:
    """No Python code can run, and still the stack of the main thread is written."""
    with programs.running(
        programs.run_command(programs.AGENT, "block", "gil"), **programs.RUN, **programs.QUIET
    ) as agent:
        agent.says("ready")
        for _ in range(20):  # It may not be in there yet, and then says something else.
            os.kill(agent.process.pid, signal.SIGUSR2)
            try:
                agent.complains("native_code_that_keeps_the_gil", limit_s=3.0)
                break
            except queue.Empty:
                continue
        else:
            pytest.fail("the native code's caller was never written")
        assert agent.process.poll() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_child_has_diagnostics_and_a_dump_of_its_own() -> None:
    """The parent's stay the parent's."""
    command = programs.run_command(programs.AGENT, "fork", servers.SERVER)
    with programs.running(command, **programs.RUN, **programs.QUIET) as agent:
        parent = agent.says("parent")
        child, pid = agent.says("child")
        try:
            assert get(parent, "/healthz")["pid"] == agent.process.pid
            assert get(child, "/healthz")["pid"] == pid
            os.kill(pid, signal.SIGUSR2)
            agent.complains(f"SIGUSR2 in process {pid}")
        finally:
            servers.kill(pid)
        assert agent.process.wait(programs.LIMIT_S) == 0


def test_doctor_says_what_a_hanging_agent_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    """From another process, by the address that the agent says at its start."""
    with programs.running(
        programs.run_command(programs.AGENT, "stall_for_ever"), **programs.RUN, **programs.QUIET
    ) as agent:
        address = agent.complains("diagnostics at").rpartition(" ")[2].strip()
        agent.says("stalling")
        while not get(address, "/stalls"):  # Nothing announces it to a stranger.
            pass
        assert cli.main(["doctor", address]) == 1
        said = capsys.readouterr().out
        assert "WRONG   loop 'main' has not run for" in said
        assert "cause blocking_call at stall_for_ever" in said
        assert "What to do: await an asynchronous variant of that call" in said


def span(collector: Collector, name: str) -> Any:
    return collector.until(
        lambda: next((pair for pair in collector.spans if pair[1].name == name), None), programs.LIMIT_S
    )


def metric(collector: Collector, name: str) -> Any:
    return collector.until(
        lambda: next((pair for pair in collector.metrics if pair[1].name == name), None), programs.LIMIT_S
    )


def get(address: str, path: str) -> Any:
    with urllib.request.urlopen(address + path, timeout=30) as answer:
        return json.load(answer)
