"""Work that is open now, and its span: a bounded table that any thread may use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from opentelemetry.trace import Link, Span, SpanContext
from opentelemetry.util.types import AttributeValue

from ...chain import Party
from ...vocabulary import Phase, SessionKey

MAX_OPEN = 10_000
MAX_ENDED = 4_000
MAX_LINKS = 32

Attributes = dict[str, AttributeValue]


class WorkKind(str, Enum):
    """What kind of id names the work."""

    REQUEST = "request"
    OPENING = "opening"
    CALL = "call"
    WAIT = "wait"
    STALL = "stall"


@dataclass(eq=False)
class Work:
    """One open request, opening, call, wait or stall."""

    kind: WorkKind
    id: int
    name: str
    """Its span's name."""
    span: Span
    started_at: float
    """Unix seconds."""
    attributes: Attributes
    """What its spans carry from the start; a child in progress repeats it."""
    key: SessionKey | None = None
    party: Party | None = None
    """Who waits, or who called."""
    threads: tuple[int, ...] = ()
    """The threads whose stall would delay it."""
    links: tuple[Link, ...] = ()
    """To whoever it waits for."""
    phase: Phase | None = None
    """Where it is, as far as events say."""
    owner_id: int | None = None
    """The opening or call that a wait for a lock is part of."""
    wait: Work | None = None
    """The wait for a lock that is part of it now."""
    done: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> SpanContext:
        """Identifies its span."""
        return self.span.get_span_context()


class WorkTable:
    """Open work by kind and id, and the span contexts of work that ended a moment ago.

    Work beyond the bound is not recorded, and counted in `dropped`.
    """

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self._lock = threading.Lock()  # Protects what follows.
        self._max_open = max_open
        self._open: dict[tuple[WorkKind, int], Work] = {}
        self._openings: dict[SessionKey, Work] = {}
        self._ended: OrderedDict[tuple[WorkKind, int], SpanContext] = OrderedDict()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._open)

    def has_room(self) -> bool:
        """Return whether more work fits; counts a drop when it does not."""
        if len(self._open) < self._max_open:
            return True
        with self._lock:
            self.dropped += 1
        return False

    def add(self, work: Work) -> None:
        """Note that `work` is open."""
        with self._lock:
            self._open[work.kind, work.id] = work
            if work.kind is WorkKind.OPENING and work.key is not None:
                self._openings[work.key] = work

    def get(self, kind: WorkKind, id: int | None) -> Work | None:
        """Return open work, None when there is none of that id."""
        return None if id is None else self._open.get((kind, id))

    def opening_of(self, key: SessionKey | None) -> Work | None:
        """Return the open opening of a session."""
        return None if key is None else self._openings.get(key)

    def pop(self, kind: WorkKind, id: int) -> Work | None:
        """Take work out because it ends; its span context is remembered for late links and exemplars."""
        with self._lock:
            work = self._open.pop((kind, id), None)
            if work is None:
                return None
            work.done = True
            if work.kind is WorkKind.OPENING:
                if work.key is not None and self._openings.get(work.key) is work:
                    del self._openings[work.key]
            self._ended[work.kind, work.id] = work.context
            if len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)
        return work

    def span_context(self, kind: WorkKind, id: int | None) -> SpanContext | None:
        """Return the span context of work that is open, or ended a moment ago."""
        if id is None:
            return None
        work = self._open.get((kind, id))
        return work.context if work is not None else self._ended.get((kind, id))

    def on_thread(self, thread_id: int) -> list[Work]:
        """Return open work that a stall of that thread delays, oldest first, at most `MAX_LINKS`."""
        if not thread_id:
            return []  # Not known.
        with self._lock:
            works = [work for work in self._open.values() if thread_id in work.threads]
        return works[:MAX_LINKS]

    def reset(self) -> None:
        """Forget everything; called in the child after a fork, where the lock may seem to be held."""
        self._lock = threading.Lock()
        for work in self._open.values():
            work.done = True
        self._open.clear()
        self._openings.clear()
        self._ended.clear()
        self.dropped = 0
