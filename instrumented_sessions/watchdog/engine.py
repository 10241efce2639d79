"""The one thread of the process that watches all loops."""

from __future__ import annotations

import atexit
import logging
import math
import os
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

from .. import live
from ..events import Event, StallReport
from ..live import Reading
from ..observer import Announcer
from .collector import CollectorProbe
from .loops import running_loop
from .measurement import Turn
from .probes import OwnProbe, OwnReading, gil_changed_hands
from .readings import WatchdogStatistics, count, heartbeat_ages_s, stall_ages_s
from .registry import Entry, Registry, Subscription
from .stacks import current_frames

logger = logging.getLogger(__name__)

THREAD_NAME = "instrumented-sessions-watchdog"
_LONGEST_SLEEP_S = 1.0
_WAY_S = 0.0001
_PATIENCE = 3
"""For how many switch intervals the watchdog may wait for the GIL without being late."""
_sleep = time.sleep
"""Kept from before the tools that find blocking calls replace it: this one is too short to be one."""

_News = tuple[list[Event], list[Announcer]]
"""What there is to tell of one loop, and to whom."""
_Looked = tuple[list[_News], float]
"""What a turn found, and when to look again."""


class Engine:
    """Watches loops from one daemon thread, which runs while there are loops to watch.

    All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._collector = CollectorProbe()
        self._registry = Registry(self._collector)
        self._thread: threading.Thread | None = None  # Protected by the registry's lock.
        self._stopped = False
        self._bell = threading.Lock()  # Held by the thread; to release it is to wake the thread.
        self._bell.acquire()
        self._wants_at = math.inf  # From when on the thread wants to run.
        # What follows is written by the watchdog's thread only.
        self._announced = 0
        self._announced_at = 0.0
        self._failures = 0
        self._cpu_s = 0.0
        self._thread_cpu_s = 0.0

    def add(self, subscription: Subscription) -> None:
        """Let `subscription` take part."""
        self._registry.add(subscription)

    def drop(self, subscription: Subscription, timeout_s: float = 5.0) -> None:
        """Forget `subscription` and the loops that only it watches.

        Waits at most `timeout_s` seconds until their last events are told; not at all on a loop's thread,
        nor on the watchdog's own.
        """
        registry = self._registry
        registry.drop(subscription)
        self._ring()
        with registry.lock:
            thread = self._thread
        if thread is None or thread is threading.current_thread() or running_loop() is not None:
            return
        if registry.entries:
            registry.told.wait(timeout_s)
        else:
            thread.join(timeout_s)

    def watch(self, loop: Any, subscription: Subscription, name: str | None) -> None:
        """Watch `loop` for `subscription`; again only adds the name and the subscription.

        Raises:
            TypeError: It is no loop that can be watched.
        """
        with self._registry.lock:
            entry = self._registry.watch(loop, subscription, name)
            if entry is not None:
                entry.watched.pulse.notify = self._ring
                entry.watched.pulse.make_way = self._make_way
                entry.watched.pulse.start()
                self._start()
        # Under no lock: who reads `live` holds its lock, and then asks for the registry's.
        live.register(self)
        self._ring()

    def unwatch(self, loop: Any, subscription: Subscription) -> None:
        """Watch `loop` no more for `subscription`; unknown ones are ignored."""
        self._registry.unwatch(loop, subscription)
        self._ring()

    def after_fork_in_child(self) -> None:
        """Begin anew: the parent's threads are gone, and its loops' copies must not beat on its page."""
        self._registry.abandon()
        self._collector.stop()
        subscriptions = self._registry.subscriptions
        self._reset()
        self._registry.subscriptions = subscriptions

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread for good; called at the interpreter's end."""
        with self._registry.lock:
            self._stopped = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._ring()
            thread.join(timeout_s)

    # -- what can be read at any time

    def statistics(self) -> WatchdogStatistics:
        """Return one snapshot."""
        return count(self._registry, self._announced, self._failures, self._cpu_s)

    def stalls(self) -> list[StallReport]:
        """Return the last report of every loop that stands still, the oldest first, with today's age."""
        now = time.time()
        reports = [report for entry in self._registry if (report := entry.watched.ongoing) is not None]
        return sorted(
            (replace(report, duration_s=max(now - report.started_at, 0.0)) for report in reports),
            key=lambda report: report.started_at,
        )

    def read_live(self) -> Reading:
        """Return the ages of heartbeats and stalls, by loop, and what watching has cost.

        Of loops with one name, the oldest heartbeat and the oldest stall count.
        """
        return Reading(
            heartbeat_age_s=heartbeat_ages_s(self._registry),
            stall_age_s=stall_ages_s(self._registry),
            watchdog_cpu_s=self._cpu_s,
        )

    # -- the thread

    def _start(self) -> None:
        """Start the thread if it does not run; under the registry's lock."""
        if self._thread is None and not self._stopped:
            thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
            self._wants_at = -math.inf
            try:
                thread.start()
            except RuntimeError:
                self._fail("could not start its thread")  # The next loop to be watched tries again.
            else:
                self._thread = thread

    def _ring(self) -> None:
        """Wake the thread."""
        self._wants_at = -math.inf
        try:
            self._bell.release()
        except RuntimeError:
            pass  # It has been rung already.

    def _make_way(self, now: float) -> None:
        """Let the watchdog have the GIL, if it wants to run; on the thread of a busy loop.

        A loop with many short steps lets go of the GIL with every look at its sockets, and takes it back
        before the thread that this wakes can run: for seconds, and with a wake for nothing each time.
        """
        if now >= self._wants_at:
            _sleep(_WAY_S)

    def _run(self) -> None:
        try:
            with closing(OwnProbe()) as probe, self._collector:
                self._watch(probe)
        except Exception:
            self._fail("ended")
            with self._registry.lock:
                self._thread = None  # The next loop to be watched starts another.

    def _watch(self, probe: OwnProbe) -> None:
        self._thread_cpu_s = 0.0
        planned = now = time.monotonic()
        switches = probe.switches()
        while self._goes_on():
            # The time that observers take is no lateness.
            planned = max(planned, self._announced_at)
            before = probe.read()
            if _gil_was_shared(switches, before.switches, time.monotonic() - now):
                planned = max(planned, time.monotonic())  # The last turn took long.
            self._wants_at = planned
            self._bell.acquire(timeout=max(planned - time.monotonic(), 0.0))
            self._wants_at = -math.inf
            now, switches = time.monotonic(), probe.switches()
            try:
                planned = self._turn(now, planned, before, probe)
            except Exception:
                self._fail("failed in one turn")
                planned = now + _LONGEST_SLEEP_S
            self._count_cost()

    def _goes_on(self) -> bool:
        """Say good-bye to loops that leave; returns whether there is more to do."""
        while True:
            with self._registry.lock:
                if not self._registry.leaving:
                    if not self._registry.told.is_set():
                        self._registry.told.set()
                    if self._registry.entries and not self._stopped:
                        return True
                    self._thread = None
                    return False
                entry = self._registry.leaving.pop()
            try:
                self._announce(entry.watched.close(), entry.farewell)
            except Exception:
                self._fail("could not part with a loop")
            self._registry.gone(entry)

    def _turn(self, now: float, planned: float, before: OwnReading, probe: OwnProbe) -> float:
        """Look at every loop once and tell what there is to tell; returns when to look again."""
        news, next_at = self._look_at_all(now, planned, before, probe)
        # Only now: an observer may be slow, and the frames keep alive what their functions refer to.
        for events, hearers in news:
            self._announce(events, hearers)
        return next_at

    def _look_at_all(self, now: float, planned: float, before: OwnReading, probe: OwnProbe) -> _Looked:
        # First of all: whatever lets go of the GIL lets a stalled thread move on.
        frames = current_frames()
        planned = min(planned, now)
        if _gil_was_shared(before.switches, probe.switches(), now - planned):
            planned = now
        late_s = now - planned if now - planned > _PATIENCE * sys.getswitchinterval() else 0.0
        turn = Turn(now, planned, late_s, frames, before, probe)
        next_at = now + _LONGEST_SLEEP_S
        entries: list[Entry] = []
        for entry in list(self._registry.entries.values()):
            try:
                at = entry.watched.glance(turn)
            except Exception:
                self._fail("could not glance at a loop")
                continue
            if at is None:
                entries.append(entry)
            else:
                next_at = min(next_at, at)
        news: list[_News] = []
        for entry in entries:
            try:
                next_at = min(next_at, self._look(entry, turn, news))
            except Exception:
                self._fail("could not look at a loop")
        return news, next_at

    def _look(self, entry: Entry, turn: Turn, news: list[_News]) -> float:
        """Look at one loop and add what there is to tell to `news`; returns when to look again."""
        watched = entry.watched
        events, at = watched.look(turn)
        if events:
            news.append((events, self._registry.hearers(entry)))
        if at is None:
            self._registry.part_with(entry)
            return turn.now
        if watched.pulse.seat is not entry.seat:
            self._registry.show_name(entry)
            entry.seat = watched.pulse.seat
        return at

    def _announce(self, events: list[Event], announcers: list[Announcer]) -> None:
        for event in events:
            self._announced += 1
            for announcer in announcers:
                announcer.announce(event)
        self._announced_at = time.monotonic()

    def _count_cost(self) -> None:
        cpu_s = time.thread_time()
        self._cpu_s += cpu_s - self._thread_cpu_s
        self._thread_cpu_s = cpu_s

    def _fail(self, what: str) -> None:
        self._failures += 1
        if self._failures == 1:
            logger.exception("the loop watchdog %s", what)


def _gil_was_shared(before: int | None, after: int | None, took_s: float) -> bool:
    """Return whether it took long because Python threads gave up the GIL in their turn: that is no lateness.

    Args:
        before: How often the watchdog's thread had gone to sleep when it began; None if not known.
        after: The same at its end.
        took_s: How long it took, in seconds.
    """
    return took_s > _PATIENCE * sys.getswitchinterval() and gil_changed_hands(before, after, took_s)


ENGINE = Engine()
atexit.register(ENGINE.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ENGINE.after_fork_in_child)
