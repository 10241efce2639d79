"""Spans, metrics and logs through OpenTelemetry's API, into the program's SDK if it has one."""

from __future__ import annotations

from .observer import OpenTelemetryObserver, install

__all__ = ["OpenTelemetryObserver", "install"]
