"""How things stand, in one sentence: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ..schemas import LoopNow, Process, SessionCount, Stall, Verdict, Wait

LONG_WAIT_S = 5.0
"""A wait beyond this is a problem; a shorter one is worth a look."""
SILENT_S = 60.0
RECENT_S = 300.0

Trouble = tuple[str, str]
"""What happened (`timeout`, `deadlock`, `error`, `refused`, `stall`) and where (a transport or loop)."""


def verdict(
    waits: Sequence[Wait],
    stalls: Sequence[Stall],
    loops: Sequence[LoopNow],
    sessions: Sequence[SessionCount],
    processes: Sequence[Process],
    recent: Mapping[Trouble, int],
) -> Verdict:
    """Return the verdict; what is wrong now comes before what was wrong in the last five minutes."""
    details = [_stall(stall) for stall in stalls[:3]]
    if waits:
        details.append(_waits(waits))
    silent = [process for process in processes if process.silent_s > SILENT_S]
    if silent:
        names = _join([f"{process.service} for {_age(process.silent_s)}" for process in silent[:3]])
        details.append(f"No news from {names}")
    past = _recent(recent)
    if past:
        details.append(past)

    if stalls:
        level = "bad"
    elif waits:
        level = "bad" if waits[0].waited_s >= LONG_WAIT_S else "warn"
    elif not processes:
        return Verdict(
            level="unknown",
            sentence="Nothing has been reported yet: send OTLP/HTTP to this address.",
            details=[],
        )
    elif len(silent) == len(processes):
        level = "unknown"
    elif past:
        level = "warn"
        details.insert(0, "Nothing waits now")
    else:
        level = "ok"
        ready = sum(count.by_state.get("ready", 0) for count in sessions)
        parts = ["Nothing waits"]
        if loops:
            parts.append(f"{_many(len(loops), 'loop')} {'answers' if len(loops) == 1 else 'answer'}")
        if ready:
            parts.append(f"{_many(ready, 'session')} {'is' if ready == 1 else 'are'} ready")
        details.insert(0, "; ".join(parts))
    return Verdict.model_validate({"level": level, "sentence": details[0] + ".", "details": details[1:]})


def _stall(stall: Stall) -> str:
    where = (
        f" at {stall.culprit.function} ({stall.culprit.file}:{stall.culprit.line})" if stall.culprit else ""
    )
    return (
        f"Loop {stall.loop} of {stall.service} has been stalled for {_age(stall.duration_s)}"
        f" by {stall.cause.replace('_', ' ')}{where}"
    )


def _waits(waits: Sequence[Wait]) -> str:
    oldest = waits[0]
    total = sum(wait.waiters for wait in waits)
    target = f"{oldest.transport}/{oldest.conversation}" if oldest.conversation else oldest.transport
    head = f"{total} wait" if total > 1 else "One waits"
    target = target or oldest.lock_name or oldest.name
    text = f"{head}; the oldest, for {target}, has waited {_age(oldest.waited_s)}"
    if oldest.phase:
        text += f" in phase {oldest.phase}"
    if oldest.holder is not None:
        what = "has held the lock" if oldest.lock or oldest.lock_name else "has been at it"
        text += f": {oldest.holder.name} {what} for {_age(oldest.holder.held_s)}"
        if oldest.doing:
            text += f" and {oldest.doing}"
    elif oldest.doing:
        text += f": {oldest.doing}"
    return text


def _recent(recent: Mapping[Trouble, int]) -> str:
    by_kind: dict[str, Counter[str]] = {}
    for (kind, place), count in recent.items():
        by_kind.setdefault(kind, Counter())[place] += count
    parts = []
    for kind in ("deadlock", "stall", "timeout", "error", "refused"):
        places = by_kind.get(kind)
        if places:
            word = {"error": "error", "refused": "refusal"}.get(kind, kind)
            names = _join([place for place, _ in places.most_common(3) if place])
            parts.append(_many(sum(places.values()), word) + (f" on {names}" if names else ""))
    return f"In the last five minutes: {', '.join(parts)}" if parts else ""


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def _join(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def _age(seconds: float) -> str:
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
