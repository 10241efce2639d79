"""What a loop did over a window of time: how late its heartbeats were, and which tasks took most of it."""

from __future__ import annotations

from collections import Counter, deque

from .stacks import MAX_STACKS

_NAMED_TASKS = 5


class Window:
    """Counts the looks at one loop until they are summed up; used on the watchdog's thread.

    Args:
        now: When the first window begins, in seconds on any clock that does not go back.
    """

    def __init__(self, now: float) -> None:
        self.length_s = 10.0
        """How long a window is, in seconds; may be changed at any time."""
        self._began_at = now
        self._looks = 0
        self._tasks: Counter[str] = Counter()

    @property
    def ends_at(self) -> float:
        """When the window is to be summed up."""
        return self._began_at + self.length_s

    def count(self, task: str | None) -> None:
        """Note one look, and the task that ran then."""
        self._looks += 1
        if task is not None and (task in self._tasks or len(self._tasks) < MAX_STACKS):
            self._tasks[task] += 1

    def end(self, now: float, lags: deque[float]) -> tuple[float, tuple[float, ...], Shares]:
        """Begin another window; returns the length of the last one, its lags, taken away, and its tasks."""
        length_s, self._began_at = now - self._began_at, now
        taken: list[float] = []
        while lags:
            taken.append(lags.popleft())
        busiest = shares(self._tasks, self._looks)
        self._looks, self._tasks = 0, Counter()
        return length_s, tuple(taken), busiest


Shares = tuple[tuple[str, float], ...]
"""Names, each with its share, 0 to 1."""


def shares(counts: Counter[str], total: int) -> Shares:
    """Return the most frequent names with their share of `total`, the most frequent first."""
    return tuple((name, count / total) for name, count in counts.most_common(_NAMED_TASKS))
