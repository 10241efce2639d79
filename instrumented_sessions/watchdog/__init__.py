"""Watches event loops from outside: heartbeats, stalls while they last, and their causes."""

from .engine import WatchdogStatistics
from .page import heartbeat_ages
from .watchdog import LoopWatchdog, ProcessWatchdog, SharedWatch, process_watchdog, watch_loop

__all__ = [
    "LoopWatchdog",
    "ProcessWatchdog",
    "SharedWatch",
    "WatchdogStatistics",
    "heartbeat_ages",
    "process_watchdog",
    "watch_loop",
]
