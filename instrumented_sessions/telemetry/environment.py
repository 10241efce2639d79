"""What `OTEL_*` asks of `setup()`; what it does not do is said in a warning that names the value."""

from __future__ import annotations

import logging
import os

PROMETHEUS_PORT = 9464
"""Where OpenTelemetry serves metrics unless told otherwise."""

_OTLP = ("otlp", "otlp_proto_http")
_PROTOCOL = "http/protobuf"

logger = logging.getLogger(__name__)


def disabled() -> bool:
    """Return whether `OTEL_SDK_DISABLED` is `true`."""
    return _text("OTEL_SDK_DISABLED").lower() == "true"


def names_collector() -> bool:
    """Return whether any variable says where OTLP goes."""
    return any(name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("ENDPOINT") for name in os.environ)


def wants_otlp(signal: str, endpoint: str | None) -> bool:
    """Return whether a signal is to be exported over OTLP/HTTP.

    Args:
        signal: `traces`, `metrics` or `logs`.
        endpoint: The collector's address if the program gave one: then it speaks HTTP, whatever
            `OTEL_EXPORTER_OTLP_PROTOCOL` says.
    """
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    wanted = _words(variable)
    known = (*_OTLP, "none", *(("prometheus",) if signal == "metrics" else ()))
    for value in wanted:
        if value not in known:
            logger.warning(
                "%s=%s: setup() does not export %s to %r; it knows otlp, none and, for metrics, prometheus",
                variable,
                os.environ[variable],
                signal,
                value,
            )
    if wanted and not any(value in _OTLP for value in wanted):
        return False
    if endpoint is not None:
        return True
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := _text(variable).lower():
            if protocol == _PROTOCOL:
                return True
            logger.warning(
                "%s=%s: setup() speaks %s only, so %s are not exported;"
                " unset it and name the collector's HTTP port (4318), or set up an SDK of your own first",
                variable,
                protocol,
                _PROTOCOL,
                signal,
            )
            return False
    return True


def prometheus_address() -> tuple[str, int] | None:
    """Return host and port to serve metrics on if `OTEL_METRICS_EXPORTER` names `prometheus`, else None."""
    if "prometheus" not in _words("OTEL_METRICS_EXPORTER") or disabled():
        return None
    host = _text("OTEL_EXPORTER_PROMETHEUS_HOST") or "127.0.0.1"
    return host, number("OTEL_EXPORTER_PROMETHEUS_PORT", PROMETHEUS_PORT)


def number(variable: str, default: int) -> int:
    """Return a variable's whole number; `default`, and a warning, for what is none."""
    try:
        return int(_text(variable) or default)
    except ValueError:
        logger.warning(
            "environment variable %s=%r is not a number; using %s", variable, os.environ[variable], default
        )
        return default


def _text(variable: str) -> str:
    return os.environ.get(variable, "").strip()


def _words(variable: str) -> list[str]:
    return [word for part in _text(variable).lower().split(",") if (word := part.strip())]
