"""When the garbage collector ran."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

_SHORTEST_PAUSE_S = 0.001


class CollectorProbe:
    """Notes when the garbage collector ran, in any thread, while entered."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._pauses: deque[tuple[float, float]] = deque(maxlen=64)

    def __enter__(self) -> None:
        self._since = None
        gc.callbacks.append(self._on_collection)

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take no more notes."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)
        self._since = None  # The end of a collection that runs now will not be told.

    def between_s(self, start: float, end: float) -> float:
        """Return how long the collector ran between two instants of the monotonic clock, in seconds."""
        pauses = list(self._pauses)
        if (since := self._since) is not None:
            pauses.append((since, end))
        return sum(max(min(end, last) - max(start, first), 0.0) for first, last in pauses)

    def _on_collection(self, phase: str, info: Mapping[str, Any]) -> None:
        # Called with the GIL held, in whichever thread collects; collections do not nest.
        now = time.monotonic()
        if phase == "start":
            self._since = now
        elif (since := self._since) is not None:
            self._since = None
            if now - since > _SHORTEST_PAUSE_S:
                self._pauses.append((since, now))
