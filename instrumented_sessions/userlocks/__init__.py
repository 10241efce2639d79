"""`ThreadLock` and `TaskLock`: standard locks whose waits are seen and whose deadlocks raise."""

from __future__ import annotations

from .chains import links_of, waiting_chains
from .held import LockStatistics
from .task import TaskLock
from .thread import ThreadLock

__all__ = ["LockStatistics", "TaskLock", "ThreadLock", "links_of", "waiting_chains"]
