from __future__ import annotations

import os

import pytest

from instrumented_sessions.telemetry import environment, setup


@pytest.fixture(autouse=True)
def only_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("value", "exports", "complains"),
    [
        ("", True, False),
        ("otlp", True, False),
        ("otlp_proto_http", True, False),
        ("OTLP", True, False),
        ("none", False, False),
        ("console", False, True),
        ("console, otlp", True, True),
        ("prometheus", False, True),
        ("otlp_proto_grpc", False, True),
    ],
)
def test_exporter_of_traces_is_heeded(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    value: str,
    exports: bool,
    complains: bool,
) -> None:
    """What `setup()` cannot do is named in a warning, and nothing else is done in its place."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", value)
    assert environment.wants_otlp("traces", None) is exports
    assert (f"OTEL_TRACES_EXPORTER={value}" in caplog.text) is complains


def test_metrics_may_go_to_prometheus(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the variables of the specification say."""
    assert environment.prometheus_address() is None
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    assert not environment.wants_otlp("metrics", None)
    assert environment.prometheus_address() == ("127.0.0.1", 9464)
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "::1")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "9465")
    assert environment.prometheus_address() == ("::1", 9465)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert environment.prometheus_address() is None
    assert caplog.text == ""


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL"])
def test_other_protocols_are_told_of_and_not_exported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str
) -> None:
    """HTTP to a gRPC port would fail for ever; an address given in code is HTTP all the same."""
    monkeypatch.setenv(variable, "grpc")
    assert not environment.wants_otlp("logs", None)
    assert f"{variable}=grpc" in caplog.text
    assert environment.wants_otlp("logs", "http://127.0.0.1:4318")


def test_protocol_of_the_signal_comes_before_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the specification has it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
    assert environment.wants_otlp("traces", None)
    assert not environment.wants_otlp("metrics", None)


def test_setup_serves_prometheus_when_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of code is needed for it; port 0 takes a free one."""
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    telemetry = setup()
    assert telemetry.exports == ()
    assert telemetry.prometheus_port
    assert telemetry.close(20.0)
