"""Compares the options for one recording, and says which to choose, if any."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..vocabulary import LockGranularity
from . import words
from .evidence import bursts, saving_s, slowdowns
from .figures import Figures
from .options import Option, options_beside
from .recording import Recording
from .replay import Played, as_recorded, replay

MIN_OPENINGS = 30
MIN_BURSTS = 5
"""Below these a recording says what was, not what will be."""

_WORTH_S = 0.01  # Less waiting for an opening, on average, is nobody's problem.
_WORTH_SHARE = 0.1  # Of the waiting there is; less is not worth a change.
_NEARLY_ALL = 0.1  # Of it may stay, for fewer openings at once.
_FIT_SHARE = 0.25
_FIT_S = 0.005  # For an opening, on average: the resolution of a loaded machine.


class Verdict(str, Enum):
    """What comes of it."""

    CHANGE = "change"
    """Another option saves waiting, and surely."""
    KEEP = "keep"
    """No other option would help much."""
    TOO_FEW = "too_few"
    """The recording is too short to say."""
    UNFIT = "unfit"
    """The replay does not even give what was measured."""

    __str__ = str.__str__


@dataclass(frozen=True)
class Advice:
    """What the recording says for the settings `granularity` and `permits`."""

    verdict: Verdict
    option: Option | None
    """What to choose; None when there is nothing to say."""
    sentence: str
    """The advice for a person."""
    contention: str
    """Where the waiting was, in a sentence."""
    caveats: tuple[str, ...]
    """What the reader has to know before following it."""
    measured: Figures
    predicted: dict[Option, Figures]
    """For every option, the coarsest first; the one in force shows how good the replay is."""


def advise(recording: Recording) -> Advice:
    """Replay `recording` under every option, and judge.

    A change is advised to the fewest openings at once on one server that save nearly all the waiting
    that can be saved; and only if the replay gives what was measured, the recording is long enough, and
    the saving shows in bursts of openings that know nothing of each other.
    """
    measured = as_recorded(recording)
    runs = {option: replay(recording, option) for option in options_beside(recording.in_force)}
    figures = {option: Figures.of(run) for option, run in runs.items()}
    before = Figures.of(measured)
    verdict, option, sentence = _judge(recording, measured, runs, before, figures)
    return Advice(
        verdict,
        option,
        sentence,
        words.contention(measured),
        tuple(words.caveats(recording, slowdowns(measured), option)),
        before,
        figures,
    )


def _judge(
    recording: Recording,
    measured: tuple[Played, ...],
    runs: dict[Option, tuple[Played, ...]],
    before: Figures,
    figures: dict[Option, Figures],
) -> tuple[Verdict, Option | None, str]:
    in_force, parts = recording.in_force, bursts(measured)
    now_s = figures[in_force].sum_s
    if len(measured) < MIN_OPENINGS or len(parts) < MIN_BURSTS:
        return Verdict.TOO_FEW, None, words.too_few(len(measured), len(parts), MIN_OPENINGS, MIN_BURSTS)
    if abs(now_s - before.sum_s) > _FIT_SHARE * before.sum_s + _FIT_S * len(measured):
        return Verdict.UNFIT, None, words.unfit(in_force, now_s, before.sum_s)
    if now_s < _WORTH_S * len(measured):
        return Verdict.KEEP, in_force, words.little_waiting(in_force, before)
    chosen = _tightest_that_helps(in_force, figures)
    saved_s, least_s, most_s = saving_s(runs[in_force], runs[chosen], parts)
    if chosen == in_force or saved_s < _WORTH_SHARE * now_s:
        return Verdict.KEEP, in_force, words.no_better(in_force, before)
    if least_s < _WORTH_SHARE * now_s:
        return Verdict.KEEP, in_force, words.unsure(in_force, chosen, saved_s, least_s, most_s)
    sentence = words.change(in_force, chosen, figures, saved_s, least_s, most_s, len(parts))
    return Verdict.CHANGE, chosen, sentence


def _tightest_that_helps(in_force: Option, figures: dict[Option, Figures]) -> Option:
    """Return the option with the fewest openings at once on one server that saves nearly all there is.

    Never a `global` one but that in force: `transport` with the same permits bounds a server as well,
    no wait in it is longer, and a transport that hangs stops no other.
    """
    tightest_first = [option for option in figures if option.granularity is not LockGranularity.GLOBAL]
    least_s = min(figures[option].sum_s for option in tightest_first)
    enough_s = least_s + _NEARLY_ALL * (figures[in_force].sum_s - least_s)
    if figures[in_force].sum_s <= enough_s:
        return in_force
    return next(option for option in tightest_first if figures[option].sum_s <= enough_s)
