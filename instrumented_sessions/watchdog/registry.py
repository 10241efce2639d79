"""Who wants which loops watched: subscriptions, loops, and whose settings and observers apply."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..clock import SYSTEM_CLOCK
from ..observer import AMBIENT, Announcer
from ..vocabulary import StallCause
from .collector import CollectorProbe
from .loops import make_pulse
from .page import HeartbeatPage
from .pulse import Seat
from .watched import WatchedLoop

LONGEST_INTERVAL = 0.85
"""The longest interval between heartbeats, as a part of the threshold."""


@dataclass(eq=False)
class Subscription:
    """Somebody who wants loops watched and hears of them."""

    announcer: Announcer
    stall_threshold_s: float
    heartbeat_interval_s: float
    heartbeat_span_interval_s: float
    shared: bool
    """Whether it hears of every loop that a shared subscription watches."""


class Entry:
    """A watched loop and who watches it; `subscriptions` belongs to the registry's lock."""

    def __init__(self, loop: Any, watched: WatchedLoop) -> None:
        self.key = id(loop)
        self.loop = weakref.ref(loop)
        self.watched = watched
        self.subscriptions: set[Subscription] = set()
        self.seat: Seat | None = None
        """The thread that it was last seen on."""
        self.farewell: list[Announcer] = []
        """Who hears its last events."""


class Registry:
    """The loops that are watched. All methods may be called from any thread; none waits for anything."""

    def __init__(self, collector: CollectorProbe) -> None:
        self.lock = threading.RLock()  # Protects what follows; never held while observers are told.
        self.entries: dict[int, Entry] = {}
        self.leaving: list[Entry] = []
        """Watched no more, but their last events are still to be told."""
        self.told = threading.Event()
        """Set when nobody is leaving."""
        self.told.set()
        self.subscriptions: set[Subscription] = set()
        self.past_stalls: Counter[tuple[str, StallCause]] = Counter()
        """Stalls of loops that are watched no more."""
        self.past_beats = 0
        self._page: HeartbeatPage | None = None
        self._collector = collector

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over a copy of what is watched now."""
        with self.lock:
            return iter(list(self.entries.values()))

    def add(self, subscription: Subscription) -> None:
        """Let `subscription` take part; the settings of shared ones apply to all shared loops."""
        with self.lock:
            self.subscriptions.add(subscription)
            self._settle()

    def drop(self, subscription: Subscription) -> None:
        """Forget `subscription`, and the loops that only it watches."""
        with self.lock:
            for entry in self:
                self._leave(entry, subscription)
            self.subscriptions.discard(subscription)
            self._settle()

    def watch(self, loop: Any, subscription: Subscription, name: str | None) -> Entry | None:
        """Watch `loop` for `subscription`; returns the entry if it is new.

        Raises:
            TypeError: It is no loop that can be watched.
        """
        with self.lock:
            self.subscriptions.add(subscription)
            entry, new = self.entries.get(id(loop)), None
            if entry is None or entry.loop() is not loop:
                if entry is not None:
                    self.part_with(entry)  # That loop is gone, and this one has its id.
                entry = new = self._enter(loop, subscription, name)
            entry.subscriptions.add(subscription)
            if entry.watched.given_name is None:
                entry.watched.given_name = name
                self.show_name(entry)
            self._settle()
        return new

    def unwatch(self, loop: Any, subscription: Subscription) -> None:
        """Watch `loop` no more for `subscription`; unknown ones are ignored."""
        with self.lock:
            entry = self.entries.get(id(loop))
            if entry is not None and entry.loop() is loop:
                self._leave(entry, subscription)
                self._settle()

    def hearers(self, entry: Entry) -> list[Announcer]:
        """Return everybody who hears of a loop, each once."""
        with self.lock:
            shared = any(subscription.shared for subscription in entry.subscriptions)
            announcers = [AMBIENT]
            for subscription in self.subscriptions:
                hears = subscription in entry.subscriptions or (shared and subscription.shared)
                if hears and subscription.announcer not in announcers:
                    announcers.append(subscription.announcer)
            return announcers

    def part_with(self, entry: Entry) -> None:
        """Watch a loop no more, whoever wants it; its last events are still to be told."""
        with self.lock:
            if self.entries.get(entry.key) is entry:
                del self.entries[entry.key]
                entry.watched.pulse.stop()
                entry.farewell = self.hearers(entry)
                self.leaving.append(entry)
                self.told = threading.Event()

    def gone(self, entry: Entry) -> None:
        """Take over the counts of a loop whose last events have been told."""
        with self.lock:
            for cause, count in entry.watched.stalls.items():
                self.past_stalls[entry.watched.name, cause] += count
            self.past_beats += entry.watched.pulse.beats
            if self._page is not None:
                self._page.give_back(entry.watched.pulse.slot)

    def show_name(self, entry: Entry) -> None:
        """Show a loop's name to other processes; its thread, and so its name, is known once it has run."""
        with self.lock:
            if self._page is not None and self.entries.get(entry.key) is entry:
                self._page.rename(entry.watched.pulse.slot, entry.watched.name)

    def abandon(self) -> None:
        """Stop all heartbeats without a word; for a copy of this process after a fork."""
        for entry in self.entries.values():
            entry.watched.pulse.stop()
        if self._page is not None:
            self._page.close()

    def _enter(self, loop: Any, subscription: Subscription, name: str | None) -> Entry:
        if self._page is None:
            self._page = HeartbeatPage()
        interval_s, threshold_s = subscription.heartbeat_interval_s, subscription.stall_threshold_s
        pulse = make_pulse(loop, interval_s, threshold_s, self._page.take())
        watched = WatchedLoop(pulse, name, threshold_s, self._collector, SYSTEM_CLOCK)
        entry = self.entries[id(loop)] = Entry(loop, watched)
        return entry

    def _leave(self, entry: Entry, subscription: Subscription) -> None:
        if entry.subscriptions == {subscription}:
            self.part_with(entry)
        entry.subscriptions.discard(subscription)

    def _settle(self) -> None:
        """Give every loop the smallest interval and threshold of those who watch it."""
        shared = {subscription for subscription in self.subscriptions if subscription.shared}
        for entry in self.entries.values():
            those = entry.subscriptions | shared if entry.subscriptions & shared else entry.subscriptions
            threshold_s = min(those_one.stall_threshold_s for those_one in those)
            interval_s = min(those_one.heartbeat_interval_s for those_one in those)
            entry.watched.threshold_s = threshold_s
            # Heartbeats rarer than the threshold would delay the report by more than it.
            entry.watched.pulse.interval_s = min(interval_s, threshold_s * LONGEST_INTERVAL)
            entry.watched.window.length_s = min(those_one.heartbeat_span_interval_s for those_one in those)
