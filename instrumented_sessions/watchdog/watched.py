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
from .probes import SLOW_READING_S, Load, ThreadProbe
from .pulse import AT_REST, LateBeat, Mark, Pulse
from .stacks import Samples, has_only_called, read_stack, waits
from .stall import DetailBudget, StallWatch
from .window import Window, shares

MAX_WAITS = 10
"""How many of the waits on a stalled loop a report has."""

_PROPER_LOOK_S = 1.0
"""How often even an idle loop is looked at properly and asked for a heartbeat, in seconds."""
_CALM_S = 1.0
"""For how long a loop that was busy goes on to beat by itself, in seconds: loads come in bursts."""
_FRESH_S = 0.01
"""For how long what was seen at the beginning of a turn holds, in seconds."""
_SOON_S = 0.001
_BEFORE_A_BEAT = 0.02
"""How long before a heartbeat a busy loop is looked at, as a part of the interval."""
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
        self.window = Window(clock.monotonic())
        """Sums up its lag and its tasks."""
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
        self._look_at = float("-inf")  # When to see again whether the loop is to be asked for a heartbeat.
        self._cpu_s: float | None = None  # CPU time of the thread at the last look.
        self._load = Load()
        self._busy_at = clock.monotonic()  # When it was last seen to have something to do.
        self._stall: Stall | None = None
        self._answered = float("-inf")  # When the last late heartbeat was due.
        self._away = False
        self._back_at = float("-inf")  # When the loop was first seen running again.
        self._budget = DetailBudget()

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

    def glance(self, turn: Turn) -> float | None:
        """Return when to look next if all is well, None if a proper look is needed now."""
        if self._probe is not None:
            self._load.update(turn.now, self._probe.cpu_s(), self.pulse.interval_s / 2)
        if turn.now > self._look_by or self.pulse.late or self._stall is not None:
            return None
        mark = self.pulse.mark
        if mark is AT_REST and turn.now >= self._look_at and not self._rest(turn):
            return None
        if self.is_suspect(turn.now):
            return None
        if self.pulse.repeats:
            self.window.count(self.pulse.task_name())
            self.pulse.repeats = not self._is_calm(turn)
        return self._next_at(turn.now, mark)

    def _rest(self, turn: Turn) -> bool:
        """Return whether the loop has nothing to do, and so needs no heartbeat now."""
        if turn.late_s > self.threshold_s or not self.pulse.is_running or not self._is_idle(turn):
            return False
        self._plan(turn.now)
        self.window.count(None)
        self.pulse.rest(turn.now)
        return True

    def _is_idle(self, turn: Turn) -> bool:
        """Return whether the loop waits for its next event; one that only looks for events does not."""
        return self._load.is_low and self._waits(turn)

    def _is_calm(self, turn: Turn) -> bool:
        """Return whether the loop has had nothing to do for a while."""
        if not self._is_idle(turn):
            self._busy_at = turn.now
        return turn.now - self._busy_at > _CALM_S

    def _waits(self, turn: Turn) -> bool:
        return waits(turn.frames.get(self.thread_id))

    def _plan(self, now: float) -> None:
        """Look again at the next multiple of the interval, so that the watchdog wakes once for many loops."""
        interval_s = self.pulse.interval_s
        self._look_at = (now // interval_s + 1) * interval_s
        self._cpu_s = self._probe.cpu_s() if self._probe is not None else None

    def _next_at(self, now: float, mark: Mark) -> float:
        """Return when to look next.

        A busy loop is looked at just before one of its heartbeats, which lets the watchdog have the GIL if it
        still waits for that; and no earlier than needed, as each look costs the loop.
        """
        suspect_at = self._watch.suspect_at(mark.due)
        if self.pulse.repeats:
            interval_s, early_s = self.pulse.interval_s, self.pulse.interval_s * _BEFORE_A_BEAT
            beats = max((suspect_at - mark.due + early_s) // interval_s, 1)
            at = mark.due + beats * interval_s - early_s
            return at if at > now else suspect_at
        if now >= self._look_at:
            self._plan(now)
        return min(suspect_at, self._look_at)

    def is_suspect(self, now: float) -> bool:
        """Return whether the heartbeat is late enough for a closer look."""
        return now >= self._watch.suspect_at(self.pulse.mark.due)

    def look(self, turn: Turn) -> tuple[list[Event], float | None]:
        """Look at the loop once.

        Returns:
            What is to be announced, and when to look again (None: never, it has ended).
        """
        events: list[Event] = []
        while True:
            # A late beat is appended before the mark moves on: with none left, the mark is a later one.
            mark = self.pulse.mark
            if not self.pulse.late:
                break
            events += self._answer(self.pulse.late.popleft(), turn)
        if mark.due == self._answered:
            return events, turn.now + _SOON_S  # The loop's thread is about to move the mark on.
        if self.pulse.has_ended:
            return events, None
        if not self.pulse.is_running:
            self._away = True
            self.pulse.pause()
            self._watch.settle()
            return events + self._give_up(turn.now), turn.now + self.pulse.interval_s + self.threshold_s
        if self._away:
            self._away, self._back_at = False, turn.now
        asks = mark is AT_REST
        if asks:
            mark = self._ask_for(turn)
        elif mark.due < self._back_at:  # It was asked for before the loop stopped for a while.
            mark = mark._replace(due=self._back_at)
        if self._stall is not None and self._stall.due != mark.due:
            events += self._give_up(turn.now)
        look = self._watch.look(turn.now, mark.due)
        self.window.count(self.pulse.task_name())
        if look.suspected:
            events += self._examine(mark, turn, look.report)
        elif turn.now - self._run_delay_at > SLOW_READING_S:
            probe = self._thread()
            self._run_delay_s = probe.run_delay_s() if probe is not None else None
            self._run_delay_at = turn.now
        if turn.now >= self.window.ends_at:
            events.append(self._sum_up(turn.now))
        self._look_by = min(turn.now + _PROPER_LOOK_S, self.window.ends_at)
        if asks:
            self.pulse.repeats = not self._is_calm(turn)
            self.pulse.ask(mark)  # Last of all, as it lets go of the GIL.
        return events, look.next_at if look.suspected else self._next_at(turn.now, mark)

    def _ask_for(self, turn: Turn) -> Mark:
        """Return the heartbeat to be asked for now.

        It was due when the watchdog meant to look if what kept the watchdog from that kept the loop, too: it
        took longer than the threshold, or the loop is busy.
        """
        now, cpu_s = self._clock.monotonic(), self._cpu_s
        self._plan(now)
        kept = turn.late_s > self.threshold_s or not self._waits(turn)
        if not kept or now - turn.now > _FRESH_S:
            return Mark(now, self._cpu_s)
        # But never before the last one, which may have come during this turn.
        return Mark(max(turn.planned, self.pulse.last_at), cpu_s if turn.late_s else self._cpu_s)

    def close(self) -> list[Event]:
        """Watch no more; returns the last events."""
        self.pulse.stop()
        now = self._clock.monotonic()
        events = [*self._give_up(now), self._sum_up(now)]
        if self._probe is not None:
            self._probe.close()
        return events

    def _sum_up(self, now: float) -> Event:
        window_s, lags_s, busiest = self.window.end(now, self.pulse.lags)
        return LoopHeartbeat(self._clock.time(), self.name, self.thread_id, window_s, lags_s, busiest)

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
        measurement = self._measure(mark, turn, tolerance_s)
        return Stall(mark.due, measurement, detailed=self._budget.spend(turn.now))

    def _measure(self, mark: Mark, turn: Turn, tolerance_s: float) -> Measurement:
        interval_s = self.pulse.interval_s
        return Measurement(mark, turn, self._thread(), self._run_delay_s, tolerance_s, interval_s)

    def _examine(self, mark: Mark, turn: Turn, report: bool) -> list[Event]:
        """Take a sample of a loop whose heartbeat is late, and report if it is time."""
        stall, tolerance_s = self._stall, self.threshold_s / 4
        if stall is None:
            stall = self._stall = self._begin(mark, turn, tolerance_s)
        elif stall.measurement.is_blind and turn.late_s < tolerance_s:
            stall.measurement = self._measure(mark, turn, tolerance_s)
        seat = self.pulse.seat
        if seat is not None and (stall.detailed or report):
            frame = turn.frames.get(seat.thread_id)
            stack, in_time = read_stack(frame, self.pulse.base), turn.late_s < tolerance_s
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
        evidence = stall.measurement.sum_up(turn, self.threshold_s, self._collector, end)
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
        self._answered = beat.due
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
        end = self.pulse.last_at if self.pulse.last_at > stall.due else now
        return [LoopRecovered(self._clock.time(), self._report(stall, end - stall.due, ongoing=False))]

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
        tasks = shares(samples.tasks, samples.total)
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
