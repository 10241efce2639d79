"""When a loop counts as stalled and which reports are due, told by a clock that a test moves."""

from __future__ import annotations

import pytest

from instrumented_sessions.watchdog.stall import SUSPICION, StallWatch, next_mark_s, pause_s


def test_heartbeat_that_is_not_late_enough_is_fine() -> None:
    """Nothing is suspected for most of the threshold, and the next look is when something would be."""
    watch = StallWatch(0.2)
    look = watch.look(now=10.0, due=10.05)
    assert not look.suspected
    assert not look.report
    assert look.next_at == pytest.approx(10.05 + 0.2 * SUSPICION)
    assert not watch.look(now=10.04 + 0.2 * SUSPICION, due=10.05).suspected


def test_suspected_loop_is_sampled_before_it_is_reported() -> None:
    """Shortly before the threshold stacks are taken, and nothing is said."""
    watch = StallWatch(0.2)
    look = watch.look(now=10.0 + 0.2 * SUSPICION, due=10.0)
    assert look.suspected
    assert not look.report
    assert look.next_at <= 10.2
    assert watch.due == 10.0


def test_stall_is_reported_at_the_threshold_and_again_at_the_marks() -> None:
    """0.2, 1, 5, 15, 60 s, then every 60 s; each once, however often it is looked at."""
    watch = StallWatch(0.2)
    reported: list[float] = []
    now = 0.0
    while now < 200.0:
        look = watch.look(now, due=0.0)
        if look.report:
            reported.append(now)
        assert look.next_at > now
        now = look.next_at
    assert reported == pytest.approx([0.2, 1.0, 5.0, 15.0, 60.0, 120.0, 180.0])
    assert watch.reports == 7


def test_late_watchdog_makes_one_report_for_all_the_marks_it_missed() -> None:
    """A watchdog that could not look for 20 s says so once, then waits for the next mark."""
    watch = StallWatch(0.2)
    assert watch.look(now=20.0, due=0.0).report
    assert not watch.look(now=21.0, due=0.0).report
    assert watch.look(now=60.0, due=0.0).report


def test_another_heartbeat_is_another_stall() -> None:
    """The stall is over when a later heartbeat is due; the next one is reported anew."""
    watch = StallWatch(0.2)
    assert watch.look(now=1.0, due=0.0).report
    assert not watch.look(now=1.1, due=1.08).report
    assert watch.due is None
    assert watch.look(now=1.3, due=1.08).report
    assert watch.reports == 1


def test_threshold_above_a_mark_is_the_first_report() -> None:
    """With a threshold of 3 s nothing is said at 1 s; then come 5 s and the rest."""
    watch = StallWatch(3.0)
    assert not watch.look(now=1.5, due=0.0).report
    assert watch.look(now=3.0, due=0.0).report
    assert watch.look(now=5.0, due=0.0).report


@pytest.mark.parametrize(
    ("age_s", "mark_s"),
    [(0.2, 1.0), (1.0, 5.0), (14.9, 15.0), (15.0, 60.0), (60.0, 120.0), (119.0, 120.0), (3600.0, 3660.0)],
)
def test_marks_grow_and_then_come_every_minute(age_s: float, mark_s: float) -> None:
    """A stall is never silent for more than a minute."""
    assert next_mark_s(age_s) == mark_s


def test_samples_become_rarer_as_a_stall_ages() -> None:
    """Never more often than every 20 ms, never less often than each second."""
    assert pause_s(0.05) == 0.02
    assert pause_s(2.0) == pytest.approx(0.2)
    assert pause_s(100.0) == 1.0
