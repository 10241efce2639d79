"""In which order locks are taken, and whether that order could deadlock some day.

Pure: no I/O; may be used from any thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from .chain import CodeLocation

CAPACITY = 4096
"""How many pairs of locks are remembered; beyond it the oldest are forgotten."""
_LONGEST_SEARCH = 1000


class Ordered(Protocol):
    """A lock as the order sees it."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def number(self) -> int:
        """Its identity, never used again."""


class Inversion(NamedTuple):
    """Locks that were taken round in a ring, though not yet by several at once."""

    names: tuple[str, ...]
    """The lock that was held, the one that was taken now, and those that lead back to the first."""
    earlier: CodeLocation | None
    """Where the second was held while the next of them was taken."""


class _Pair:
    """One lock was taken while another was held."""

    __slots__ = ("guards", "inner_name", "location")

    def __init__(self, inner_name: str, location: CodeLocation | None, guards: frozenset[int]) -> None:
        self.inner_name = inner_name
        self.location = location
        self.guards = guards
        """What else was held each time: who takes such a lock first keeps the others out."""


class LockOrder:
    """Remembers pairs of locks that were held together, and finds the rings that they make.

    A ring whose pairs were all taken under one common lock cannot deadlock, and is none.

    Args:
        capacity: How many pairs are remembered.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self.forget()

    def __len__(self) -> int:
        return len(self._ages)

    def forget(self) -> None:
        """Begin with nothing; called in the child after a fork."""
        self._lock = threading.RLock()  # Protects what follows; read without it where a miss does no harm.
        self._after: dict[int, dict[int, _Pair]] = {}
        self._ages: dict[tuple[int, int], None] = {}
        self._told: dict[frozenset[int], None] = {}

    def taken(
        self, held: Iterable[Ordered], inner: Ordered, locate: Callable[[], CodeLocation | None]
    ) -> list[Inversion]:
        """Note that `inner` was taken while `held` were held; returns what could deadlock, each once.

        Args:
            locate: Says where; asked for pairs that are new.
        """
        held = list(held)
        numbers = frozenset(outer.number for outer in held)
        found = []
        for outer in held:
            guards = numbers - {outer.number}
            known = self._after.get(outer.number, {}).get(inner.number)
            if known is not None and known.guards <= guards:
                continue
            with self._lock:
                inversion = self._note(outer, inner, guards, locate)
            if inversion is not None:
                found.append(inversion)
        return found

    def _note(
        self,
        outer: Ordered,
        inner: Ordered,
        guards: frozenset[int],
        locate: Callable[[], CodeLocation | None],
    ) -> Inversion | None:
        inners = self._after.setdefault(outer.number, {})
        pair = inners.get(inner.number)
        if pair is None:
            pair = inners[inner.number] = _Pair(inner.name, locate(), guards)
            self._ages[outer.number, inner.number] = None
            self._forget_oldest()
        else:
            pair.guards &= guards
        way = self._way(inner.number, outer.number, pair.guards)
        if way is None:
            return None
        members = frozenset(number for number, _ in way) | {outer.number}
        if members in self._told:
            return None
        self._told[members] = None
        if len(self._told) > self._capacity:
            del self._told[next(iter(self._told))]
        names = (outer.name, inner.name, *(step.inner_name for _, step in way[:-1]))
        return Inversion(names, way[0][1].location)

    def _forget_oldest(self) -> None:
        while len(self._ages) > self._capacity:
            outer, inner = next(iter(self._ages))
            del self._ages[outer, inner]
            del self._after[outer][inner]
            if not self._after[outer]:
                del self._after[outer]

    def _way(self, start: int, goal: int, guards: frozenset[int]) -> list[tuple[int, _Pair]] | None:
        """The shortest way from one lock to another whose pairs, and `guards`, have no lock in common.

        A list of (lock held, what was taken then); the search ends after `_LONGEST_SEARCH` steps.
        """
        todo: list[tuple[int, frozenset[int], list[tuple[int, _Pair]]]] = [(start, guards, [])]
        seen = {(start, guards)}
        for number, common, way in todo:
            for following, pair in list(self._after.get(number, {}).items()):
                left = common & pair.guards
                if following == goal and not left:
                    return [*way, (number, pair)]
                if following == goal or (following, left) in seen or len(todo) >= _LONGEST_SEARCH:
                    continue
                seen.add((following, left))
                todo.append((following, left, [*way, (number, pair)]))
        return None


ORDER = LockOrder()
"""The one order of this process: all user locks."""

os.register_at_fork(after_in_child=ORDER.forget)
