"""The replay against what queueing theory says of it, and against simple references."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instrumented_sessions.advisor import Option, Played, Recording, replay

from .recordings import GLOBAL, SESSION, TRANSPORT, opening, recording

# Whole tenths: equal instants are frequent, and sums of them are compared with a tolerance only.
instants = st.integers(0, 40).map(lambda number: number / 10)
holds = st.integers(0, 30).map(lambda number: number / 10)
loads = st.lists(st.tuples(instants, st.sampled_from("abc"), holds), min_size=1, max_size=25)
few_permits = st.integers(1, 5)
NEARLY = 1e-6


def replayed(load: list[tuple[float, str, float]], option: Option) -> tuple[Played, ...]:
    return replay(recording(load, Option(TRANSPORT, 4)), option)


def in_one_queue(load: list[tuple[float, str, float]], permits: int) -> list[float]:
    """Waits by the recursion of Kiefer and Wolfowitz: each takes the permit that is free first."""
    free = [0.0] * permits
    waits = []
    for asked, _, held_s in sorted(load):
        granted = max(asked, free[0])
        waits.append(granted - asked)
        free = sorted([granted + held_s, *free[1:]])
    return waits


@given(loads)
def test_nobody_waits_when_permits_suffice_for_all(load: list[tuple[float, str, float]]) -> None:
    """A lock with a permit for each opening, or one for each session, costs nothing."""
    for option in (Option(GLOBAL, len(load)), Option(TRANSPORT, len(load)), Option(SESSION)):
        assert all(each.waited_s == 0.0 and not each.queued for each in replayed(load, option))


@given(loads, few_permits)
def test_one_lock_is_one_first_come_first_served_queue(
    load: list[tuple[float, str, float]], permits: int
) -> None:
    """Under `global` every wait is that of the textbook's queue; with one permit, too."""
    waits = [each.waited_s for each in replayed(load, Option(GLOBAL, permits))]
    assert waits == pytest.approx(in_one_queue(load, permits), abs=NEARLY)


@given(loads, few_permits)
def test_locks_of_transports_are_queues_that_know_nothing_of_each_other(
    load: list[tuple[float, str, float]], permits: int
) -> None:
    """Under `transport` each transport's waits are those of a queue of its own."""
    played = replayed(load, Option(TRANSPORT, permits))
    for name in "abc":
        own = [entry for entry in load if entry[1] == name]
        waits = [each.waited_s for each in played if each.opening.transport == name]
        assert waits == pytest.approx(in_one_queue(own, permits), abs=NEARLY)


@given(loads, few_permits)
def test_more_permits_or_finer_locks_never_lengthen_a_wait(
    load: list[tuple[float, str, float]], permits: int
) -> None:
    """Where arrivals are fixed that is a theorem, for every single opening."""
    options = [
        Option(GLOBAL, permits),
        Option(GLOBAL, permits + 1),
        Option(TRANSPORT, permits + 1),
        Option(SESSION),
    ]
    for coarse, fine in pairwise([replayed(load, option) for option in options]):
        assert all(less.waited_s <= more.waited_s + NEARLY for more, less in zip(coarse, fine))


@given(loads, few_permits)
def test_replay_keeps_every_opening_its_length_and_the_permits(
    load: list[tuple[float, str, float]], permits: int
) -> None:
    """Nobody is lost or shortened, and no more hold at once than there are permits."""
    played = replayed(load, Option(GLOBAL, permits))
    assert len(played) == len(load)
    for each in played:
        assert each.granted_s is not None
        assert each.ended_s - each.granted_s == pytest.approx(each.opening.held_s, abs=NEARLY)
        beside = [
            other
            for other in played
            if other.granted_s is not None and other.granted_s <= each.granted_s < other.ended_s - NEARLY
        ]
        assert len(beside) <= permits


def test_caller_asks_as_long_after_its_last_opening_as_it_did() -> None:
    """A shorter wait brings a caller's next request forward; a caller nobody knows asks as recorded."""
    record = Recording(
        Option(GLOBAL, 1),
        (
            opening(0.0, "a", 1, 2.0, caller="x"),
            opening(0.0, "b", 2, 1.0, caller="y", waited_s=2.0),
            opening(3.5, "b", 3, 1.0, caller="y"),
            opening(9.0, "b", 4, 1.0),
        ),
    )
    asked = [each.asked_s for each in replay(record, Option(TRANSPORT, 1))]
    assert asked == pytest.approx([0.0, 0.0, 1.5, 9.0], abs=NEARLY)


def test_caller_that_asks_beside_its_last_opening_is_not_put_off() -> None:
    """One that went on before its opening had ended did not wait for it."""
    record = Recording(
        Option(SESSION), (opening(0.0, "a", 1, 9.0, caller="x"), opening(1.0, "a", 2, 1.0, caller="x"))
    )
    assert [each.asked_s for each in replay(record, Option(GLOBAL, 1))] == pytest.approx([0.0, 1.0])


def test_impatient_opening_gives_up_again_or_gets_its_permit_in_time() -> None:
    """It waits as long as it did; with a permit it takes what its transport's others took."""
    record = Recording(
        Option(GLOBAL, 1),
        (
            opening(0.0, "slow", 1, 5.0),
            opening(1.0, "slow", 2, None, waited_s=2.0),
            opening(2.0, "slow", 3, 5.0, waited_s=3.0),
        ),
    )
    first, second, third = replay(record, Option(GLOBAL, 1))
    assert (second.granted_s, second.ended_s) == (None, pytest.approx(3.0))
    assert (first.ended_s, third.granted_s) == (pytest.approx(5.0), pytest.approx(5.0))
    _, second, third = replay(record, Option(GLOBAL, 2))
    assert (second.granted_s, second.ended_s) == (pytest.approx(1.0), pytest.approx(6.0))
    assert third.granted_s == pytest.approx(5.0)


def test_option_without_effect_of_permits_has_none() -> None:
    """`session` compares equal whatever permits are set; the others need a number."""
    assert Option(SESSION, 4) == Option(SESSION)
    assert str(Option(GLOBAL, 1)) == "global with 1 permit"
    with pytest.raises(ValueError, match="permits must be 1 or more under global; got None"):
        Option(GLOBAL)


def test_nothing_recorded_is_nothing_replayed() -> None:
    """An empty recording is no error here."""
    assert replay(Recording(Option(SESSION), ()), Option(GLOBAL, 1)) == ()
