"""The piece of work against which the stall benchmark measures."""

from __future__ import annotations

import itertools

import pytest

from benchmarks.stalls import yardstick


def test_usual_piece_is_the_mean_without_the_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece during which somebody else ran says nothing of the machine's speed; the sum has it."""
    took_s = [1.0, 100.0, *[2.0, 4.0] * 4]
    instants = itertools.chain.from_iterable((0.0, piece_s) for piece_s in took_s)
    monkeypatch.setattr(yardstick.time, "thread_time", lambda: next(instants))
    measured = yardstick.Yardstick()
    for _ in took_s:
        measured.apply()
    assert measured.piece_s == pytest.approx(3.0)
    assert measured.total_s == pytest.approx(sum(took_s))


def test_yardstick_that_was_not_applied_has_no_length() -> None:
    with pytest.raises(ValueError, match="was not applied"):
        _ = yardstick.Yardstick().piece_s
