"""Whose settings and observers apply to a loop that several watch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from instrumented_sessions.observer import AMBIENT, Announcer
from instrumented_sessions.watchdog.collector import CollectorProbe
from instrumented_sessions.watchdog.registry import LONGEST_INTERVAL, Registry, Subscription


def subscription(
    threshold_s: float, interval_s: float, span_s: float = 10.0, shared: bool = False
) -> Subscription:
    return Subscription(Announcer(), threshold_s, interval_s, span_s, shared)


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry(CollectorProbe())
    yield registry
    registry.abandon()


@pytest.fixture
def loop() -> Iterator[Any]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def settings_of(registry: Registry) -> tuple[float, float, float]:
    [entry] = registry
    watched = entry.watched
    return watched.threshold_s, watched.pulse.interval_s, watched.window.length_s


def test_smaller_settings_win_and_go_with_whoever_brought_them(registry: Registry, loop: Any) -> None:
    """Each setting by itself, for as long as its owner watches the loop."""
    patient, quick = subscription(1.0, 0.1), subscription(0.4, 0.2, 5.0)
    assert registry.watch(loop, patient, None) is not None
    assert registry.watch(loop, quick, None) is None
    assert settings_of(registry) == (0.4, 0.1, 5.0)
    registry.unwatch(loop, quick)
    assert settings_of(registry) == (1.0, 0.1, 10.0)


def test_heartbeat_is_never_rarer_than_the_threshold_allows(registry: Registry, loop: Any) -> None:
    """Or the report would come later than the threshold promises."""
    registry.watch(loop, subscription(0.1, 60.0), None)
    assert settings_of(registry)[1] == pytest.approx(0.1 * LONGEST_INTERVAL)


def test_shared_settings_apply_to_every_shared_loop_and_no_other(registry: Registry, loop: Any) -> None:
    """Managers share the process-wide watchdog; one's own watchdog is one's own."""
    mine, yours = subscription(1.0, 0.1, shared=True), subscription(0.5, 0.1, shared=True)
    private = subscription(2.0, 0.1)
    registry.add(yours)
    registry.watch(loop, private, None)
    assert settings_of(registry)[0] == 2.0
    registry.watch(loop, mine, None)
    assert settings_of(registry)[0] == 0.5
    [entry] = registry
    assert set(registry.hearers(entry)) == {AMBIENT, mine.announcer, yours.announcer, private.announcer}
    registry.drop(yours)
    assert settings_of(registry)[0] == 1.0
    assert set(registry.hearers(entry)) == {AMBIENT, mine.announcer, private.announcer}


def test_announcer_of_several_subscriptions_hears_once(registry: Registry, loop: Any) -> None:
    """However many of its subscriptions watch the loop."""
    announcer = Announcer()
    for _ in range(2):
        registry.watch(loop, Subscription(announcer, 1.0, 0.1, 10.0, True), None)
    [entry] = registry
    assert registry.hearers(entry) == [AMBIENT, announcer]


def test_given_name_wins_over_the_default_and_the_first_over_later_ones(
    registry: Registry, loop: Any
) -> None:
    """A metric's label must not change because somebody else watches the loop as well."""
    one = subscription(1.0, 0.1)
    registry.watch(loop, one, None)
    [entry] = registry
    assert entry.watched.name == "other"
    registry.watch(loop, one, "portal")
    registry.watch(loop, one, "again")
    assert entry.watched.name == "portal"


def test_loop_is_watched_until_nobody_wants_it(registry: Registry, loop: Any) -> None:
    """The last one to leave still hears its last events."""
    one, two = subscription(1.0, 0.1), subscription(1.0, 0.1)
    registry.watch(loop, one, None)
    registry.watch(loop, two, None)
    registry.drop(one)
    [entry] = registry
    assert not entry.watched.pulse.stopped
    registry.unwatch(loop, two)
    assert list(registry) == []
    assert entry.watched.pulse.stopped
    assert registry.leaving == [entry]
    assert entry.farewell == [AMBIENT, two.announcer]
    registry.unwatch(loop, two)
    registry.drop(two)
    assert not registry.told.is_set()


def test_loop_with_the_id_of_one_that_is_gone_takes_its_place(registry: Registry, loop: Any) -> None:
    """The entry of the old one is parted with, and its heartbeats have their slot back."""
    old = registry.watch(loop, subscription(1.0, 0.1), "old")
    assert old is not None
    old.loop = lambda: None  # As when it was collected.
    new = registry.watch(loop, subscription(1.0, 0.1), "new")
    assert new is not None
    assert [entry.watched.given_name for entry in registry] == ["new"]
    assert old.watched.pulse.has_ended or not old.watched.pulse.is_running
