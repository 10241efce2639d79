"""What becomes of events: OpenTelemetry, Prometheus, logs, a recorder for tests."""

from __future__ import annotations

from .recorder import Recorder
from .setup import Telemetry, setup

__all__ = ["Recorder", "Telemetry", "setup"]
