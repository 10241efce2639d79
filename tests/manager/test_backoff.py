"""The pause of a transport: how it grows, who probes, who waits for the probe, when all is forgotten."""

from __future__ import annotations

import random
from typing import Any

import pytest

from instrumented_sessions.manager.backoff import STABLE_AFTER_S, Backoff
from instrumented_sessions.manager.records import Opening, Record
from instrumented_sessions.settings import Settings
from instrumented_sessions.testing import FakeTransport, ManualClock
from instrumented_sessions.vocabulary import SessionKey

TRANSPORT = FakeTransport()


def opening(name: str = "c") -> Opening:
    return Opening(Record(SessionKey("fake", name), TRANSPORT, ManualClock()), 0.0)


class Highest(random.Random):
    """Draws the upper end, so that the pause is exact."""

    def uniform(self, a: float, b: float) -> float:
        return b


def backoff_with(initial_s: float = 1.0, max_s: float = 30.0, rng: random.Random | None = None) -> Backoff:
    return Backoff(Settings(backoff_initial_s=initial_s, backoff_max_s=max_s), rng or Highest())


def fail_after_its_pause(backoff: Backoff) -> float:
    """Let the pause end and the probe fail; return how long the next pause is."""
    now = backoff.retry_at
    assert now is not None
    probe = backoff.pause_over(now)
    if probe is None:
        probe = opening()
        assert backoff.passes(probe)
    backoff.failed(now, probe)
    assert backoff.retry_at is not None
    return backoff.retry_at - now


def test_everybody_passes_while_nothing_has_failed() -> None:
    """A healthy transport has no probe and no queue."""
    backoff = backoff_with()
    assert all(backoff.passes(opening(str(n))) for n in range(5))
    assert backoff.idle


def test_pause_doubles_with_each_failure_up_to_the_longest() -> None:
    """From `backoff_initial_s` to `backoff_max_s`."""
    backoff = backoff_with(1.0, 10.0)
    backoff.failed(100.0)
    assert backoff.retry_at == 101.0
    assert [fail_after_its_pause(backoff) for _ in range(5)] == [2.0, 4.0, 8.0, 10.0, 10.0]


def test_pause_of_a_thousand_failures_is_the_longest() -> None:
    """The power of two does not overflow."""
    backoff = backoff_with(0.5, 30.0)
    backoff.failed(0.0)
    for _ in range(1100):
        longest = fail_after_its_pause(backoff)
    assert longest == 30.0


@pytest.mark.parametrize("seed", range(20))
def test_jitter_is_between_half_and_all_of_the_pause(seed: int) -> None:
    """Many processes do not return at once, and none returns at once."""
    backoff = backoff_with(2.0, 16.0, random.Random(seed))
    backoff.failed(0.0)
    assert backoff.retry_at is not None
    assert 1.0 <= backoff.retry_at <= 2.0
    for longest in (4.0, 8.0, 16.0, 16.0):
        assert longest / 2 <= fail_after_its_pause(backoff) <= longest


def test_jitter_differs_between_processes() -> None:
    """Different seeds give different pauses."""
    pauses = set()
    for seed in range(20):
        backoff = backoff_with(rng=random.Random(seed))
        backoff.failed(0.0)
        pauses.add(backoff.retry_at)
    assert len(pauses) == 20


def test_pause_holds_everybody_back_until_it_is_over() -> None:
    """Not a moment earlier."""
    backoff = backoff_with()
    backoff.failed(100.0)
    waiting = opening()
    assert not backoff.passes(waiting)
    assert backoff.pause_over(100.999) is None
    assert backoff.pause_over(101.0) is waiting


def test_first_in_the_queue_is_the_probe_and_the_others_wait_for_it() -> None:
    """One attempt at a time after a pause, in the order of asking."""
    backoff = backoff_with()
    backoff.failed(100.0)
    first, second, third = (opening(name) for name in "abc")
    assert not any(backoff.passes(one) for one in (first, second))
    assert backoff.pause_over(101.0) is first
    assert first.is_probe
    assert not second.is_probe
    assert not backoff.passes(third)
    assert backoff.succeeded() == [second, third]
    assert backoff.passes(opening())


def test_first_to_ask_after_an_unused_pause_is_the_probe() -> None:
    """When nobody waited for the end of the pause, the next one tries alone."""
    backoff = backoff_with()
    backoff.failed(100.0)
    assert backoff.pause_over(101.0) is None
    first = opening()
    assert backoff.passes(first)
    assert backoff.probe is first
    assert not backoff.passes(opening())
    assert backoff.passes(first), "asking again does not lock the probe out"


