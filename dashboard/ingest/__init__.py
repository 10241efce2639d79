"""OTLP/HTTP in: bytes become rows here, and nothing is stored."""

from __future__ import annotations

from .errors import BadInputError
from .parse import SIGNALS, Signal, parse

__all__ = ["SIGNALS", "BadInputError", "Signal", "parse"]
