"""The hub: `SessionManager`, and the pool that decides for it."""

from .manager import SessionManager
from .statistics import ManagerStatistics, TransportStatistics

__all__ = ["ManagerStatistics", "SessionManager", "TransportStatistics"]
