"""`ThreadLock` and `TaskLock`: standard locks whose waits are seen and whose deadlocks raise."""

from __future__ import annotations

from .chains import is_opening, links_of, stacks_of, waiting_chains
from .held import HeldLock, LockStatistics
from .task import TaskLock
from .thread import ThreadLock

__all__ = [
    "HeldLock",
    "LockStatistics",
    "TaskLock",
    "ThreadLock",
    "is_opening",
    "links_of",
    "stacks_of",
    "waiting_chains",
]
