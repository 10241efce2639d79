"""The optional parts of the installation, and what to install when one is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from .problem import Problem

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "otel": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
    "prometheus": ("prometheus_client",),
    "dashboard": ("instrumented_sessions_dashboard", "fastapi", "uvicorn", "opentelemetry.proto"),
}
"""The modules that each extra brings."""


def missing(extra: str) -> list[str]:
    """Return the modules of `extra` that cannot be found."""
    return [module for module in EXTRAS[extra] if not _is_found(module)]


def advice(extra: str) -> str:
    """Return the command that installs `extra`."""
    return f"pip install 'instrumented-sessions[{extra}]'"


def require(purpose: str, *extras: str) -> None:
    """Check that all of `extras` are installed.

    Raises:
        Problem: One is not; says what `purpose` lacks, and what to install.
    """
    lacking = {extra: modules for extra in extras if (modules := missing(extra))}
    if lacking:
        names = ", ".join(name for modules in lacking.values() for name in modules)
        raise Problem(f"{purpose} needs {names}; run: {advice(','.join(lacking))}")


def _is_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # A parent package is missing.
        return False