def test_failed_probe_begins_the_next_pause() -> None:
    """The others go on waiting, and the next of them probes."""
    backoff = backoff_with()
    backoff.failed(100.0)
    first, second = opening("a"), opening("b")
    backoff.passes(first), backoff.passes(second)
    assert backoff.pause_over(101.0) is first
    assert backoff.failed(105.0, first) is None
    assert (backoff.failures, backoff.retry_at, backoff.probe) == (2, 107.0, None)
    assert backoff.pause_over(107.0) is second


def test_probe_that_leaves_hands_over_to_the_next() -> None:
    """The callers of the probe were cancelled before it reached the server."""
    backoff = backoff_with()
    backoff.failed(100.0)
    first, second = opening("a"), opening("b")
    backoff.passes(first), backoff.passes(second)
    backoff.pause_over(101.0)
    assert backoff.left(first) is second
    assert backoff.probe is second
    assert backoff.left(second) is None
    third = opening()
    assert backoff.passes(third)
    assert backoff.probe is third


def test_waiter_that_leaves_is_forgotten() -> None:
    """It neither probes nor is let go on."""
    backoff = backoff_with()
    backoff.failed(100.0)
    first, second = opening("a"), opening("b")
    backoff.passes(first), backoff.passes(second)
    assert backoff.left(first) is None
    assert backoff.pause_over(101.0) is second


def test_failures_side_by_side_count_once() -> None:
    """Four attempts that were out when the server stopped are one failure."""
    backoff = backoff_with()
    together = [opening(str(n)) for n in range(4)]
    assert all(backoff.passes(one) for one in together)
    for number, one in enumerate(together):
        backoff.failed(100.0 + number / 10, one)
    assert (backoff.failures, backoff.retry_at) == (1, 101.0)


def test_success_of_one_lets_all_go_on() -> None:
    """An attempt that was out during the failure of another shows that the server is there."""
    backoff = backoff_with()
    failing, working, waiting = (opening(name) for name in "abc")
    assert backoff.passes(failing)
    assert backoff.passes(working)
    backoff.failed(100.0, failing)
    assert not backoff.passes(waiting)
    assert backoff.succeeded() == [waiting]
    assert backoff.retry_at is None


def test_flapping_server_keeps_its_count_until_a_session_is_stable() -> None:
    """An opening that succeeds and a session that breaks at once do not begin anew at the first pause."""
    backoff = backoff_with()
    backoff.failed(100.0)
    probe = opening()
    backoff.pause_over(101.0)
    backoff.passes(probe)
    backoff.succeeded()
    backoff.failed(102.0)
    assert backoff.retry_at == 104.0
    backoff.pause_over(104.0)
    backoff.passes(probe)
    backoff.succeeded()
    backoff.stable()
    assert backoff.idle
    backoff.failed(200.0)
    assert backoff.retry_at == 201.0


def test_failures_long_ago_do_not_count() -> None:
    """After twice the longest pause without another failure, the next one is the first."""
    backoff = backoff_with(1.0, 4.0)
    backoff.failed(100.0)
    fail_after_its_pause(backoff)
    backoff.pause_over(104.0)
    backoff.failed(101.0 + 2 * 4.0 + 0.5)
    assert backoff.failures == 1
    assert STABLE_AFTER_S < 2 * 4.0


def test_without_a_pause_the_next_one_probes_at_once() -> None:
    """`backoff_initial_s=0` switches the pause off, not the single probe."""
    backoff = backoff_with(0.0, 0.0)
    failing = opening()
    assert backoff.passes(failing)
    backoff.failed(100.0, failing)
    first, second = opening("a"), opening("b")
    assert backoff.passes(first)
    assert not backoff.passes(second)
    assert backoff.failed(101.0, first) is second
    assert backoff.probe is second


@pytest.mark.parametrize("busy", ["paused", "waiting", "probing"])
def test_backoff_in_use_is_not_forgotten(busy: str) -> None:
    """Not even when an old session's end has reset its count."""
    backoff = backoff_with()
    backoff.failed(100.0)
    probe: Any = opening()
    if busy != "paused":
        backoff.passes(probe)
    if busy == "probing":
        backoff.pause_over(101.0)
    backoff.stable()
    assert not backoff.idle
