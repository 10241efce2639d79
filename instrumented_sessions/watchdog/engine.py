"""The one thread of the process that watches all loops."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import live
from ..clock import SYSTEM_CLOCK
from ..events import Event
from ..live import Reading
from ..observer import AMBIENT, Announcer
from ..vocabulary import StallCause
from .collector import CollectorProbe
from .measurement import Turn
from .page import HeartbeatPage
from .probes import OwnProbe, OwnReading
from .pulse import make_pulse, running_loop
from .stacks import current_frames
from .watched import WatchedLoop

logger = logging.getLogger(__name__)

LONGEST_INTERVAL = 0.75
"""The longest interval between heartbeats, as a part of the threshold."""

THREAD_NAME = "instrumented-sessions-watchdog"


@dataclass(frozen=True)
class WatchdogStatistics:
    """The watchdog of the process at one instant: what it has seen, and what it costs."""

    loops: int
    """How many loops are watched."""
    stalls: Mapping[tuple[str, StallCause], int]
    """How many stalls were reported, by loop name and first cause; only grows."""
    heartbeats: int
    """How many heartbeats have come; only grows."""
    events: int
    """How many events were announced; only grows."""
    failures: int
    """How often the watchdog itself failed; the first is logged, and none reaches the program."""
    cpu_s: float
    """CPU time of its thread in seconds; the heartbeats take theirs on the loops."""


class Subscription:
    """Somebody who wants loops watched and hears of them."""

    def __init__(
        self,
        announcer: Announcer,
        *,
        stall_threshold_s: float,
        heartbeat_interval_s: float,
        heartbeat_span_interval_s: float,
        shared: bool,
    ) -> None:
        self.announcer = announcer
        self.stall_threshold_s = stall_threshold_s
        self.heartbeat_interval_s = heartbeat_interval_s
        self.heartbeat_span_interval_s = heartbeat_span_interval_s
        self.shared = shared
        """Whether it hears of every loop that a shared subscription watches."""


class _Entry:
    """A watched loop and who watches it."""

    def __init__(self, loop: Any, watched: WatchedLoop, subscription: Subscription) -> None:
        self.key = id(loop)
        self.loop = weakref.ref(loop)
        self.watched = watched
        self.subscriptions = {subscription}
        self.label = ""


class Engine:
    """Watches loops from one daemon thread, which runs while there are loops to watch.

    All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        """Begin anew; also in the child after a fork, where the parent's threads and loops are gone."""
        self._lock = threading.RLock()  # Protects what follows; never held while observers are told.
        self._entries: dict[int, _Entry] = {}
        self._leaving: list[tuple[_Entry, list[Announcer]]] = []
        self._told = threading.Event()
        """Set when the last events of those that left have been told."""
        self._subscriptions: set[Subscription] = set()
        self._thread: threading.Thread | None = None
        self._page: HeartbeatPage | None = None
        self._stopping = False
        self._bell = threading.Lock()  # Held by the thread; releasing it wakes the thread.
        self._bell.acquire()
        self._collector = CollectorProbe()
        self._past_stalls: Counter[tuple[str, StallCause]] = Counter()
        self._past_beats = 0
        # The rest is written by the watchdog's thread only.
        self._announced = 0
        self._failures = 0
        self._cpu_s = 0.0
        self._thread_cpu_s = 0.0

    def after_fork_in_child(self) -> None:
        """Forget the parent's loops, so that a copied one does not beat into memory shared with it."""
        for entry in self._entries.values():
            entry.watched.pulse.stop()
        self._collector.stop()
        if self._page is not None:
            self._page.close()
        subscriptions = self._subscriptions
        self._reset()
        self._subscriptions = subscriptions

    # -- who watches what

    def add(self, subscription: Subscription) -> None:
        """Let `subscription` hear of loops; the settings of shared ones apply to all shared loops."""
        with self._lock:
            self._subscriptions.add(subscription)
            self._settle_settings()

    def drop(self, subscription: Subscription, timeout_s: float = 5.0) -> None:
        """Forget `subscription` and the loops that only it watches.

        Waits until their last events are told; not on a loop's thread, nor on the watchdog's own.
        """
        with self._lock:
            for entry in list(self._entries.values()):
                self._leave(entry, subscription)
            self._subscriptions.discard(subscription)
            self._settle_settings()
            thread, told = self._thread, self._told
        self._ring()
        if thread is None or thread is threading.current_thread() or running_loop() is not None:
            return
        if self._entries:
            told.wait(timeout_s)
        else:
            thread.join(timeout_s)

    def watch(self, loop: Any, subscription: Subscription, name: str | None) -> None:
        """Watch `loop` for `subscription`; again only adds the name and the subscription.

        Raises:
            TypeError: It is no loop that can be watched.
        """
        with self._lock:
            self._subscriptions.add(subscription)
            entry = self._entries.get(id(loop))
            if entry is not None and entry.loop() is loop:
                entry.subscriptions.add(subscription)
                if name is not None and entry.watched.given_name is None:
                    entry.watched.given_name = name
            else:
                entry = self._enter(loop, subscription, name)
            self._settle_settings()
        self._ring()

    def unwatch(self, loop: Any, subscription: Subscription) -> None:
        """Watch `loop` no more for `subscription`; unknown ones are ignored."""
        with self._lock:
            entry = self._entries.get(id(loop))
            if entry is not None and entry.loop() is loop:
                self._leave(entry, subscription)
                self._settle_settings()
        self._ring()

    def _enter(self, loop: Any, subscription: Subscription, name: str | None) -> _Entry:
        if self._page is None:
            self._page = HeartbeatPage()
        slot = self._page.take()
        interval_s, threshold_s = subscription.heartbeat_interval_s, subscription.stall_threshold_s
        pulse = make_pulse(loop, interval_s, threshold_s, slot)
        pulse.notify = self._ring
        watched = WatchedLoop(pulse, name, threshold_s, self._collector, SYSTEM_CLOCK)
        entry = self._entries[id(loop)] = _Entry(loop, watched, subscription)
        pulse.start()
        if self._thread is None:
            self._start()
        return entry

    def _leave(self, entry: _Entry, subscription: Subscription) -> None:
        """Take `subscription` from a loop; the thread says good-bye to a loop that nobody watches."""
        if entry.subscriptions == {subscription}:
            entry.watched.pulse.stop()
            del self._entries[entry.key]
            if not self._leaving:
                self._told = threading.Event()
            self._leaving.append((entry, self._hearers(entry)))
        entry.subscriptions.discard(subscription)

    def _say_goodbye(self) -> None:
        """Tell the last events of loops that are watched no more; on the watchdog's thread."""
        with self._lock:
            leaving, self._leaving = self._leaving, []
            told = self._told
        for entry, hearers in leaving:
            self._announce(self._close(entry), hearers)
        told.set()

    def _close(self, entry: _Entry) -> list[Event]:
        events = entry.watched.close()
        with self._lock:
            for cause, count in entry.watched.stalls.items():
                self._past_stalls[entry.watched.name, cause] += count
            self._past_beats += entry.watched.pulse.beats
            if self._page is not None:
                self._page.give_back(entry.watched.pulse.slot)
        return events

    def _settle_settings(self) -> None:
        """Give every loop the smallest interval and threshold of those who watch it."""
        shared = [subscription for subscription in self._subscriptions if subscription.shared]
        for entry in self._entries.values():
            mine: Iterable[Subscription] = entry.subscriptions
            if any(subscription.shared for subscription in mine):
                mine = {*mine, *shared}
            pulse = entry.watched.pulse
            threshold_s = min(subscription.stall_threshold_s for subscription in mine)
            interval_s = min(subscription.heartbeat_interval_s for subscription in mine)
            entry.watched.threshold_s = threshold_s
            # Heartbeats rarer than the threshold would delay the report by more than it.
            pulse.interval_s = min(interval_s, threshold_s * LONGEST_INTERVAL)
            entry.watched.heartbeat_span_interval_s = min(s.heartbeat_span_interval_s for s in mine)

    def _hearers(self, entry: _Entry) -> list[Announcer]:
        announcers = [AMBIENT]
        shared = any(subscription.shared for subscription in entry.subscriptions)
        for subscription in self._subscriptions:
            hears = subscription in entry.subscriptions or (shared and subscription.shared)
            if hears and subscription.announcer not in announcers:
                announcers.append(subscription.announcer)
        return announcers

    # -- the thread

    def _start(self) -> None:
        self._stopping = False
        self._collector.start()
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()
        live.register(self)

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread; for the end of the interpreter."""
        with self._lock:
            thread = self._thread
            self._stopping = True
        if thread is not None and thread is not threading.current_thread():
            self._ring()
            thread.join(timeout_s)

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            pass  # It has been rung already.

    def _run(self) -> None:
        probe = OwnProbe()
        before = probe.read()
        self._thread_cpu_s = 0.0
        planned = SYSTEM_CLOCK.monotonic()
        try:
            while self._goes_on():
                try:
                    planned = self._turn(probe, before, planned)
                except Exception:
                    self._failures += 1
                    if self._failures == 1:
                        logger.exception("the loop watchdog failed and goes on")
                    planned = SYSTEM_CLOCK.monotonic() + 1.0
                before = probe.read()
                self._count_cost()
                # What the turn itself took is no lateness.
                now = SYSTEM_CLOCK.monotonic()
                planned = max(planned, now)
                self._bell.acquire(timeout=planned - now)
        finally:
            probe.close()

    def _goes_on(self) -> bool:
        self._say_goodbye()
        with self._lock:
            if (self._entries or self._leaving) and not self._stopping:
                return True
            self._thread = None
            self._collector.stop()
            return False

    def _turn(self, probe: OwnProbe, before: OwnReading, planned: float) -> float:
        """Look at every loop once; returns when to look again."""
        now = SYSTEM_CLOCK.monotonic()
        # To wait for a Python thread that gives up the GIL in its turn is no lateness either.
        late_s = now - planned if now - planned > 3 * sys.getswitchinterval() else 0.0
        entries = list(self._entries.values())
        suspects = any(entry.watched.is_suspect(now) for entry in entries)
        # First of all: whatever lets go of the GIL lets the stalled thread move on.
        frames = current_frames() if suspects else {}
        turn = Turn(now, late_s, frames, before, probe)
        next_at = now + 1.0
        for entry in entries:
            events, at = entry.watched.look(turn)
            with self._lock:
                if self._entries.get(entry.key) is not entry:
                    at = None  # It has left meanwhile; its last events come with the good-bye.
                elif at is None:
                    del self._entries[entry.key]
                    self._leaving.append((entry, self._hearers(entry)))
                hearers = self._hearers(entry) if events else []
            if at is not None:
                next_at = min(next_at, at)
                self._label(entry)
            self._announce(events, hearers)
        return now if self._leaving else next_at

    def _label(self, entry: _Entry) -> None:
        """Show the loop's name to other processes; it is known once the loop has run."""
        if entry.label != entry.watched.name:
            with self._lock:
                entry.label = entry.watched.name
                if self._page is not None and self._entries.get(entry.key) is entry:
                    self._page.rename(entry.watched.pulse.slot, entry.label)

    def _announce(self, events: list[Event], hearers: list[Announcer]) -> None:
        for event in events:
            self._announced += 1
            for announcer in hearers:
                announcer.announce(event)

    def _count_cost(self) -> None:
        cpu_s = time.thread_time()
        self._cpu_s += cpu_s - self._thread_cpu_s
        self._thread_cpu_s = cpu_s

    # -- what can be read at any time

    def statistics(self) -> WatchdogStatistics:
        """Return one snapshot; from any thread."""
        with self._lock:
            stalls = Counter(self._past_stalls)
            beats = self._past_beats
            for entry in self._entries.values():
                beats += entry.watched.pulse.beats
                for cause, count in list(entry.watched.stalls.items()):
                    stalls[entry.watched.name, cause] += count
            return WatchdogStatistics(
                len(self._entries), dict(stalls), beats, self._announced, self._failures, self._cpu_s
            )

    def read_live(self) -> Reading:
        """Return the seconds since the last heartbeat, by loop; of loops with one name, the oldest counts."""
        now = SYSTEM_CLOCK.monotonic()
        ages: dict[str, float] = {}
        for entry in list(self._entries.values()):
            pulse = entry.watched.pulse
            if pulse.is_running and not pulse.has_ended:
                age = max(now - pulse.slot.beats[pulse.slot.index], 0.0)
                ages[entry.watched.name] = max(age, ages.get(entry.watched.name, 0.0))
        return Reading(heartbeat_age_s=ages)


ENGINE = Engine()
atexit.register(ENGINE.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ENGINE.after_fork_in_child)
