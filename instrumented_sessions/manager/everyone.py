"""All managers of the process, for whoever explains the process as a whole."""

from __future__ import annotations

from .manager import SessionManager, _managers


def all_managers() -> list[SessionManager]:
    """Return the managers that are alive, closed ones included; from any thread."""
    return list(_managers)
