"""Hooks that never harm the program, and changes to other people's modules that can be taken back."""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

_ABSENT = object()
_lock = threading.Lock()  # Protects the one below.
_failures: Counter[str] = Counter()


def guarded(what: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T | None:
    """Call `function`; when it raises, log that once for each `what`, count it and return None."""
    try:
        return function(*args, **kwargs)
    except Exception:
        note_failure(what)
        return None


def note_failure(what: str) -> None:
    """Count the exception that is being handled, and log the first one of its kind."""
    with _lock:
        _failures[what] += 1
        is_first = _failures[what] == 1
    if is_first:
        logger.warning("%s failed; the program goes on without", what, exc_info=True)


def failures() -> int:
    """Return how often a hook has failed."""
    with _lock:
        return sum(_failures.values())


def after_fork_in_child() -> None:
    """Begin to count at zero; the lock may have been held by a thread that the child does not have."""
    global _lock
    _lock = threading.Lock()
    _failures.clear()


class Patches:
    """Attributes that were replaced, and how they were before; not for use from several threads at once."""

    def __init__(self) -> None:
        self._attributes: list[tuple[Any, str, object, object]] = []
        self._functions: list[tuple[object, object]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], object]) -> None:
        """Set `owner.name` to `make(what it was)`.

        An attribute that a class inherits is set on that class alone, and deleted again by `undo`.
        """
        before = vars(owner).get(name, _ABSENT)
        now = make(getattr(owner, name))
        setattr(owner, name, now)
        self._attributes.append((owner, name, before, now))

    def replace_everywhere(self, function: Any, make: Callable[[Any], object]) -> None:
        """Replace a module's function, also in the modules that have imported it by name."""
        now = make(function)
        _swap(function, now)
        self._functions.append((function, now))

    def undo(self) -> None:
        """Put everything back; what somebody else has replaced since is left to him."""
        for owner, name, before, now in reversed(self._attributes):
            if vars(owner).get(name, _ABSENT) is not now:
                continue
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        for function, now in reversed(self._functions):
            _swap(now, function)  # Also where it was imported by name meanwhile.
        self._attributes.clear()
        self._functions.clear()


def _swap(old: object, new: object) -> None:
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict):
            for name, value in list(names.items()):
                if value is old:
                    names[name] = new
