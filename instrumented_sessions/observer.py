"""Observers: who is told of events, and how a bad one is kept from harming the program."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Protocol, runtime_checkable

from .events import Event

logger = logging.getLogger(__name__)


@runtime_checkable
class Observer(Protocol):
    """Told of each event, in the thread, task and context of the fact; must return at once.

    It may also have `scope(event)`, which returns a context manager that is entered around the
    opening or call that `event` (`OpeningStarted` or `CallStarted`) began, in its task.
    One with `only_contended = True` does without the events of `ThreadLock` and `TaskLock` that had not
    to wait; as long as all do, these events are not even made.
    One that raises is logged once and removed.
    """

    def on_event(self, event: Event) -> None:
        """Take note of `event`."""
        ...


class Announcer:
    """Tells a changing set of observers; may be used from any thread.

    `announce` takes no lock: the set is a tuple that is replaced, never changed.
    """

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._lock = threading.Lock()  # Serialises add and remove.
        self._observers: tuple[Observer, ...] = ()
        for observer in observers:
            self.add(observer)

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Who is told now."""
        return self._observers

    def add(self, observer: Observer) -> None:
        """Tell `observer` of later events; adding it twice has no effect.

        Raises:
            TypeError: It has no `on_event` method.
        """
        if not callable(getattr(observer, "on_event", None)):
            raise TypeError(f"an observer needs a method on_event(event); {observer!r} has none")
        with self._lock:
            if not any(known is observer for known in self._observers):
                self._observers = (*self._observers, observer)
        _listen()

    def remove(self, observer: Observer) -> None:
        """Tell `observer` no more; unknown ones are ignored."""
        with self._lock:
            self._observers = tuple(known for known in self._observers if known is not observer)
        _listen()

    def announce(self, event: Event) -> None:
        """Tell every observer of `event`; never raises an `Exception` of theirs."""
        for observer in self._observers:
            try:
                observer.on_event(event)
            except Exception:
                self._expel(observer, f"on_event({type(event).__name__})")

    def scope(self, event: Event) -> AbstractContextManager[object]:
        """Return the observers' scopes for `event`, as one context manager that never raises by itself."""
        scoped = [observer for observer in self._observers if hasattr(observer, "scope")]
        if len(scoped) == 1:  # As a rule; and each call passes here.
            return self._guarded(scoped[0], event)
        return self._scopes(scoped, event) if scoped else nullcontext()

    @staticmethod
    def joined(event: Event, *announcers: Announcer) -> AbstractContextManager[object]:
        """Return the scopes of several announcers for `event`, as one context manager."""
        scopes = [announcer.scope(event) for announcer in announcers if announcer.observers]
        if len(scopes) == 1:
            return scopes[0]
        stack = ExitStack()
        for scope in scopes:
            stack.enter_context(scope)
        return stack

    @contextmanager
    def _scopes(self, observers: list[Any], event: Event) -> Iterator[None]:
        with ExitStack() as stack:
            for observer in observers:
                stack.enter_context(self._guarded(observer, event))
            yield

    @contextmanager
    def _guarded(self, observer: Any, event: Event) -> Iterator[None]:
        """Enter one observer's scope; what it raises is logged, what the program raises passes through."""
        scope = None
        try:
            scope = observer.scope(event)
            scope.__enter__()
        except Exception:
            scope = None
            self._expel(observer, f"scope({type(event).__name__})")
        try:
            yield
        finally:
            if scope is not None:
                try:
                    scope.__exit__(None, None, None)
                except Exception:
                    self._expel(observer, f"scope({type(event).__name__})")

    def _expel(self, observer: Observer, where: str) -> None:
        self.remove(observer)
        logger.exception("observer %r raised in %s and was removed", observer, where)


_everybody_lock = threading.Lock()  # Protects the two below, which are read without it.
_everybody: tuple[weakref.ref[Announcer], ...] = ()
all_holds_are_heard = False
"""Whether anybody wants the events of user locks that had not to wait."""


def _listen(*newcomers: Announcer) -> None:
    """Find out anew who is there and what they want to hear."""
    global _everybody, all_holds_are_heard
    with _everybody_lock:
        alive = [reference for reference in _everybody if reference() is not None]
        _everybody = (*alive, *map(weakref.ref, newcomers))
        all_holds_are_heard = any(
            not getattr(observer, "only_contended", False)
            for announcer in (AMBIENT, *(reference() for reference in _everybody))
            if announcer is not None
            for observer in announcer.observers
        )


AMBIENT = Announcer()
"""Observers of every manager and of the process-wide watchdog, existing and future."""


def include(announcer: Announcer) -> None:
    """Let `announcer` hear of what belongs to the whole process, such as the users' own locks."""
    _listen(announcer)


def announce_everywhere(event: Event) -> None:
    """Tell the ambient observers and those of every manager."""
    AMBIENT.announce(event)
    for reference in _everybody:
        announcer = reference()
        if announcer is not None:
            announcer.announce(event)


def _after_fork_in_child() -> None:
    """Replace the locks: one of the parent's other threads may have held them."""
    global _everybody_lock
    _everybody_lock = threading.Lock()
    for announcer in (AMBIENT, *(reference() for reference in _everybody)):
        if announcer is not None:
            announcer._lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


_trace_id_reader: Callable[[], str | None] | None = None


def read_trace_ids_with(reader: Callable[[], str | None] | None) -> None:
    """Let telemetry say which trace the calling code belongs to, as 32 hexadecimal digits."""
    global _trace_id_reader
    _trace_id_reader = reader


def current_trace_id() -> str | None:
    """Return the trace of the calling code; None when nothing traces it."""
    return _trace_id_reader() if _trace_id_reader is not None else None
