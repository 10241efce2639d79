"""The advisor's sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from .figures import Figures
from .options import Option
from .recording import Recording
from .replay import Played

_SLOWER = 1.3  # Times as long; less is within what any two openings differ by.


def contention(measured: Sequence[Played]) -> str:
    """Say where the waiting was: who waited, and who held meanwhile."""
    waited: dict[str, float] = defaultdict(float)
    held: dict[str, float] = defaultdict(float)
    for each in measured:
        waited[each.opening.transport] += each.waited_s
        if each.granted_s is not None:
            held[each.opening.transport] += each.ended_s - each.granted_s
    queued, sum_s = sum(each.queued for each in measured), sum(waited.values())
    if not queued:
        return f"None of {len(measured)} openings waited for its lock."
    most_waited, most_held = max(waited, key=waited.__getitem__), max(held or waited, key=held.__getitem__)
    text = f"{queued} of {len(measured)} openings waited for their lock, {seconds(sum_s)} in all"
    if len(waited) > 1:
        text += f"; {waited[most_waited] / sum_s:.0%} of the waiting was for transport {most_waited}"
        share = held[most_held] / (sum(held.values()) or 1.0)
        text += f"; openings of {most_held} held {share:.0%} of the time that permits were held"
    else:
        text += f", all for transport {most_waited}"
    return text + "."


def too_few(openings: int, parts: int, min_openings: int, min_parts: int) -> str:
    """Say what a recording lacks."""
    return (
        f"No advice: {openings} openings in {_plural(parts, 'burst')} are too few to tell the settings from "
        f"chance; record at least {min_openings} openings in {min_parts} bursts."
    )


def unfit(in_force: Option, predicted_s: float, measured_s: float) -> str:
    """Say that the replay is not to be trusted."""
    return (
        f"No advice: for {in_force} the replay gives {seconds(predicted_s)} of waiting, but "
        f"{seconds(measured_s)} were measured; was it one manager, and are these its permits?"
    )


def little_waiting(in_force: Option, measured: Figures) -> str:
    """Say that there is no problem."""
    return (
        f"Keep {in_force}: openings hardly waited for their lock, {seconds(measured.sum_s)} for "
        f"{measured.openings} openings."
    )


def no_better(in_force: Option, measured: Figures) -> str:
    """Say that the lock is not the problem."""
    return (
        f"Keep {in_force}: of {seconds(measured.sum_s)} of waiting, no other granularity or number of "
        "permits saves enough to be worth a change; faster or fewer openings would."
    )


def unsure(in_force: Option, chosen: Option, saved_s: float, least_s: float, most_s: float) -> str:
    """Say that the saving may be chance."""
    return (
        f"Keep {in_force}: {chosen} would have saved {seconds(saved_s)} here, but that hangs on few bursts "
        f"(95 % interval: {seconds(least_s)} to {seconds(most_s)}); record for longer."
    )


def change(
    in_force: Option,
    chosen: Option,
    figures: Mapping[Option, Figures],
    saved_s: float,
    least_s: float,
    most_s: float,
    parts: int,
) -> str:
    """Say what to choose, and why."""
    before, after = figures[in_force], figures[chosen]
    return (
        f"Choose {chosen} instead of {in_force}: it saves {seconds(saved_s)} of {seconds(before.sum_s)} of "
        f"waiting (95 % interval over {parts} bursts: {seconds(least_s)} to {seconds(most_s)}), p99 "
        f"{seconds(before.p99_s)} to {seconds(after.p99_s)}; a server then gets "
        f"{after.at_once_on_one} openings at once at most, instead of {before.at_once_on_one}. Nothing "
        "tighter saves nearly as much."
    )


def caveats(
    recording: Recording,
    slowdowns: Mapping[str, float],
    option: Option | None,
) -> Iterator[str]:
    """Yield what the reader has to know before following the advice."""
    for name, ratio in slowdowns.items():
        if ratio >= _SLOWER:
            yield (
                f"Openings of {name} took {ratio:.1f} times as long beside others of it than alone: "
                "with more at once they may take longer still, which the replay cannot know."
            )
    unended = sum(not opening.ended for opening in recording.openings)
    if unended:
        yield f"{_plural(unended, 'opening')} had not ended: they count as long as they were seen."
    if recording.cut:
        yield f"{_plural(recording.cut, 'opening')} began before the recording and are left out."
    gave_up = sum(opening.ended and opening.held_s is None for opening in recording.openings)
    if gave_up:
        yield (
            f"{_plural(gave_up, 'opening')} gave up before the grant: with a permit they are taken "
            "to last as long as others of their transport."
        )
    if option is not None and option != recording.in_force:
        yield (
            "Every opening is replayed at the length it had: where a server slows with more at once, "
            "less is saved."
        )


def seconds(number_s: float) -> str:
    """Return a duration for a sentence."""
    return f"{number_s * 1000:.0f} ms" if abs(number_s) < 0.995 else f"{number_s:.1f} s"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
