"""The evidence of one stall: gathered while it lasts, summed up when it is reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import FrameType

from ..vocabulary import StallCause
from . import cgroup
from .causes import Evidence, decide
from .collector import CollectorProbe
from .probes import OwnProbe, OwnReading, ThreadProbe, busiest_between, gil_wait_s
from .pulse import LateBeat, Mark


@dataclass
class Turn:
    """One turn of the watchdog over all loops."""

    now: float
    planned: float
    """When the watchdog meant to look; at most `now`."""
    late_s: float
    """How much later it looked; small delays are left out."""
    frames: Mapping[int, FrameType]
    """The innermost frame of every thread but the watchdog's."""
    before: OwnReading
    """The watchdog and the process when it went to sleep."""
    probe: OwnProbe


class Measurement:
    """What is measured of one stall.

    A watchdog that came in time measures inside the stall, from its first look. One that was late measures
    from the heartbeat that did not come, because what kept it is what it wants to know.

    Args:
        mark: What the last heartbeat left.
        turn: The first look.
        probe: The loop's thread; None if not known.
        run_delay_s: An earlier reading of that thread, at most `SLOW_READING_S` old.
        tolerance_s: How late the watchdog may be and still measure from its first look.
        before_s: How long before the heartbeat was due its CPU time may have been read.
    """

    def __init__(
        self,
        mark: Mark,
        turn: Turn,
        probe: ThreadProbe | None,
        run_delay_s: float | None,
        tolerance_s: float,
        before_s: float,
    ) -> None:
        self._probe = probe
        self.inside = turn.late_s < tolerance_s
        """Whether it began inside the stall."""
        self.busiest_thread_id = 0
        """The thread besides the loop's that used most CPU time, as of the last `sum_up`."""
        self._late_s = 0.0 if self.inside else turn.late_s
        # A healthy loop may have been busy until the heartbeat was due: that much proves nothing.
        self._before_s = 0.0 if self.inside else before_s
        self._own = turn.before
        self._states: Counter[str] = Counter()
        if self.inside and probe is not None:
            self._since = turn.now
            self._cpu_s = probe.cpu_s()
            self._run_delay_s = probe.run_delay_s()
            self._own = turn.probe.read()
        else:
            self._since = mark.due
            self._cpu_s = mark.cpu_s
            # Without an earlier reading what was booked before is left out; a stall that lasts gets its cause
            # all the same, because a thread that waits for a CPU is not asleep.
            self._run_delay_s = probe.run_delay_s() if run_delay_s is None and probe else run_delay_s
        self._last_at = turn.now
        self.last_cpu_s = self._cpu_s if self.inside else None
        """CPU time of the loop's thread at the last look, in seconds; None if not known."""

    @property
    def is_blind(self) -> bool:
        """Whether it began without the CPU time of the loop's thread, and so can tell no cause."""
        return self._cpu_s is None

    def go_on(self, turn: Turn, idle: bool) -> None:
        """Take one more sample.

        Args:
            turn: This look.
            idle: Whether the loop waits for its next event.
        """
        if self._last_at != turn.now:
            self._late_s += turn.late_s
        if self._probe is None:
            return
        cpu_s, before_s = self._probe.cpu_s(), self.last_cpu_s
        elapsed_s = turn.now - self._last_at
        self._last_at, self.last_cpu_s = turn.now, cpu_s
        if cpu_s is not None and before_s is not None and cpu_s - before_s > elapsed_s / 2 > 0:
            # It runs. To ask the system would let go of the GIL, and cost a wait to get it back.
            self._states["R"] += 1
            return
        state = self._probe.state()
        # One that waits for its next event and is runnable has been woken, and is not scheduled.
        self._states["idle" if idle and state != "R" else state] += 1

    def sum_up(
        self, turn: Turn, threshold_s: float, collector: CollectorProbe, end: LateBeat | None = None
    ) -> Evidence:
        """Return the evidence so far, or until `end`.

        Args:
            turn: This look.
            threshold_s: CPU time that would have been a stall by itself.
            collector: When the garbage collector ran.
            end: The heartbeat that ended the stall.
        """
        until = turn.now if end is None else end.at
        window_s = max(until - self._since, 1e-6)
        count = max(sum(self._states.values()), 1)
        evidence = Evidence(
            window_s=window_s,
            enough_s=threshold_s,
            runnable=self._states["R"] / count,
            sleeping=(self._states["S"] + self._states["D"]) / count,
            idle=self._states["idle"] / count,
            gc_s=collector.between_s(self._since, until),
            late_s=min(self._late_s, window_s),
            asleep_s=0.0 if self.inside else max(window_s - self._late_s, 0.0),
        )
        if self._probe is None:
            return evidence

        def within(before: float | None, after: float | None) -> float | None:
            if before is None or after is None:
                return None
            return min(max(after - before, 0.0), window_s)

        cpu_s = self._probe.cpu_s() if end is None else end.cpu_s
        if cpu_s is not None:
            cpu_s -= self._before_s
        evidence = replace(evidence, cpu_s=within(self._cpu_s, cpu_s))
        if decide(evidence) is StallCause.CPU:
            return evidence  # It may have the GIL now; see `go_on`.
        own = turn.probe.read(fresh=True)
        base, now = self._own.slow, own.slow
        but = {self._probe.seat.thread_id}
        self.busiest_thread_id, other_s = busiest_between(base.threads_cpu_s, now.threads_cpu_s, but)
        return replace(
            evidence,
            run_delay_s=within(self._run_delay_s, self._probe.run_delay_s()),
            throttled_s=within(0.0, cgroup.between_s(base.throttled_s, now.throttled_s)),
            own_run_delay_s=within(base.run_delay_s, now.run_delay_s),
            gil_wait_s=within(0.0, gil_wait_s(self._own, own)),
            process_cpu_s=within(self._own.process_cpu_s, own.process_cpu_s),
            other_cpu_s=min(other_s, window_s),
        )
