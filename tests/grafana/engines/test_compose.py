"""The compose stack, as far as it can be tried without Docker: its own tool, Prometheus' check, its agent."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.grafana.engines.programs import ROOT, Program, engine, fetch, until

PROVISIONING = ROOT / "grafana" / "provisioning"


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    """The stack as compose itself understands it; it checks the file against its schema."""
    done = subprocess.run(
        [engine("docker-compose"), "-f", "docker-compose.yml", "config", "--format", "json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_ports_are_this_machines_only(stack: dict[str, Any]) -> None:
    """Nothing is published on an address that others reach."""
    ports = [port for service in stack["services"].values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    published = [port["published"] for port in ports]
    assert sorted(published) == ["3000", "4319", "9090"]


def test_images_are_pinned_and_everybody_is_asked_for_health(stack: dict[str, Any]) -> None:
    """No image moves by itself, and each service says when it is well."""
    for name, service in stack["services"].items():
        assert re.search(r":(local|\d+\.\d+\.\d+)$", service["image"]), name
        assert service["healthcheck"]["test"], name
    for base in re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        assert re.fullmatch(r"python:3\.13-slim-bookworm", base)


def test_our_containers_have_few_rights(stack: dict[str, Any]) -> None:
    """Ours run as nobody in particular, on a file system that they cannot write."""
    assert re.search(r"^USER \d+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for name in ("agent", "dashboard"):
        assert stack["services"][name]["read_only"] is True
        assert stack["services"][name]["cap_drop"] == ["ALL"]


def test_what_is_mounted_and_copied_is_there(stack: dict[str, Any]) -> None:
    """Every file that the stack takes from this tree is in it."""
    mounts = [mount for mount in stack["services"]["grafana"]["volumes"] if mount["type"] == "bind"]
    assert len(mounts) == 4
    for mount in mounts:
        assert Path(mount["source"]).exists(), mount
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source


def test_agent_reports_to_a_service_of_the_stack(stack: dict[str, Any]) -> None:
    """The agent reports to Grafana's Collector, and that to the dashboard, with the dashboard's token."""
    services = stack["services"]
    assert services["agent"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://grafana:4318"
    passed_on = services["grafana"]["environment"]
    assert passed_on["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://dashboard:4318"
    token = services["dashboard"]["environment"]["INSTRUMENTED_SESSIONS_DASHBOARD_TOKEN"]
    assert passed_on["OTEL_EXPORTER_OTLP_HEADERS"] == f"Authorization=Bearer {token}"
    assert services["dashboard"]["environment"]["INSTRUMENTED_SESSIONS_DASHBOARD_HOSTS"] == "dashboard"


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """Laid out as in the container, Prometheus finds the rules and nothing to complain of."""
    shutil.copy(PROVISIONING / "prometheus.yaml", tmp_path)
    shutil.copytree(ROOT / "grafana" / "generated", tmp_path / "instrumented-sessions")
    done = subprocess.run(
        [engine("promtool"), "check", "config", str(tmp_path / "prometheus.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"SUCCESS: \d\d rules found", done.stdout)


def test_provisioning_fits_the_dashboards() -> None:
    """Exemplars lead to a data source that is there; the dashboards are looked for where they are mounted."""
    sources = yaml.safe_load((PROVISIONING / "datasources.yaml").read_text())["datasources"]
    uids = {source["uid"] for source in sources}
    (prometheus,) = (source for source in sources if source["type"] == "prometheus")
    assert prometheus["jsonData"]["exemplarTraceIdDestinations"][0]["datasourceUid"] in uids
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/otel-lgtm/instrumented-sessions/dashboards"
    assert provider["allowUiUpdates"] is False


@pytest.mark.timeout(300)
def test_agent_of_the_stack_runs_and_ends(tmp_path: Path) -> None:
    """What the container starts works, serves what its health check asks for, and ends when it is told."""
    command = [sys.executable, "-u", "-m", "instrumented_sessions.demo.agents", "0"]
    with Program("compose-agent", command, tmp_path) as agent:
        url = agent.said("metrics:")
        until(lambda: b'outcome="created"' in fetch(url) or None, "it opens sessions")
    assert agent.process.returncode == 0, agent.words()[-2000:]
