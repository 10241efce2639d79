"""Watch event loops from outside: the public door."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from ..events import StallReport
from ..observer import Announcer, Observer
from ..settings import Settings, check_limit_s
from .engine import ENGINE
from .loops import running_loop
from .readings import WatchdogStatistics
from .registry import Subscription


class LoopWatchdog:
    """Watches event loops and tells observers of their heartbeats and stalls, while these last.

    One daemon thread serves all watchdogs of the process. It starts with the first loop and ends with the
    last. Loops that end are forgotten. All methods may be called from any thread.

    Args:
        observers: Told of `LoopHeartbeat`, `LoopStalled` and `LoopRecovered`, on the watchdog's thread.
        stall_threshold_s: Lag above which a loop counts as stalled, in seconds. Default 0.25.
        heartbeat_interval_s: How often each loop is looked at, in seconds. Default 0.1.
        heartbeat_span_interval_s: How often a `LoopHeartbeat` sums up a loop, in seconds. Default 10.

    Raises:
        ValueError: A number is not finite, or not above 0.
    """

    def __init__(
        self,
        *,
        observers: Iterable[Observer] = (),
        stall_threshold_s: float = 0.25,
        heartbeat_interval_s: float = 0.1,
        heartbeat_span_interval_s: float = 10.0,
    ) -> None:
        self._subscription = _subscription(
            Announcer(observers),
            stall_threshold_s,
            heartbeat_interval_s,
            heartbeat_span_interval_s,
            shared=False,
        )
        self._closed = False

    def watch(self, loop: Any = None, name: str | None = None) -> None:
        """Watch a loop; a loop watched twice has the smaller interval and threshold.

        Args:
            loop: An asyncio loop (uvloop's included) or a trio token. Default: the calling thread's.
            name: What events and metrics call it. Default `main` on the main thread, else `other`; a given
                name wins over the default.

        Raises:
            RuntimeError: No loop was given and the calling thread runs none, or the watchdog is closed.
            TypeError: It is no loop.
        """
        if self._closed:
            raise RuntimeError("this watchdog is closed; make a new one")
        ENGINE.watch(_loop_or_running(loop), self._subscription, name)

    def unwatch(self, loop: Any = None) -> None:
        """Watch a loop no more; unknown ones are ignored. Default: the calling thread's."""
        ENGINE.unwatch(_loop_or_running(loop), self._subscription)

    def stalls(self) -> list[StallReport]:
        """Return what is known of every loop of this process that stands still now, the oldest first."""
        return ENGINE.stalls()

    def statistics(self) -> WatchdogStatistics:
        """Return what the watchdog of this process has seen and what it costs; all watchdogs share it."""
        return ENGINE.statistics()

    def close(self) -> None:
        """Watch no loop any more; idempotent, returns within 5 s."""
        self._closed = True
        ENGINE.drop(self._subscription)

    def __enter__(self) -> LoopWatchdog:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class SharedWatch:
    """One part in the process-wide watchdog: its own announcer, loops and settings.

    It hears of every loop of the process-wide watchdog; a loop is watched until nobody watches it any more.
    """

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        ENGINE.add(subscription)

    def watch(self, loop: Any = None, name: str | None = None) -> None:
        """Watch a loop, as `LoopWatchdog.watch` does."""
        ENGINE.watch(_loop_or_running(loop), self._subscription, name)

    def unwatch(self, loop: Any = None) -> None:
        """Give up this part's interest in a loop."""
        ENGINE.unwatch(_loop_or_running(loop), self._subscription)

    def close(self) -> None:
        """Give up all loops and hear no more; idempotent."""
        ENGINE.drop(self._subscription)


class ProcessWatchdog(LoopWatchdog):
    """The process-wide watchdog that managers share; its settings come from the environment."""

    def __init__(self) -> None:
        settings = Settings.from_env()
        super().__init__(
            stall_threshold_s=settings.stall_threshold_s,
            heartbeat_interval_s=settings.heartbeat_interval_s,
            heartbeat_span_interval_s=settings.heartbeat_span_interval_s,
        )
        self._subscription.shared = True

    def subscribe(
        self,
        announcer: Announcer,
        *,
        stall_threshold_s: float,
        heartbeat_interval_s: float,
        heartbeat_span_interval_s: float = 10.0,
    ) -> SharedWatch:
        """Take part: `announcer` hears every event of every loop of this watchdog once.

        The smallest settings of all who take part apply to all its loops.
        """
        return SharedWatch(
            _subscription(
                announcer, stall_threshold_s, heartbeat_interval_s, heartbeat_span_interval_s, shared=True
            )
        )


_lock = threading.Lock()  # Protects the one below.
_process_watchdog: ProcessWatchdog | None = None


def process_watchdog() -> ProcessWatchdog:
    """Return the process-wide watchdog; the first call reads its settings from the environment.

    Raises:
        ValueError: A variable cannot be read.
    """
    global _process_watchdog
    with _lock:
        if _process_watchdog is None or _process_watchdog._closed:
            _process_watchdog = ProcessWatchdog()
        return _process_watchdog


def _after_fork_in_child() -> None:
    """Replace the lock: one of the parent's other threads may have held it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def watch_loop(name: str | None = None) -> None:
    """Let the process-wide watchdog watch the loop that runs in the calling thread.

    Args:
        name: What events and metrics call it. Default `main` on the main thread, else `other`.

    Raises:
        RuntimeError: The calling thread runs no loop.
    """
    process_watchdog().watch(name=name)


def current_stalls() -> list[StallReport]:
    """Return what is known of every watched loop that stands still now, the oldest first; from any thread."""
    return ENGINE.stalls()


def _loop_or_running(loop: Any) -> Any:
    loop = running_loop() if loop is None else loop
    if loop is None:
        raise RuntimeError("no event loop runs in this thread; pass one, or call this on a loop")
    return loop


def _subscription(
    announcer: Announcer, threshold_s: float, interval_s: float, span_interval_s: float, shared: bool
) -> Subscription:
    numbers = {
        "stall_threshold_s": threshold_s,
        "heartbeat_interval_s": interval_s,
        "heartbeat_span_interval_s": span_interval_s,
    }
    for name, seconds in numbers.items():
        if not check_limit_s(seconds, name):
            raise ValueError(f"{name} must be more than 0 seconds; got {seconds!r}")
    return Subscription(announcer, **numbers, shared=shared)
