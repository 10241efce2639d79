"""Where rows are kept."""

from __future__ import annotations

from .protocol import Store, StoreBusyError, StoreError
from .slots import Window, window, window_between
from .sqlite import SQLiteStore

__all__ = ["SQLiteStore", "Store", "StoreBusyError", "StoreError", "Window", "window", "window_between"]
