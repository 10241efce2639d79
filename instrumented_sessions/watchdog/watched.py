"""One watched loop: turns looks at its heartbeat into events."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

from .. import live
from ..chain import BlockingChain
from ..clock import Clock
from ..events import Event, LoopHeartbeat, LoopRecovered, LoopStalled, StallReport
from ..vocabulary import StallCause
from .causes import decide
from .collector import CollectorProbe
from .measurement import Measurement, Turn
from .probes import SLOW_READING_S, ThreadProbe
from .pulse import LateBeat, Mark, Pulse
from .stacks import MAX_STACKS, Samples, has_only_called, read_stack
from .stall import DetailBudget, StallWatch

MAX_WAITS = 10
"""How many of the waits on a stalled loop a report has."""

_NAMED_TASKS = 5
_PROPER_LOOK_S = 0.25
"""How often even a healthy loop is looked at properly, in seconds: which task runs, and has it ended?"""
_stall_ids = itertools.count(1)


@dataclass
class Stall:
    """A stall, or a suspicion that may become one."""

    due: float
    measurement: Measurement
    stall_id: int = 0
    """0 while it is only suspected."""
    age_s: float = 0.0
    """Its age at the last look; of what came after nothing is known yet, it may be that nothing ran."""
    cause: StallCause = StallCause.UNKNOWN
    evidence: tuple[tuple[str, float], ...] = ()
    samples: Samples = field(default_factory=Samples)
    held: Samples = field(default_factory=Samples)
    """What must have kept the GIL while the watchdog could not run."""
    detailed: bool = True
    """Whether stacks are taken all the time, rather than one for each report."""
    waits: tuple[BlockingChain, ...] = ()
    """What waits on the loop's thread, as of the last report while it lasted."""


