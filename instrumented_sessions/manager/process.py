"""What becomes of the managers of a process when it forks, and when it ends."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import TYPE_CHECKING

from .. import live
from ..clock import SYSTEM_CLOCK
from ..parking import ThreadParker

if TYPE_CHECKING:
    from .manager import SessionManager

MANAGERS: weakref.WeakSet[SessionManager] = weakref.WeakSet()


def all_managers() -> list[SessionManager]:
    """Return the managers that are alive, closed ones included; from any thread."""
    return list(MANAGERS)


def _close_all() -> None:
    """Close what is still open when the main thread ends, all at once, within their limits.

    Calls in flight have half of `close_timeout_s`. At three quarters of it everything is cancelled for
    the last time, so that no child is left when the portal's thread ends with the interpreter.
    """
    began = SYSTEM_CLOCK.monotonic()
    parkers = []
    for manager in list(MANAGERS):
        if manager._portal is not None and not manager._ended:
            parker = ThreadParker()
            manager._begin_close(parker, manager.settings.close_timeout_s / 2)
            parkers.append((manager, parker))
    for part in (0.75, 1.0):
        for manager, parker in list(parkers):
            due = began + part * manager.settings.close_timeout_s
            if parker.park(max(0.0, due - SYSTEM_CLOCK.monotonic())):
                parkers.remove((manager, parker))
                manager._finish_close()
            elif manager._portal is not None:
                manager._portal.stop()
    for manager, _ in parkers:
        manager._finish_close()


def _after_fork_in_child() -> None:
    """The child has none of the parent's threads; it opens its own sessions."""
    for manager in list(MANAGERS):
        if manager._ended:
            continue
        end, records = manager._end, list(manager._shell.pool.known.values())
        manager._reset()
        if end is not None:  # The parent was closing it: here it is closed.
            manager._end, manager._ended = end, True
            continue
        for record in records:
            record.forget()
            manager._shell.pool.known[record.key] = record  # Its handle is the child's, too.
        live.register(manager)


os.register_at_fork(after_in_child=_after_fork_in_child)
# Before the threads of the program are joined: one of them may wait for a call that never ends.
# `concurrent.futures` does the same.
_register_at_exit = getattr(threading, "_register_atexit", atexit.register)
_register_at_exit(_close_all)
