"""What both locks do around the standard one: who holds them, since when, and for how long in all.

Taking a free lock must cost less than a microsecond. So what is known of a hold are plain fields, written
by whoever holds the lock and read by whoever asks; no event is made unless somebody wants it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from ..chain import CodeLocation, Party
from ..events import LockAcquired, LockOrderInversion, LockReleased
from ..lockorder import ORDER
from ..locks import next_id
from ..observer import announce_everywhere
from ..parking import Caller, name_of
from ..stacks import caller_location, location_at
from ..waitgraph import Owned, PartyId

monotonic = time.monotonic


class Seat:
    """A thread, and the locks that it holds apart from its tasks, in the order of taking."""

    __slots__ = ("held", "thread")

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.held: list[HeldLock] = []


class _Here(threading.local):
    def __init__(self) -> None:
        self.seat = Seat()


here = _Here()
"""Its `seat` is the calling thread's."""

held_by_tasks: dict[Any, list[HeldLock]] = {}
"""The locks that each task holds; a task that holds none is not here."""


@dataclass(frozen=True)
class LockStatistics:
    """What a lock has seen so far; durations in seconds, of waits and holds that have ended."""

    holds: int
    """How often it was held."""
    held_s: float
    longest_hold_s: float
    waits: int
    """How often somebody had to wait and got it."""
    waited_s: float
    longest_wait_s: float
    abandoned: int
    """How many waits ended without it: by a timeout, a cancellation or a deadlock."""


class HeldLock(Owned):
    """The part of `ThreadLock` and `TaskLock` that does not wait.

    The fields of a hold and the sums belong to the holder: the standard lock itself protects them.
    """

    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_handed_over",
        "_held",
        "_held_s",
        "_holder",
        "_holds",
        "_longest_hold_s",
        "_longest_wait_s",
        "_since",
        "_thread",
        "_wait_id",
        "_waited_s",
        "_waits",
        "_where",
        "name",
        "number",
    )

    def __init__(self, name: str) -> None:
        if not name or not isinstance(name, str):
            raise ValueError(f"name must be a non-empty string; got {name!r}")
        self.name = name
        self.number = next_id()
        self._holder: Any = None
        self._thread = here.seat.thread
        self._held: list[HeldLock] = []
        self._since = 0.0
        self._where: tuple[CodeType, int] | CodeLocation | None = None
        self._wait_id = 0
        self._handed_over = False
        self._holds = self._waits = self._abandoned = 0
        self._held_s = self._longest_hold_s = self._waited_s = self._longest_wait_s = 0.0

    def __repr__(self) -> str:
        party = self.holding_party()
        state = f"held by {party}" if party is not None else "free"
        return f"<{type(self).__name__} {self.name!r} {state}>"

    def __str__(self) -> str:
        return f"lock {self.name!r}"

    def statistics(self) -> LockStatistics:
        """Return what it has seen so far; from any thread, without waiting for the lock."""
        return LockStatistics(
            self._holds,
            self._held_s,
            self._longest_hold_s,
            self._waits,
            self._waited_s,
            self._longest_wait_s,
            self._abandoned,
        )

    def holder(self) -> tuple[PartyId, PartyId] | None:
        """Return who holds it for the wait-for graph, and in which thread; None when nobody can tell.

        A lock that was once given back by another than its taker may be so again: it is a signal rather
        than a lock, and nobody is known to hold it.
        """
        holder, thread = self._holder, self._thread
        return None if holder is None or self._handed_over else (holder, thread)

    def holding_party(self) -> Party | None:
        """Return who holds it, as reports name them; None when it is free."""
        holder, thread, where = self._holder, self._thread, self._where
        if holder is None:
            return None
        if where is not None and not isinstance(where, CodeLocation):
            where = location_at(*where)
        task_name = None if holder is thread else name_of(holder)
        return Party(
            name=task_name or thread.name,
            thread_id=thread.ident or 0,
            thread_name=thread.name,
            task_name=task_name,
            location=where,
        )

    def held_for_s(self) -> float:
        """Return for how long it has been held, in seconds; 0 when it is free."""
        return monotonic() - self._since if self._holder is not None else 0.0

    # -- taking and giving back ------------------------------------------------------------------------

    def _enter(self, me: Any, *, ordered: bool = True) -> None:
        """Note that `me` holds it beside what it holds already.

        Args:
            ordered: Whether it would have waited; who never waits cannot deadlock here.
        """
        if self._handed_over:
            self._held = []
            return
        seat = here.seat
        held = self._held = seat.held if me is seat.thread else held_by_tasks.setdefault(me, [])
        inversions = ORDER.taken(held, self, caller_location) if held and ordered else ()
        held.append(self)
        for names, earlier in inversions:
            announce_everywhere(
                LockOrderInversion(
                    at=time.time(),
                    first=names[0],
                    second=names[1],
                    earlier=earlier,
                    now=caller_location(),
                    between=names[2:],
                )
            )

    def _leave(self, me: Any) -> None:
        """Note that `me` gives it back, where it is not the one lock of its holder, or not held by `me`."""
        holder, held = self._holder, self._held
        if holder is None:
            return
        if holder is not me:
            self._handed_over = True
        with contextlib.suppress(ValueError):
            held.remove(self)
        if not held and held_by_tasks.get(holder) is held:
            del held_by_tasks[holder]

    def _announced_release(self, held_s: float, release: Callable[[], None]) -> None:
        """Give the standard lock back, and say so: its taking was announced too."""
        wait_id, self._wait_id = self._wait_id, 0
        owner = self.holding_party()
        self._holder = None
        release()
        if owner is not None:
            announce_everywhere(LockReleased(**self._facts(owner, wait_id), held_s=held_s))

    def _announce_taken(self, caller: Caller, wait_id: int, waited_s: float, *, contended: bool) -> None:
        self._wait_id = wait_id
        announce_everywhere(
            LockAcquired(**self._facts(caller.party, wait_id), waited_s=waited_s, contended=contended)
        )

    def _facts(self, owner: Party, wait_id: int) -> dict[str, Any]:
        return {
            "at": time.time(),
            "key": None,
            "transport_kind": None,
            "lock": None,
            "lock_name": self.name,
            "granularity": None,
            "wait_id": wait_id,
            "owner_id": None,
            "owner": owner,
        }
