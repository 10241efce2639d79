"""What is advised, what is not, and what the reader is told beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from instrumented_sessions.advisor import Figures, Option, Recording, Verdict, advise, replay
from instrumented_sessions.advisor.evidence import bursts, slowdowns
from instrumented_sessions.advisor.replay import as_recorded

from .recordings import GLOBAL, SESSION, TRANSPORT, burst, opening, recording


def starts(names: str, held_s: float = 1.0, times: int = 10) -> list[tuple[float, str, float]]:
    """The same start of conversations, ten times, with rests between."""
    return [entry for number in range(times) for entry in burst(100.0 * number, names, held_s)]


def test_lock_of_all_that_is_waited_for_is_made_finer() -> None:
    """The fewest permits of each transport that save nearly all are advised, with figures."""
    record = recording(starts("aabbcc"), Option(GLOBAL, 2))
    advice = advise(record)
    assert (advice.verdict, advice.option) == (Verdict.CHANGE, Option(TRANSPORT, 2))
    assert str(advice.verdict) == "change"
    assert advice.sentence == (
        "Choose transport with 2 permits instead of global with 2 permits: it saves 60.0 s of 60.0 s of "
        "waiting (95 % interval over 10 bursts: 60.0 s to 60.0 s), p99 2.0 s to 0 ms; a server then gets 2 "
        "openings at once at most, instead of 2. Nothing tighter saves nearly as much."
    )
    assert advice.contention == (
        "40 of 60 openings waited for their lock, 60.0 s in all; 67% of the waiting was for transport c; "
        "openings of a held 33% of the time that permits were held."
    )
    assert advice.predicted[record.in_force].sum_s == pytest.approx(advice.measured.sum_s, abs=1e-3)


@pytest.mark.scenario("S6", "S1")
def test_hung_transport_is_named_and_its_neighbours_are_freed() -> None:
    """Behind one that never answers the others wait under one lock, and not under a lock for each."""
    load = [
        (at, "hung" if name == "h" else "well", 3.0 if name == "h" else 0.1)
        for at, name, _ in starts("hhhhwwww")
    ]
    record = recording(load, Option(GLOBAL, 4))
    advice = advise(record)
    assert advice.verdict is Verdict.CHANGE
    assert advice.option == Option(TRANSPORT, 4)
    assert "of the waiting was for transport well; openings of hung held 97% of the time" in advice.contention
    freed = [each for each in replay(record, Option(TRANSPORT, 4)) if each.opening.transport == "well"]
    assert not any(each.queued for each in freed)


def test_one_transport_that_is_waited_for_gets_more_permits() -> None:
    """Where all is one transport, a finer lock helps by its permits only."""
    advice = advise(recording(starts("aaaaaaa"), Option(TRANSPORT, 2)))
    assert (advice.verdict, advice.option) == (Verdict.CHANGE, Option(TRANSPORT, 8))


def test_start_of_more_than_any_permits_is_given_a_lock_for_each_session() -> None:
    """Forty at once want no lock at all, if all the waiting is to go."""
    advice = advise(recording(starts("a" * 80), Option(TRANSPORT, 4)))
    assert (advice.verdict, advice.option) == (Verdict.CHANGE, Option(SESSION))


def test_settings_without_waiting_are_kept() -> None:
    """Where next to nobody waits there is nothing to gain."""
    advice = advise(recording(starts("abcd"), Option(TRANSPORT, 1)))
    assert (advice.verdict, advice.option) == (Verdict.KEEP, Option(TRANSPORT, 1))
    assert advice.contention == "None of 40 openings waited for its lock."
    assert advice.caveats == ()


@pytest.mark.parametrize(("names", "times"), [("abab", 4), ("ab", 14), ("a" * 40, 1)])
def test_short_recording_gives_no_advice(names: str, times: int) -> None:
    """Neither few openings nor few bursts are enough; the table is there all the same."""
    advice = advise(recording(starts(names, times=times), Option(GLOBAL, 1)))
    assert (advice.verdict, advice.option) == (Verdict.TOO_FEW, None)
    assert (
        "are too few to tell the settings from chance; record at least 30 openings in 5 bursts"
        in advice.sentence
    )
    assert advice.predicted[Option(SESSION)].sum_s < advice.measured.sum_s


def test_one_bad_burst_is_not_enough_for_a_change() -> None:
    """What hangs on a single burst of many may be chance, and is said to be."""
    load = [*starts("a", times=40), *burst(9_000.0, "a" * 12, 5.0)]
    advice = advise(recording(load, Option(TRANSPORT, 1)))
    assert (advice.verdict, advice.option) == (Verdict.KEEP, Option(TRANSPORT, 1))
    assert "hangs on few bursts (95 % interval: 0 ms to" in advice.sentence


def test_recording_that_its_own_replay_contradicts_gives_no_advice() -> None:
    """Wrong permits, or two managers in one recording, are noticed."""
    record = recording(starts("aaaaaa"), Option(TRANSPORT, 1))
    advice = advise(replace(record, in_force=Option(TRANSPORT, 3)))
    assert (advice.verdict, advice.option) == (Verdict.UNFIT, None)
    assert "the replay gives 30.0 s of waiting, but 150.0 s were measured" in advice.sentence


def test_reader_is_told_what_the_replay_cannot_know() -> None:
    """Openings that slow each other, that had not ended, that were cut off, or that gave up."""
    beside = [entry for number in range(20) for entry in burst(50.0 * number, "aaaa", 2.0)]
    alone = [(50.0 * number + 20.0, "a", 1.0) for number in range(20)]
    record = recording([*beside, *alone], Option(TRANSPORT, 2))
    last = opening(2_000.0, "a", 999, 3.0, ended=False)
    gone = opening(1_999.0, "a", 998, None, waited_s=0.5)
    advice = advise(Recording(record.in_force, (*record.openings, gone, last), cut=2))
    assert advice.verdict is Verdict.CHANGE
    assert [caveat.split(":")[0] for caveat in advice.caveats] == [
        "Openings of a took 2.0 times as long beside others of it than alone",
        "1 opening had not ended",
        "2 openings began before the recording and are left out.",
        "1 opening gave up before the grant",
        "Every opening is replayed at the length it had",
    ]


def test_long_load_without_a_rest_is_cut_into_bursts() -> None:
    """A load that never rests is many bursts; one start is one."""
    busy = recording([(0.9 * number, "a", 1.0) for number in range(200)], Option(TRANSPORT, 1))
    assert len(bursts(as_recorded(busy))) == 8
    assert len(bursts(as_recorded(recording(starts("aaa", times=3), Option(GLOBAL, 1))))) == 3


def test_transport_that_does_not_slow_is_not_said_to() -> None:
    """Openings of one length are as long beside others as alone; few are not judged."""
    load = [entry for number in range(30) for entry in burst(10.0 * number, "aa", 1.0)]
    load += [(10.0 * number + 5.0, "a", 1.0) for number in range(30)]
    assert slowdowns(as_recorded(recording(load, Option(TRANSPORT, 2)))) == {
        "a": pytest.approx(1.0, abs=1e-3)
    }
    assert slowdowns(as_recorded(recording(load[:10], Option(TRANSPORT, 2)))) == {}


def test_figures_are_those_of_all_openings() -> None:
    """Percentiles are waits that happened; what holds at one instant is counted in all and on one server."""
    load = burst(0.0, "aab", 1.0)
    figures = Figures.of(replay(recording(load, Option(GLOBAL, 1)), Option(GLOBAL, 1)))
    assert (figures.openings, figures.waited, figures.gave_up) == (3, 2, 0)
    assert (figures.p50_s, figures.p99_s, figures.max_s) == pytest.approx((1.0, 2.0, 2.0), abs=1e-3)
    assert figures.sum_s == pytest.approx(3.0, abs=1e-3)
    assert figures.share_waited == pytest.approx(2 / 3)
    figures = Figures.of(replay(recording(load, Option(GLOBAL, 1)), Option(SESSION)))
    assert (figures.at_once, figures.at_once_on_one) == (3, 2)
    assert Figures.of(()).share_waited == 0.0
