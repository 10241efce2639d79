"""One watched loop: turns looks at its heartbeat into events."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import NamedTuple

from ..clock import Clock
from ..events import Event, LoopHeartbeat, LoopRecovered, LoopStalled, StallReport
from ..vocabulary import StallCause
from .causes import Evidence, decide
from .probes import CollectorProbe, OwnProbe, OwnReading, ThreadProbe, gil_wait_s, throttled_between_s
from .pulse import LateBeat, Mark, Pulse
from .stacks import Samples, read_stack
from .stall import StallWatch

stall_ids = itertools.count(1)


class LoopReading(NamedTuple):
    """One loop's thread and the watchdog at one instant; what later readings are compared with."""

    at: float
    cpu_s: float | None
    run_delay_s: float | None
    own: OwnReading


@dataclass
class Turn:
    """One turn of the watchdog over all loops."""

    now: float
    late_s: float
    """How much later than planned the watchdog woke."""
    frames: Mapping[int, FrameType]
    """The innermost frame of every thread; empty when no loop looked late."""
    probe: OwnProbe
    """Reads the watchdog's own thread."""


@dataclass
class Stall:
    """What is known of a stall, or of a suspicion that may become one."""

    due: float
    base: LoopReading | None
    base_inside: bool
    """Whether `base` was read after the stall began."""
    late_s: float
    beat_cpu_s: float | None = None
    """CPU time of the loop's thread at the last beat before it."""
    stall_id: int = 0
    reports: int = 0
    cause: StallCause = StallCause.UNKNOWN
    evidence: tuple[tuple[str, float], ...] = ()
    samples: Samples = field(default_factory=Samples)
    states: list[str] = field(default_factory=list)
    last_cpu_s: float | None = None
    last_at: float = 0.0


