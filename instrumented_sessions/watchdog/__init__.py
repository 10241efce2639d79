"""Watches event loops from outside: heartbeats, stalls while they last, and their causes."""

from .page import heartbeat_ages
from .readings import WatchdogStatistics
from .watchdog import LoopWatchdog, ProcessWatchdog, SharedWatch, current_stalls, process_watchdog, watch_loop

__all__ = [
    "LoopWatchdog",
    "ProcessWatchdog",
    "SharedWatch",
    "WatchdogStatistics",
    "current_stalls",
    "heartbeat_ages",
    "process_watchdog",
    "watch_loop",
]
