"""Figures of the stall benchmark as Markdown tables. Pure code."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Figures = Mapping[str, float | None]

SHARES = ("recall", "recall, permanent", "live", "leaf frame", "cause")
TIMES = ("latency p50, s", "latency p95, s")
TARGETS: tuple[tuple[str, str, Callable[[float], bool]], ...] = (
    ("recall", "≥ 99 %", lambda value: value >= 0.99),
    ("recall, permanent", "100 %", lambda value: value == 1.0),
    ("live", "≥ 97 %", lambda value: value >= 0.97),
    ("latency p50, s", "≤ 150 ms", lambda value: value <= 0.15),
    ("latency p95, s", "≤ 200 ms", lambda value: value <= 0.2),
    ("leaf frame", "≥ 98 %", lambda value: value >= 0.98),
    ("cause", "≥ 95 %", lambda value: value >= 0.95),
    ("blamed, sigstop", "0", lambda value: value == 0),
    ("blamed, starve", "0", lambda value: value == 0),
    ("blamed, throttle", "0", lambda value: value == 0),
    ("false alarms", "0", lambda value: value == 0),
    ("idle CPU, %", "≤ 0.35 %", lambda value: value <= 0.35),
)


def show(name: str, value: float | None) -> str:
    """Return a figure as people read it; a dash for what was not run."""
    if value is None:
        return "–"
    if name in SHARES or name.startswith("blamed"):
        return f"{100 * value:.0f} %"
    if name in TIMES:
        return f"{1000 * value:.0f} ms"
    return f"{value:.0f}" if name == "stalls" else f"{value:.2f}"


def side_by_side(figures: Mapping[str, Figures]) -> str:
    """Return one row for each detector."""
    names = list(next(iter(figures.values())))
    lines = [f"| detector | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for detector, mine in figures.items():
        lines.append(f"| {detector} | " + " | ".join(show(name, mine[name]) for name in names) + " |")
    return "\n".join(lines)


Row = tuple[str, str, str, bool | None]
"""What, the target, what was measured, and whether that is met; None if it was too noisy to say."""


def _loops(figures: Figures) -> Row:
    last_s = figures["last_s"] or 0.0
    shown = f"{figures['right']:.0f} of {figures['loops']:.0f}, the last after {1000 * last_s:.0f} ms"
    met = figures["right"] == figures["loops"] and last_s < 0.5
    return "twenty loops at once", "each, live", shown, met


def _idle(figures: Figures) -> Row:
    percent = figures["percent"] or 0.0
    return "idle CPU of eight loops", "≤ 0.6 %", f"{percent:.2f} %", percent <= 0.6


def _soak(figures: Figures) -> Row:
    met = figures["told_once"] == figures["made"] and bool(figures["consistent"] and figures["counted"])
    wanted = f"{figures['made']:.0f}, each once"
    return "stalls counted in a soak", wanted, f"{figures['told_once']:.0f}", met


def _echo(where: str) -> Callable[[Figures], Row]:
    def row(figures: Figures) -> Row:
        percent, error = figures["percent"] or 0.0, 2 * (figures["error"] or 0.0)
        shown = f"{percent:+.1f} ± {error:.1f} %"
        met = None if abs(percent + 1.0) < error else percent >= -1.0
        return f"MCP echo load {where}, calls in the same CPU time", "within 1 %", shown, met

    return row


def _step(figures: Figures) -> Row:
    us, error = figures["us"] or 0.0, 2 * (figures["error"] or 0.0)
    met = None if abs(us - 0.1) < error else us <= 0.1
    return "step, in the harness", "≤ 0.1 µs", f"{us:+.2f} ± {error:.2f} µs", met


def _saturated(figures: Figures) -> Row:
    us, error = figures["us"] or 0.0, 2 * (figures["error"] or 0.0)
    told = figures["told"] or 0.0
    shown = f"{us:+.2f} ± {error:.2f} µs, {told:.0f} stalls told"
    met = False if told else None if abs(us - 0.1) < error else us <= 0.1
    return "step of a healthy loop that never waits", "≤ 0.1 µs, no stall", shown, met


def _long(figures: Figures) -> Row:
    shown = (
        f"{figures['right']:.0f} of {figures['loops']:.0f}, {figures['dismissed']:.0f} reports blame nobody"
    )
    met = figures["right"] == figures["loops"] and not figures["dismissed"]
    return "stalls of 5 to 60 s", "the right line, none dismissed", shown, met


def _fault(name: str) -> Callable[[Figures], Row]:
    def row(figures: Figures) -> Row:
        shown = f"{figures['blamed']:.0f} of {figures['made']:.0f}, {figures['told']:.0f} stalls told"
        return f"blamed code, {name}", "0", shown, figures["blamed"] == 0

    return row


EXTRAS: Mapping[str, Callable[[Figures], Row]] = {
    "step": _step,
    "twenty loops": _loops,
    "idle": _idle,
    "saturated": _saturated,
    "echo over http": _echo("over HTTP"),
    "echo in memory": _echo("in memory"),
    "echo without deadline": _echo("in memory, without a deadline"),
    "long": _long,
    "soak": _soak,
    **{name: _fault(name) for name in ("stopped", "starved", "throttled")},
}


_VERDICTS = {True: "met", False: "**missed**", None: "too noisy to say"}


def targets(figures: Figures, extras: Mapping[str, Figures]) -> str:
    """Return which targets are met; `extras` are what the harness does not measure, by name in `EXTRAS`."""
    rows: list[Row] = [
        (name, wanted, show(name, value), holds(value))
        for name, wanted, holds in TARGETS
        if (value := figures.get(name)) is not None
    ]
    rows += [EXTRAS[name](part) for name, part in extras.items() if part]
    lines = ["| | target | measured | |", "|---|---|---|---|"]
    lines += [f"| {name} | {wanted} | {shown} | {_VERDICTS[met]} |" for name, wanted, shown, met in rows]
    return "\n".join(lines)