class WatchedLoop:
    """One loop under watch; used on the watchdog's thread only, apart from `name` and `pulse`."""

    def __init__(
        self, pulse: Pulse, name: str | None, threshold_s: float, collector: CollectorProbe, clock: Clock
    ) -> None:
        self.pulse = pulse
        self.given_name = name
        self.heartbeat_span_interval_s = 10.0
        self.stalls: dict[str, int] = {}
        """Finished and ongoing stalls so far, by cause."""
        self._watch = StallWatch(threshold_s)
        self._collector = collector
        self._clock = clock
        self._probe: ThreadProbe | None = None
        self._base: LoopReading | None = None
        self._stall: Stall | None = None
        self._window_started = clock.monotonic()

    @property
    def name(self) -> str:
        """The name given, else `main` or `other`."""
        if self.given_name is not None:
            return self.given_name
        seat = self.pulse.seat
        return "main" if seat is not None and seat.is_main else "other"

    @property
    def threshold_s(self) -> float:
        """Lag above which the loop counts as stalled, in seconds."""
        return self._watch.threshold_s

    @threshold_s.setter
    def threshold_s(self, threshold_s: float) -> None:
        self._watch.threshold_s = threshold_s
        self.pulse.threshold_s = threshold_s

    def is_suspect(self, now: float) -> bool:
        """Return whether the heartbeat is late enough for a closer look."""
        return self._watch.is_suspect(now, self.pulse.mark.due)

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
            events += self._on_late_beat(self.pulse.late.popleft(), turn)
        if self.pulse.has_ended:
            return events, None
        if not self.pulse.is_running:
            self.pulse.paused = True
            events += self._give_up(turn.now)
            self._watch.settle()
            return events, turn.now + self.pulse.interval_s + self.threshold_s / 2
        look = self._watch.look(turn.now, mark.due)
        if self._stall is not None and self._stall.due != mark.due:
            events += self._give_up(turn.now)
        if look.suspected:
            stall = self._suspect(mark, turn)
            self._sample(stall, turn)
            if look.report:
                events.append(self._report(stall, turn))
        else:
            self._base = self._read(turn)
        if turn.now - self._window_started >= self.heartbeat_span_interval_s:
            events += self._end_window(turn.now)
        return events, look.next_at

    def close(self) -> list[Event]:
        """Watch no more; returns the last events."""
        self.pulse.stop()
        now = self._clock.monotonic()
        events = self._give_up(now) + self._end_window(now)
        if self._probe is not None:
            self._probe.close()
            self._probe = None
        return events

    def _thread(self) -> ThreadProbe | None:
        """Return the probe of the thread that runs the loop now."""
        seat = self.pulse.seat
        if seat is not None and (self._probe is None or self._probe.seat != seat):
            if self._probe is not None:
                self._probe.close()
            self._probe = ThreadProbe(seat)
            self._base = None
        return self._probe

    def _read(self, turn: Turn) -> LoopReading:
        probe = self._thread()
        own = turn.probe.read()
        if probe is None:
            return LoopReading(turn.now, None, None, own)
        return LoopReading(turn.now, probe.cpu_s(), probe.run_delay_s(), own)

    def _suspect(self, mark: Mark, turn: Turn) -> Stall:
        stall = self._stall
        if stall is not None:
            stall.late_s += turn.late_s
            return stall
        # A watchdog that comes in time starts to measure inside the stall. One that was late measures
        # from its last look, because what kept it is what it wants to know.
        inside = turn.late_s < self.threshold_s / 4
        base = self._read(turn) if inside else self._base
        self._stall = stall = Stall(mark.due, base, inside, 0.0 if inside else turn.late_s)
        stall.beat_cpu_s = mark.cpu_s
        return stall

    def _sample(self, stall: Stall, turn: Turn) -> None:
        probe = self._thread()
        if probe is None:
            return
        stack = read_stack(turn.frames.get(probe.seat.thread_id), self.pulse.base)
        stall.samples.add(stack, self.pulse.task_name())
        cpu_s = probe.cpu_s()
        before_s, elapsed_s = stall.last_cpu_s, turn.now - stall.last_at
        stall.last_cpu_s, stall.last_at = cpu_s, turn.now
        if cpu_s is not None and before_s is not None and cpu_s - before_s > elapsed_s / 2:
            return  # It runs. Asking the system costs a wait for the GIL, which it would have to give up.
        if len(stall.states) < 1000:
            stall.states.append("idle" if stack.idle else probe.state())

    def _measure(self, stall: Stall, turn: Turn, end: LateBeat | None = None) -> Evidence:
        """Sum up the evidence from the base to `end`, or to now."""
        until = turn.now if end is None else end.at
        base = stall.base
        since = base.at if base is not None and stall.base_inside else stall.due
        window_s = max(until - since, 1e-6)
        count = max(len(stall.states), 1)
        evidence = Evidence(
            window_s=window_s,
            runnable=stall.states.count("R") / count,
            sleeping=(stall.states.count("S") + stall.states.count("D")) / count,
            idle=stall.states.count("idle") / count,
            gc_s=self._collector.between_s(since, until),
            late_s=min(stall.late_s, window_s),
        )
        probe = self._thread()
        if base is None or probe is None:
            return evidence

        def clipped(before: float | None, after: float | None) -> float | None:
            if before is None or after is None:
                return None
            return min(max(after - before, 0.0), window_s)

        # The thread's clock at its last beat is the better base, if it is known.
        since_beat = not stall.base_inside and stall.beat_cpu_s is not None
        cpu_before_s = stall.beat_cpu_s if since_beat else base.cpu_s
        cpu_s = clipped(cpu_before_s, probe.cpu_s() if end is None else end.cpu_s)
        evidence = replace(evidence, cpu_s=cpu_s)
        if decide(evidence) is StallCause.CPU:
            # It has the GIL now; every further question to the system would cost a wait for it.
            return evidence
        own = turn.probe.read(fresh=True)
        return replace(
            evidence,
            run_delay_s=clipped(base.run_delay_s, probe.run_delay_s()),
            throttled_s=clipped(0.0, throttled_between_s(base.own, own)),
            own_run_delay_s=clipped(base.own.run_delay_s, own.run_delay_s),
            gil_wait_s=clipped(0.0, gil_wait_s(base.own, own)),
            process_cpu_s=clipped(base.own.process_cpu_s, own.process_cpu_s),
        )

    def _report(self, stall: Stall, turn: Turn) -> Event:
        evidence = self._measure(stall, turn)
        stall.cause = decide(evidence)
        stall.evidence = evidence.items()
        return self._stalled(stall, turn.now - stall.due, ongoing=True)

    def _stalled(self, stall: Stall, duration_s: float, ongoing: bool) -> Event:
        if not stall.stall_id:
            stall.stall_id = next(stall_ids)
            self.stalls[stall.cause] = self.stalls.get(stall.cause, 0) + 1
        stall.reports += 1
        return LoopStalled(self._clock.time(), self._make_report(stall, duration_s, ongoing))

    def _recovered(self, stall: Stall, duration_s: float) -> Event:
        return LoopRecovered(self._clock.time(), self._make_report(stall, duration_s, False))

    def _make_report(self, stall: Stall, duration_s: float, ongoing: bool) -> StallReport:
        blames = stall.cause.blames_code
        seat = self.pulse.seat
        tasks = stall.samples.tasks.most_common(1)
        return StallReport(
            loop=self.name,
            thread_id=seat.thread_id if seat is not None else 0,
            started_at=self._clock.time() - (self._clock.monotonic() - stall.due),
            duration_s=duration_s,
            ongoing=ongoing,
            cause=stall.cause,
            culprit=stall.samples.culprit if blames else None,
            stacks=stall.samples.stacks(),
            task=tasks[0][0] if tasks else None,
            stall_id=stall.stall_id,
            evidence=stall.evidence,
        )

    def _on_late_beat(self, beat: LateBeat, turn: Turn) -> list[Event]:
        stall = self._stall
        self._stall = None
        self._watch.settle()
        duration_s = beat.at - beat.due
        if stall is None or stall.due != beat.due:
            # It came and went while the watchdog could not look.
            stall = Stall(beat.due, self._base, False, turn.late_s)
        evidence = self._measure(stall, turn, beat)
        cause = decide(evidence)
        if cause is not StallCause.UNKNOWN or not stall.reports:
            stall.cause, stall.evidence = cause, evidence.items()
        events: list[Event] = []
        if not stall.reports:
            events.append(self._stalled(stall, duration_s, ongoing=False))
        events.append(self._recovered(stall, duration_s))
        return events

    def _give_up(self, now: float) -> list[Event]:
        """Settle a stall whose end no heartbeat has told: the loop has stopped or ended."""
        stall = self._stall
        self._stall = None
        if stall is None or not stall.reports:
            return []
        return [self._recovered(stall, now - stall.due)]

    def _end_window(self, now: float) -> list[Event]:
        window_s = now - self._window_started
        self._window_started = now
        lags: list[float] = []
        while self.pulse.lags:
            lags.append(self.pulse.lags.popleft())
        seat = self.pulse.seat
        thread_id = seat.thread_id if seat is not None else 0
        return [LoopHeartbeat(self._clock.time(), self.name, thread_id, window_s, tuple(lags))]