class WatchedLoop:
    """One loop under watch; used on the watchdog's thread, but for what is read: `name`, `pulse`, `stalls`.

    Args:
        pulse: Its heartbeat.
        name: The name given, None for the default.
        threshold_s: Lag above which it counts as stalled, in seconds.
        collector: When the garbage collector ran.
        clock: Tells instants; the heartbeat uses the system's monotonic clock.
    """

    def __init__(
        self, pulse: Pulse, name: str | None, threshold_s: float, collector: CollectorProbe, clock: Clock
    ) -> None:
        self.pulse = pulse
        self.given_name = name
        self.heartbeat_span_interval_s = 10.0
        """How often its lag is summed up, in seconds."""
        self.stalls: Counter[StallCause] = Counter()
        """Stalls so far, by the cause they were first reported with."""
        self.ongoing: StallReport | None = None
        """The last report of the stall that lasts; None while the loop answers."""
        self._watch = StallWatch(threshold_s)
        self._collector = collector
        self._clock = clock
        self._probe: ThreadProbe | None = None
        self._run_delay_s: float | None = None
        self._run_delay_at = float("-inf")
        self._look_by = float("-inf")
        self._stall: Stall | None = None
        self._away = False
        self._back_at = float("-inf")  # When the loop was first seen running again.
        self._budget = DetailBudget()
        self._looks = 0
        self._busy_looks: Counter[str] = Counter()
        self._window_started = clock.monotonic()

    @property
    def name(self) -> str:
        """The name given, else `main` or `other`."""
        if self.given_name is not None:
            return self.given_name
        seat = self.pulse.seat
        return "main" if seat is not None and seat.is_main else "other"

    @property
    def thread_id(self) -> int:
        """The thread that the loop was last seen on; 0 if not known."""
        return self.pulse.seat.thread_id if self.pulse.seat is not None else 0

    def stalled_for(self) -> tuple[StallCause, float] | None:
        """Return cause and age in seconds, as of the last look, of the stall that lasts; from any thread."""
        stall = self._stall
        if stall is None or not stall.stall_id or stall.due < self.pulse.mark.due:
            return None  # In the last case the loop runs again, and the watchdog is yet to see it.
        age_s = stall.age_s  # Before the cause: an age is never told with what was thought earlier.
        return stall.cause, age_s

    @property
    def threshold_s(self) -> float:
        """Lag above which the loop counts as stalled, in seconds."""
        return self._watch.threshold_s

    @threshold_s.setter
    def threshold_s(self, threshold_s: float) -> None:
        self._watch.threshold_s = threshold_s
        self.pulse.threshold_s = threshold_s

    def glance(self, now: float) -> float | None:
        """Return when to look next if all is well, None if a proper look is needed now."""
        if now > self._look_by or self.pulse.late:
            return None
        suspect_at = self._watch.suspect_at(self.pulse.mark.due)
        return suspect_at if now < suspect_at else None

    def is_suspect(self, now: float) -> bool:
        """Return whether the heartbeat is late enough for a closer look."""
        return now >= self._watch.suspect_at(self.pulse.mark.due)

    def look(self, turn: Turn) -> tuple[list[Event], float | None]:
        """Look at the loop once.

        Returns:
            What is to be announced, and when to look again (None: never, it has ended).
        """
        self._look_by = turn.now + _PROPER_LOOK_S
        events: list[Event] = []
        while True:
            # A late beat is appended before the mark moves on: with none left, the mark is a later one.
            mark = self.pulse.mark
            if not self.pulse.late:
                break
            events += self._answer(self.pulse.late.popleft(), turn)
        if self.pulse.has_ended:
            return events, None
        if not self.pulse.is_running:
            self._away = True
            self.pulse.pause()
            self._watch.settle()
            return events + self._give_up(turn.now), turn.now + self.pulse.interval_s + self.threshold_s
        if self._away:
            self._away, self._back_at = False, turn.now
        if mark.due < self._back_at:  # That timer was due while the loop did not run at all.
            mark = mark._replace(due=self._back_at)
        if self._stall is not None and self._stall.due != mark.due:
            events += self._give_up(turn.now)
        look = self._watch.look(turn.now, mark.due)
        self._count_task()
        if look.suspected:
            events += self._examine(mark, turn, look.report)
        elif turn.now - self._run_delay_at > SLOW_READING_S:
            probe = self._thread()
            self._run_delay_s = probe.run_delay_s() if probe is not None else None
            self._run_delay_at = turn.now
        if turn.now - self._window_started >= self.heartbeat_span_interval_s:
            events.append(self._end_window(turn.now))
        return events, look.next_at

    def close(self) -> list[Event]:
        """Watch no more; returns the last events."""
        self.pulse.stop()
        now = self._clock.monotonic()
        events = [*self._give_up(now), self._end_window(now)]
        if self._probe is not None:
            self._probe.close()
        return events

    def _count_task(self) -> None:
        """Note which task runs at this look; over a window that tells which ones take most."""
        self._looks += 1
        task = self.pulse.task_name()
        if task is not None and (task in self._busy_looks or len(self._busy_looks) < MAX_STACKS):
            self._busy_looks[task] += 1

    def _thread(self) -> ThreadProbe | None:
        """Return the probe of the thread that runs the loop now."""
        seat = self.pulse.seat
        if seat is not None and (self._probe is None or self._probe.seat != seat):
            if self._probe is not None:
                self._probe.close()
            self._probe = ThreadProbe(seat)
            self._run_delay_s = None
        return self._probe

    def _begin(self, mark: Mark, turn: Turn, tolerance_s: float) -> Stall:
        measurement = Measurement(mark, turn, self._thread(), self._run_delay_s, tolerance_s)
        return Stall(mark.due, measurement, detailed=self._budget.spend(turn.now))

    def _examine(self, mark: Mark, turn: Turn, report: bool) -> list[Event]:
        """Take a sample of a loop whose heartbeat is late, and report if it is time."""
        stall = self._stall
        if stall is None:
            stall = self._stall = self._begin(mark, turn, self.threshold_s / 4)
        seat = self.pulse.seat
        if seat is not None and (stall.detailed or report):
            frame = turn.frames.get(seat.thread_id)
            stack, in_time = read_stack(frame, self.pulse.base), turn.late_s < self.threshold_s / 4
            stall.samples.add(stack, self.pulse.task_name(), in_time)
            if frame is not None and not in_time and has_only_called(frame):
                stall.held.add(stack, None)
            stall.measurement.go_on(turn, stack.idle)
        if report:
            self._judge(stall, turn)
        stall.age_s = turn.now - stall.due  # After the cause, see `stalled_for`.
        return [self._stalled(stall, stall.age_s, ongoing=True)] if report else []

    def _judge(self, stall: Stall, turn: Turn, end: LateBeat | None = None) -> None:
        """Decide the cause from what is known by now; what was known is not forgotten."""
        enough_s = self.threshold_s
        if not stall.measurement.inside:
            enough_s += self.pulse.interval_s  # A healthy loop may have been busy until the beat was due.
        evidence = stall.measurement.sum_up(turn, enough_s, self._collector, end)
        cause = decide(evidence)
        if cause is not StallCause.UNKNOWN or not stall.stall_id:
            stall.cause, stall.evidence = cause, evidence.items()
        if cause is StallCause.GIL and evidence.other_kept_gil:
            # Another thread kept everybody waiting: whatever the loop was about to do is not to blame.
            stall.samples = stall.held = Samples()
            frame = turn.frames.get(stall.measurement.busiest_thread_id)
            if frame is not None and turn.late_s and has_only_called(frame):
                stall.held.add(read_stack(frame), None)

    def _answer(self, beat: LateBeat, turn: Turn) -> list[Event]:
        """Take note of a heartbeat that came at last."""
        stall, self._stall, self.ongoing = self._stall, None, None
        self._watch.settle()
        duration_s = beat.at - beat.due
        if stall is None or stall.due != beat.due:
            # It came and went while the watchdog could not look.
            stall = self._begin(Mark(beat.due, beat.cpu_before_s), turn, tolerance_s=0.0)
        self._judge(stall, turn, beat)
        events: list[Event] = []
        if not stall.stall_id:
            events.append(self._stalled(stall, duration_s, ongoing=False))
        events.append(LoopRecovered(self._clock.time(), self._report(stall, duration_s, ongoing=False)))
        return events

    def _give_up(self, now: float) -> list[Event]:
        """Settle a stall whose end no heartbeat has told: the loop has stopped or ended."""
        stall, self._stall, self.ongoing = self._stall, None, None
        if stall is None or not stall.stall_id:
            return []
        return [LoopRecovered(self._clock.time(), self._report(stall, now - stall.due, ongoing=False))]

    def _stalled(self, stall: Stall, duration_s: float, ongoing: bool) -> Event:
        if not stall.stall_id:
            stall.stall_id = next(_stall_ids)
            self.stalls[stall.cause] += 1
        if ongoing:
            stall.waits = tuple(live.waits(self.thread_id)[:MAX_WAITS]) if stall.detailed else ()
        report = self._report(stall, duration_s, ongoing)
        self.ongoing = report if ongoing else None
        return LoopStalled(self._clock.time(), report)

    def _report(self, stall: Stall, duration_s: float, ongoing: bool) -> StallReport:
        samples = stall.samples
        tasks = _shares(samples.tasks, samples.total)
        # What is seen once the GIL is free mostly says nothing about who kept it.
        seen = stall.held if stall.cause is StallCause.GIL else samples
        blames = stall.cause.blames_code
        return StallReport(
            loop=self.name,
            thread_id=self.thread_id,
            started_at=self._clock.time() - (self._clock.monotonic() - stall.due),
            duration_s=duration_s,
            ongoing=ongoing,
            cause=stall.cause,
            culprit=seen.culprit if blames else None,
            stacks=samples.stacks() if stall.detailed else (),
            task=tasks[0][0] if tasks else None,
            stall_id=stall.stall_id,
            evidence=stall.evidence,
            tasks=tasks,
            awaits=seen.awaits if blames else (),
            waits=stall.waits,
            detailed=stall.detailed,
        )

    def _end_window(self, now: float) -> Event:
        window_s, self._window_started = now - self._window_started, now
        lags: list[float] = []
        while self.pulse.lags:
            lags.append(self.pulse.lags.popleft())
        busiest = _shares(self._busy_looks, self._looks)
        self._looks, self._busy_looks = 0, Counter()
        return LoopHeartbeat(self._clock.time(), self.name, self.thread_id, window_s, tuple(lags), busiest)


def _shares(counts: Counter[str], total: int) -> tuple[tuple[str, float], ...]:
    """Return the most frequent names with their share of `total`, the most frequent first."""
    return tuple((name, count / total) for name, count in counts.most_common(_NAMED_TASKS))
