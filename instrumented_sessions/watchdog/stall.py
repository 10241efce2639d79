"""When a loop is stalled, and which looks and reports are due: pure code, told the time by its caller."""

from __future__ import annotations

from typing import NamedTuple

REPORT_MARKS_S = (1.0, 5.0, 15.0, 60.0)
"""A stall that lasts is reported at the threshold, again at these ages, then every last-mark seconds."""

SUSPICION = 0.8
"""The part of the threshold after which a loop is looked at more closely.

Early enough to measure inside the stall before it is reported; late enough that healthy loops cost few
looks: one in as many heartbeat intervals as fit in between, and one more.
"""

SHORTEST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 1.0


class Look(NamedTuple):
    """What one look at a loop asks for."""

    suspected: bool
    """Its heartbeat is late: take a sample of its stack."""
    report: bool
    """A report is due now."""
    next_at: float
    """When to look again, on the clock of `now`."""


def next_mark_s(age_s: float) -> float:
    """Return the first age above `age_s` at which a stall is reported again, in seconds."""
    for mark_s in REPORT_MARKS_S:
        if age_s < mark_s:
            return mark_s
    period_s = REPORT_MARKS_S[-1]
    return (age_s // period_s + 1) * period_s


def pause_s(age_s: float) -> float:
    """Return how long to wait between two samples of a stall of this age, in seconds.

    A tenth of the age: every stall gets a few dozen samples, however long it lasts.
    """
    return min(max(age_s / 10, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)


class StallWatch:
    """One loop as the watchdog sees it: fine, suspected or stalled.

    `due` names a stall: it is the instant at which the heartbeat that did not come was due.
    Only `look` and `settle` change it.
    """

    def __init__(self, threshold_s: float) -> None:
        self.threshold_s = threshold_s
        """Lag above which the loop counts as stalled, in seconds; may be changed at any time."""
        self.due: float | None = None
        """The heartbeat that is late; None while the loop is fine."""
        self.reports = 0
        """How many reports this stall has made."""
        self._next_report_s = threshold_s

    def look(self, now: float, due: float) -> Look:
        """Compare the time with the instant at which the loop's next heartbeat is due.

        Args:
            now: The time.
            due: When the next heartbeat is due; on the same clock.
        """
        if due != self.due:
            self.settle()
        age_s = now - due
        if now < (suspect_at := self.suspect_at(due)):
            return Look(False, False, suspect_at)
        if self.due is None:
            self.due = due
            self._next_report_s = self.threshold_s
        report = age_s >= self._next_report_s
        if report:
            self.reports += 1
            self._next_report_s = next_mark_s(age_s)
        return Look(True, report, min(now + pause_s(age_s), due + self._next_report_s))

    def suspect_at(self, due: float) -> float:
        """Return when a heartbeat that was due at `due` is late enough for a closer look."""
        return due + self.threshold_s * SUSPICION

    def settle(self) -> None:
        """Forget the late heartbeat: it came, or the loop has ended."""
        self.due = None
        self.reports = 0


class DetailBudget:
    """How many stalls of a loop may be examined in detail; the others are counted and named all the same.

    Args:
        per_minute: How many in a minute; as many may come at once.
    """

    def __init__(self, per_minute: int = 60) -> None:
        self._capacity = float(per_minute)
        self._left = self._capacity
        self._at = 0.0

    def spend(self, now: float) -> bool:
        """Return whether one more stall may be examined in detail."""
        self._left = min(self._left + max(now - self._at, 0.0) * self._capacity / 60, self._capacity)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
