"""An observer that keeps the last events in memory, for tests and for a look at a live program."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from typing import TypeVar

from ..events import Event

E = TypeVar("E", bound=Event)


class Recorder:
    """Keeps the last `capacity_events` events; may be used from any thread.

    Args:
        capacity_events: How many events are kept; older ones are dropped and counted. Default 10,000.

    Raises:
        ValueError: `capacity_events` is below 1.
    """

    def __init__(self, capacity_events: int = 10_000) -> None:
        if capacity_events < 1:
            raise ValueError(f"capacity_events must be 1 or more; got {capacity_events!r}")
        self._lock = threading.Lock()  # Protects the two below.
        self._events: deque[Event] = deque(maxlen=capacity_events)
        self._seen = 0
        if hasattr(os, "register_at_fork"):
            reference = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _renew_lock(reference()))

    def __repr__(self) -> str:
        return f"<Recorder {len(self._events)} events, {self.dropped} dropped>"

    def on_event(self, event: Event) -> None:
        """Keep `event`; drops the oldest when full."""
        with self._lock:
            self._events.append(event)
            self._seen += 1

    @property
    def events(self) -> list[Event]:
        """What is kept, oldest first."""
        with self._lock:
            return list(self._events)

    @property
    def dropped(self) -> int:
        """How many events were dropped to stay within the capacity."""
        with self._lock:
            return self._seen - len(self._events)

    def of(self, event_type: type[E]) -> list[E]:
        """Return the kept events of `event_type`, oldest first."""
        return [event for event in self.events if isinstance(event, event_type)]

    def clear(self) -> None:
        """Forget all events, and the count of those dropped."""
        with self._lock:
            self._events.clear()
            self._seen = 0


def _renew_lock(recorder: Recorder | None) -> None:
    """Another thread of the parent may have held it."""
    if recorder is not None:
        recorder._lock = threading.Lock()
