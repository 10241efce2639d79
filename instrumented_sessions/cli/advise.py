"""Prints what a recording says of lock granularity: `advise`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from ..advisor import Advice, Figures, Option, Recording, RecordingError, load
from ..advisor import advise as judge
from ..demo.problem import Problem
from .advise_demo import record_demo

_COLUMNS = ("", "granularity", "permits", "waited", "p50 s", "p99 s", "max s", "sum s", "at once", "on one")
_ROW = "{:<10} {:<11} {:>7} {:>7} {:>8} {:>8} {:>8} {:>9} {:>7} {:>6}"


def run(file: str | None, *, is_json: bool, permits: int | None = None) -> None:
    """Print the advice for a recording.

    Args:
        file: Where it is; None: make one now.
        is_json: Whether a program reads it.
        permits: The number in force, if the recording's own is not right.

    Raises:
        Problem: The file cannot be read, or is no recording.
    """
    try:
        recording = load(file) if file is not None else record_demo()
        if permits is not None:
            in_force = Option(recording.in_force.granularity, permits)
            recording = Recording(in_force, recording.openings, recording.cut)
    except OSError as error:
        raise Problem(f"cannot read {file}: {error.strerror or error}") from error
    except RecordingError as error:
        raise Problem(str(error)) from error
    advice = judge(recording)
    print(json.dumps(as_json(recording, advice), indent=2) if is_json else as_text(recording, advice))


def as_text(recording: Recording, advice: Advice) -> str:
    """Return the advice for a person: a table, and then sentences."""
    transports = recording.transports
    lines = [
        f"{len(recording.openings)} openings of {len(transports)} transport{'s'[: len(transports) != 1]} in "
        f"{recording.lasted_s:.1f} s, under {recording.in_force}",
        "",
        *_table(recording.in_force, advice),
        "",
        f"Contention: {advice.contention}",
        f"Advice: {advice.sentence}",
        *(f"Mind: {caveat}" for caveat in advice.caveats),
    ]
    return "\n".join(lines)


def as_json(recording: Recording, advice: Advice) -> dict[str, object]:
    """Return the same for a program; its keys are public."""
    return {
        "in_force": _option(recording.in_force),
        "openings": len(recording.openings),
        "transports": recording.transports,
        "lasted_s": recording.lasted_s,
        "measured": _figures(advice.measured),
        "predicted": [
            {**_option(option), **_figures(figures)} for option, figures in advice.predicted.items()
        ],
        "verdict": advice.verdict,
        "advice": _option(advice.option) if advice.option is not None else None,
        "sentence": advice.sentence,
        "contention": advice.contention,
        "caveats": list(advice.caveats),
    }


def _table(in_force: Option, advice: Advice) -> Iterator[str]:
    yield _ROW.format(*_COLUMNS)
    yield _row("measured", in_force, advice.measured)
    for option, figures in advice.predicted.items():
        mark = "advised" if option == advice.option else "replayed"
        yield _row(f"{mark}{' *' if option == in_force else ''}", option, figures)
    yield "* in force: beside what was measured it shows how good the replay is"


def _row(what: str, option: Option, figures: Figures) -> str:
    waits = (figures.p50_s, figures.p99_s, figures.max_s)
    return _ROW.format(
        what,
        option.granularity,
        option.permits or "-",
        f"{figures.share_waited:.0%}",
        *(f"{wait_s:.3f}" for wait_s in waits),
        f"{figures.sum_s:.2f}",
        figures.at_once,
        figures.at_once_on_one,
    )


def _option(option: Option) -> dict[str, object]:
    return {"granularity": option.granularity, "permits": option.permits}


def _figures(figures: Figures) -> dict[str, object]:
    return {**asdict(figures), "share_waited": figures.share_waited}
