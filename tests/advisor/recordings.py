"""Recordings made by hand, for tests of the advisor."""

from __future__ import annotations

from collections.abc import Iterable

from instrumented_sessions.advisor import OpeningRecord, Option, Recording, replay
from instrumented_sessions.vocabulary import LockGranularity

START = 1_700_000_000.0
GLOBAL, TRANSPORT, SESSION = LockGranularity.GLOBAL, LockGranularity.TRANSPORT, LockGranularity.SESSION


def opening(
    asked_s: float, transport: str, number: int, held_s: float | None, **rest: object
) -> OpeningRecord:
    """An opening of a conversation of its own that did not wait."""
    facts = {"waited_s": 0.0, **rest}
    return OpeningRecord(START + asked_s, transport, f"c-{number}", held_s=held_s, **facts)  # type: ignore[arg-type]


def recording(load: Iterable[tuple[float, str, float]], in_force: Option) -> Recording:
    """What a run of `load` (asked at, transport, held for) under `in_force` would have recorded."""
    asked = [opening(at, name, number, held_s) for number, (at, name, held_s) in enumerate(sorted(load))]
    played = replay(Recording(in_force, tuple(asked)), in_force)
    openings = tuple(
        opening(
            each.asked_s + asked[0].asked_at - START,
            each.opening.transport,
            number,
            each.opening.held_s,
            waited_s=each.waited_s,
        )
        for number, each in enumerate(played)
    )
    return Recording(in_force, openings)


def burst(at: float, names: str, held_s: float) -> list[tuple[float, str, float]]:
    """An opening of each named transport, all asked for within a moment."""
    return [(at + number * 1e-6, name, held_s) for number, name in enumerate(names)]
