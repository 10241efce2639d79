"""The parts that the routes share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from .live import Live
from .store import Store

if TYPE_CHECKING:
    from .stream import Hub

# Few threads: more would only take turns at the interpreter, and hold more bodies in memory.
_PARSERS = 2
_QUERIES = 4


def _limiter(tokens: int) -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(tokens)


@dataclass
class Wiring:
    """What one application is made of."""

    store: Store
    live: Live
    hub: Hub
    parsers: anyio.CapacityLimiter = field(default_factory=lambda: _limiter(_PARSERS))
    """For threads that parse requests."""
    queries: anyio.CapacityLimiter = field(default_factory=lambda: _limiter(_QUERIES))
    """For threads that read the store."""
