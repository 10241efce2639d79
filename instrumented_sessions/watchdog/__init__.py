"""Watches event loops from outside: heartbeats, stalls while they last, and their causes."""

from .page import heartbeat_ages
from .readings import WatchdogStatistics
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
