"""What is true now, in memory: open work, gauges, who is heard from, and the verdict."""

from __future__ import annotations

from .now import Live

__all__ = ["Live"]
