"""Runs a recording again under another option: first come, first served, in virtual time.

What stays as it was recorded: how long each opening takes, how patient it is, and when it is asked for.
A caller that asked for one opening after the end of another asks as long after that end as it did then,
whenever it now comes; all others ask at the recorded instant.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from dataclasses import dataclass, field
from statistics import median

from .options import Option
from .recording import OpeningRecord, Recording

# What comes first at one instant: a permit given back is there for who asks or gives up then.
_RELEASE, _ASK, _GIVE_UP = range(3)


@dataclass(frozen=True)
class Played:
    """What became of one opening, in seconds since the first one asked for its permit."""

    opening: OpeningRecord
    asked_s: float
    granted_s: float | None
    """None when it gave up."""
    ended_s: float
    queued: bool
    """Whether it had to wait."""

    @property
    def waited_s(self) -> float:
        """Until the grant, or until it gave up."""
        return (self.ended_s if self.granted_s is None else self.granted_s) - self.asked_s


@dataclass
class _Lock:
    permits: int
    held: int = 0
    queue: deque[int] = field(default_factory=deque)


def replay(recording: Recording, option: Option) -> tuple[Played, ...]:
    """Return what `option` would have made of the recording, in the order of its openings."""
    return _Replay(recording, option).run()


def as_recorded(recording: Recording) -> tuple[Played, ...]:
    """Return what was measured, in the form of a replay."""
    start = recording.openings[0].asked_at
    return tuple(
        Played(
            opening,
            opening.asked_at - start,
            None if opening.held_s is None else opening.asked_at + opening.waited_s - start,
            opening.ended_at - start,
            opening.waited_s > 0.0,
        )
        for opening in recording.openings
    )


class _Replay:
    def __init__(self, recording: Recording, option: Option) -> None:
        self._openings = recording.openings
        self._option = option
        self._typical_s = _typical_holds(self._openings)
        self._then, self._pauses = _successors(self._openings)
        self._locks: dict[tuple[str, ...], _Lock] = {}
        self._asked: dict[int, float] = {}
        self._granted: dict[int, float] = {}
        self._ended: dict[int, float] = {}
        self._queued: set[int] = set()
        self._agenda: list[tuple[float, int, int]] = []  # When, what, which opening.

    def run(self) -> tuple[Played, ...]:
        start = self._openings[0].asked_at if self._openings else 0.0
        for index, opening in enumerate(self._openings):
            if index not in self._pauses:
                heapq.heappush(self._agenda, (opening.asked_at - start, _ASK, index))
        while self._agenda:
            now, what, index = heapq.heappop(self._agenda)
            if what == _ASK:
                self._ask(now, index)
            elif what == _RELEASE:
                self._release(now, index)
            elif index not in self._granted:
                self._end(now, index)
        return tuple(
            Played(opening, self._asked[i], self._granted.get(i), self._ended[i], i in self._queued)
            for i, opening in enumerate(self._openings)
        )

    def _lock_of(self, index: int) -> _Lock:
        opening = self._openings[index]
        scope = self._option.scope(opening.transport, opening.conversation)
        if scope not in self._locks:
            self._locks[scope] = _Lock(self._option.permits or 1)
        return self._locks[scope]

    def _ask(self, now: float, index: int) -> None:
        self._asked[index] = now
        lock = self._lock_of(index)
        if lock.held < lock.permits:
            self._grant(now, index, lock)
            return
        self._queued.add(index)
        lock.queue.append(index)
        if self._openings[index].held_s is None:
            heapq.heappush(self._agenda, (now + self._openings[index].waited_s, _GIVE_UP, index))

    def _grant(self, now: float, index: int, lock: _Lock) -> None:
        opening = self._openings[index]
        lock.held += 1
        self._granted[index] = now
        # How long one that gave up would have taken is not known: what its transport's others took.
        held_s = self._typical_s[opening.transport] if opening.held_s is None else opening.held_s
        heapq.heappush(self._agenda, (now + held_s, _RELEASE, index))

    def _release(self, now: float, index: int) -> None:
        lock = self._lock_of(index)
        lock.held -= 1
        self._end(now, index)
        while lock.queue:
            following = lock.queue.popleft()
            if following not in self._ended:  # Those that gave up are still in the queue.
                self._grant(now, following, lock)
                break

    def _end(self, now: float, index: int) -> None:
        self._ended[index] = now
        for following in self._then[index]:
            heapq.heappush(self._agenda, (now + self._pauses[following], _ASK, following))


def _typical_holds(openings: tuple[OpeningRecord, ...]) -> dict[str, float]:
    """Return the median hold of each transport; of all where one has none."""
    holds: dict[str, list[float]] = defaultdict(list)
    for opening in openings:
        holds[opening.transport] += [] if opening.held_s is None else [opening.held_s]
    known = [held_s for each in holds.values() for held_s in each]
    return {name: median(each or known or [0.0]) for name, each in holds.items()}


def _successors(openings: tuple[OpeningRecord, ...]) -> tuple[dict[int, list[int]], dict[int, float]]:
    """Return who asks after whose end, and the pause before each of them in seconds."""
    then: dict[int, list[int]] = defaultdict(list)
    pauses: dict[int, float] = {}
    last: dict[str, int] = {}  # By caller.
    for index, opening in enumerate(openings):
        if opening.caller is None:
            continue
        before = last.get(opening.caller)
        if before is not None and openings[before].ended_at <= opening.asked_at:
            then[before].append(index)
            pauses[index] = opening.asked_at - openings[before].ended_at
        last[opening.caller] = index
    return then, pauses
