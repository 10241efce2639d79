"""The dashboard: OTLP/HTTP in, pictures out. Installed as `instrumented_sessions_dashboard`."""

from __future__ import annotations

from .app import create_app
from .server import ServeError, main, serve

__all__ = ["ServeError", "create_app", "main", "serve"]
