"""The `opentelemetry_instrumentor` entry point, for `opentelemetry-instrument python agent.py`."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from typing import Any

try:
    instrumentor: Any = importlib.import_module("opentelemetry.instrumentation.instrumentor")
except ImportError as error:
    raise ImportError(
        "this class is for opentelemetry-instrument; run: pip install opentelemetry-distro,"
        " or use instrumented_sessions.integrations.auto.instrument()"
    ) from error

from . import instrumentation

BaseInstrumentor: Any = instrumentor.BaseInstrumentor


class InstrumentedSessionsInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # Untyped, and optional.
    """Watches every event loop and every MCP client session of the program; never raises.

    `instrument()` and `uninstrument()` are OpenTelemetry's; see `instrumented_sessions.integrations.auto`.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return what must be installed: the SDK for MCP, of either generation."""
        return ("mcp >= 1.24, < 3",)

    def _instrument(self, **kwargs: Any) -> None:
        instrumentation.instrument()

    def _uninstrument(self, **kwargs: Any) -> None:
        instrumentation.uninstrument()
