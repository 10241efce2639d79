"""Zero code: watches the loops and the MCP sessions of a program that has never heard of this library.

`instrument()` switches it on and `uninstrument()` takes it back, to the last attribute, thread and signal.
`instrumented-sessions run` and the `opentelemetry_instrumentor` entry point do so for a whole program.
Neither raises: what cannot be done is logged, and the rest goes on.
"""

from __future__ import annotations

from .instrumentation import current, instrument, uninstrument

__all__ = ["current", "instrument", "uninstrument"]
