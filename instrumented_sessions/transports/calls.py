"""Which calls are under way on a session, and in whose context: callbacks run in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any
from weakref import WeakKeyDictionary

_call: ContextVar[object] = ContextVar("instrumented_sessions_call", default=None)
# The call that this context belongs to. The SDK hands it on wherever the protocol says which call a
# server's request belongs to: over HTTP, and in the rounds of modern protocols.


class Calls:
    """The calls under way on one session; used on its loop only."""

    def __init__(self) -> None:
        self._contexts: dict[object, Context] = {}

    @contextmanager
    def track(self) -> Iterator[None]:
        """Count what runs within as one call, in the current context."""
        call = object()
        self._contexts[call] = copy_context()
        token = _call.set(call)
        try:
            yield
        finally:
            _call.reset(token)
            del self._contexts[call]

    def context(self) -> Context:
        """Return a copy of the context of the call that a callback belongs to; an empty one if not known."""
        context = self._contexts.get(_call.get())
        if context is None and len(self._contexts) == 1:
            (context,) = self._contexts.values()
        return context.copy() if context is not None else Context()


_known: WeakKeyDictionary[Any, Calls] = WeakKeyDictionary()


def calls_of(session: Any) -> Calls:
    """Return the calls of an SDK session, the same object each time."""
    try:
        return _known.setdefault(session, Calls())
    except TypeError:  # Something that cannot be referred to weakly; it has no callbacks of ours.
        return Calls()
