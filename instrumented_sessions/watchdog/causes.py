"""Why a loop stalled: a decision from evidence, in pure code that blames nobody without it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..vocabulary import StallCause

STARVED_SHARE = 0.2
"""A thread is starved if it gets less than this part of the CPU time it could use."""


ASKED_S = 0.02
"""Native code keeps the GIL if the watchdog asks for it for longer than this: every 5 ms, by default."""


@dataclass(frozen=True)
class Evidence:
    """What was measured over a window of a stall; seconds. None where the system cannot tell."""

    window_s: float
    """How long was measured."""
    enough_s: float = float("inf")
    """CPU time after which the loop would have stalled by itself, whatever else went on."""
    cpu_s: float | None = None
    """The loop's thread was on a CPU, for at least so long."""
    run_delay_s: float | None = None
    """The loop's thread was runnable but not scheduled, as far as is booked."""
    runnable: float = 0.0
    """The share of samples in which the loop's thread was running or runnable, 0 to 1."""
    sleeping: float = 0.0
    """The share of samples in which the loop's thread was asleep in the system, 0 to 1."""
    idle: float = 0.0
    """The share of samples in which the loop waited for its next event, 0 to 1."""
    gc_s: float = 0.0
    """The garbage collector ran, in any thread."""
    throttled_s: float | None = None
    """The cgroup was throttled."""
    late_s: float = 0.0
    """The watchdog itself woke later than it meant to."""
    asleep_s: float = 0.0
    """The watchdog did not mean to look yet."""
    own_run_delay_s: float | None = None
    """The watchdog was runnable but not scheduled."""
    gil_wait_s: float | None = None
    """The watchdog was awake and waited for the GIL."""
    process_cpu_s: float | None = None
    """All threads of the process, on all CPUs."""
    other_cpu_s: float = 0.0
    """The busiest Python thread besides the loop's."""

    @property
    def other_kept_gil(self) -> bool:
        """Whether, if somebody kept the GIL, it was not the loop's thread."""
        enough_s = min(self.window_s / 2, self.enough_s)
        return self.other_cpu_s > enough_s and self.other_cpu_s > 2 * (self.cpu_s or 0.0)

    def items(self) -> tuple[tuple[str, float], ...]:
        """Return what is known, for `StallReport.evidence`."""
        return tuple(
            (name, round(value, 6))
            for name, value in asdict(self).items()
            if value is not None and value != float("inf")
        )


def decide(evidence: Evidence) -> StallCause:
    """Return the cause that the evidence supports, else `unknown`.

    Every cause needs more than half of the window, except that code which ran for longer than the
    threshold is at fault however slowly it was scheduled. Then the watchdog suspects itself: if it did not
    run either, the code is at fault only when somebody had the GIL meanwhile.
    """
    half_s = evidence.window_s / 2
    if evidence.gc_s > half_s:
        return StallCause.GC
    if evidence.cpu_s is None:
        return StallCause.UNKNOWN
    if evidence.cpu_s > half_s or evidence.cpu_s >= evidence.enough_s:
        return _decide_on_cpu(evidence)
    if (evidence.throttled_s or 0.0) > half_s and evidence.sleeping <= 0.5:
        return StallCause.THROTTLED
    if evidence.run_delay_s is None:
        return StallCause.UNKNOWN
    busy_s = evidence.cpu_s + evidence.run_delay_s
    if evidence.late_s <= half_s and evidence.runnable > evidence.sleeping + evidence.idle:
        # The system books a delay only when it ends: runnable without a CPU is a delay that goes on.
        busy_s = evidence.window_s
    if busy_s > half_s:
        return _decide_on_cpu(evidence) if evidence.cpu_s > STARVED_SHARE * busy_s else StallCause.STARVED
    if evidence.late_s > half_s:
        return _decide_late(evidence, half_s)
    return _decide_on_time(evidence)


def _decide_on_cpu(evidence: Evidence) -> StallCause:
    """The loop's thread had a CPU; did it let other Python threads run?"""
    if evidence.late_s <= (evidence.window_s - evidence.asleep_s) / 2:
        return StallCause.CPU
    # A watchdog that waited for a CPU proves nothing about the GIL; one that asked for the GIL again and
    # again does, because Python code gives it up at the first request.
    asked = evidence.gil_wait_s is None or evidence.gil_wait_s > max(evidence.late_s / 4, ASKED_S)
    return StallCause.GIL if asked else StallCause.CPU


def _decide_late(evidence: Evidence, half_s: float) -> StallCause:
    """The watchdog itself could not run for most of the window, and the loop's thread did not either."""
    if (evidence.own_run_delay_s or 0.0) > half_s:
        return StallCause.STARVED
    if (evidence.gil_wait_s or 0.0) > half_s:
        return StallCause.GIL
    if evidence.process_cpu_s is not None and evidence.process_cpu_s < evidence.window_s / 5:
        return StallCause.SUSPENDED  # Nobody ran and nobody waited.
    return StallCause.UNKNOWN


def _decide_on_time(evidence: Evidence) -> StallCause:
    """The watchdog ran; the loop's thread neither ran nor waited for a CPU."""
    if evidence.idle > 0.5:
        # Waiting for an event with an overdue timer: whoever is late, it is not the program.
        return StallCause.UNKNOWN
    return StallCause.BLOCKING_CALL if evidence.sleeping > 0.5 else StallCause.UNKNOWN
