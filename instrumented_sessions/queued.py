"""A queue before an observer that is too slow to be told at once."""

from __future__ import annotations

import os
import queue
import threading
import weakref

from . import live
from .events import Event
from .observer import Announcer, Observer


class Queued:
    """Give a slow observer a bounded queue and a thread of its own.

    Events that find the queue full are dropped; the program never waits. They are counted in `dropped` and
    in the metric `instrumented_sessions.telemetry.dropped`, under the observer's class. A forked child begins
    with an empty queue and a thread of its own.

    Args:
        observer: Who is told, on the thread of this queue.
        capacity: How many events may wait. Default 10,000.
    """

    def __init__(self, observer: Observer, *, capacity: int = 10_000) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be 1 or more; got {capacity!r}")
        self.observer = observer
        self._capacity = capacity
        self._closed = False
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        """Begin with nothing: at first, and in the child after a fork."""
        self.dropped = 0
        """How many events found the queue full."""
        # Unbounded, and so in C: Ctrl-C inside a `queue.Queue`, which is Python, can leave it locked.
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # Protects the thread's start.
        live.register(self)

    def read_live(self) -> live.Reading:
        """Return how many events were dropped; called by `live`."""
        return live.Reading(dropped={type(self.observer).__name__: self.dropped} if self.dropped else {})

    def on_event(self, event: Event) -> None:
        """Queue `event`, or drop and count it."""
        if self._closed:
            return
        if self._queue.qsize() >= self._capacity:
            self.dropped += 1
            return
        self._queue.put(event)
        if self._thread is None:
            self._start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what is queued, for at most `timeout_s` seconds, and end the thread."""
        self._closed = True
        live.retire(self)
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            name = f"instrumented-sessions-queue-{type(self.observer).__name__}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # The system gives no thread, or the interpreter ends; the next event tries again.
            self._thread = thread

    def _run(self) -> None:
        announcer = Announcer([self.observer])
        events = self._queue
        while (event := events.get()) is not None:
            announcer.announce(event)


_all: weakref.WeakSet[Queued] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for queued in list(_all):
        if not queued._closed:
            queued._begin()


os.register_at_fork(after_in_child=_after_fork_in_child)
