"""Draws panels with matplotlib, for `preview`: enough of Grafana's looks to judge a layout."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

PAGE, CARD, INK, FAINT = "#111217", "#181b1f", "#d5d6da", "#8e9097"
COLOURS = {"green": "#3d8b45", "orange": "#d9822b", "red": "#c4343f", "blue": "#3871dc"}
_LINES = [colormaps["tab20"](place) for place in (0, 2, 4, 18, 8, 12, 16, 1, 3, 5, 19, 9, 13, 17, 10, 6)]
_LEGEND_ROWS = 4
_PREFIX = "InstrumentedSessions"  # Of every alert; it says nothing in this table.

Colour = tuple[float, float, float, float]
"""Red, green, blue and opacity, 0 to 1."""

Place = tuple[float, float, float, float]
"""Left, bottom, width and height, in shares of the picture."""


@dataclass(frozen=True)
class Series:
    """One series of an answer: its name in the legend, its labels, and its points."""

    name: str
    labels: dict[str, str]
    points: list[tuple[float, float]]

    @property
    def last(self) -> float:
        """Its newest value."""
        return self.points[-1][1]


def place(grid: dict[str, int], height: int) -> Place:
    """Return where a place of Grafana's 24-column grid is in the picture."""
    rows = height + 2
    left, bottom = grid["x"] / 24, 1 - (grid["y"] + 2 + grid["h"]) / rows
    return left + 0.003, bottom + 0.12 / rows, grid["w"] / 24 - 0.006, (grid["h"] - 0.24) / rows


def header(figure: Figure, title: str, about: str, height: int) -> None:
    """Write the title and the question that the dashboard answers."""
    at = 1 - 1.0 / (height + 2)
    figure.text(0.006, at, title, color=INK, fontsize=15, fontweight="bold", va="center")
    figure.text(0.994, at, about, color=FAINT, fontsize=10, va="center", ha="right")


def row(figure: Figure, where: Place, title: str) -> None:
    """Write the title of a row."""
    figure.text(where[0] + 0.003, where[1] + where[3] / 2, title, color=INK, fontsize=11, va="center")


def panel(
    figure: Figure, where: Place, model: dict[str, Any], series: Sequence[Series], time: tuple[float, float]
) -> None:
    """Draw one panel."""
    left, bottom, width, height = where
    card = FancyBboxPatch(
        (left, bottom),
        width,
        height,
        boxstyle="square,pad=0",
        facecolor=CARD,
        edgecolor="#25272c",
        linewidth=0.8,
        transform=figure.transFigure,
        zorder=-1,
    )
    figure.add_artist(card)
    inch = 1 / figure.get_figheight()
    _DRAW[model["type"]](figure, card, where, model, series, time)
    figure.text(
        left + 0.005,
        bottom + height - 0.08 * inch,
        model["title"],
        color="white" if model["type"] == "stat" else INK,
        fontsize=9,
        fontweight="bold",
        va="top",
    )


def number(value: float, unit: str) -> str:
    """Return a value as Grafana would write it."""
    if unit == "s":
        if value < 1:
            return f"{value * 1000:.3g} ms"
        return f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} min"
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    text = f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    return f"{text}/s" if unit == "reqps" else text


def _stat(
    figure: Figure,
    card: FancyBboxPatch,
    where: Place,
    model: dict[str, Any],
    series: Sequence[Series],
    _: Any,
) -> None:
    defaults = model["fieldConfig"]["defaults"]
    words = {key: value for entry in defaults.get("mappings", []) for key, value in entry["options"].items()}
    steps = defaults["thresholds"]["steps"]
    if not series:
        text, colour = defaults["noValue"], "#44464d"
    else:
        value = max(one.last for one in series)
        text = number(value, defaults["unit"])
        reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
        colour = COLOURS[reached[-1]]
        if (word := words.get(f"{value:g}")) is not None:
            text, colour = word["text"], COLOURS[word["color"]]
    card.set_facecolor(colour)
    left, bottom, width, height = where
    wrapped = textwrap.fill(text, max(8, int(width * 60)))
    size = 26 if len(text) < 9 else 20
    figure.text(
        left + width / 2,
        bottom + height * 0.42,
        wrapped,
        color="white",
        fontsize=size,
        fontweight="bold",
        ha="center",
        va="center",
    )
    if model["options"]["textMode"] == "value_and_name" and series:
        named = max(series, key=lambda one: one.last).name
        figure.text(left + width / 2, bottom + height * 0.72, named, color="white", fontsize=10, ha="center")


def _axes(figure: Figure, where: Place, legend_rows: int, time: tuple[float, float]) -> Axes:
    inch_x, inch_y = 1 / figure.get_figwidth(), 1 / figure.get_figheight()
    left, bottom, width, height = where
    below = (0.28 + 0.16 * legend_rows) * inch_y
    axes = figure.add_axes(
        (left + 0.55 * inch_x, bottom + below, width - 0.7 * inch_x, height - below - 0.34 * inch_y)
    )
    axes.set_facecolor(CARD)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.grid(color="#2c2f36", linewidth=0.6)
    axes.tick_params(colors=FAINT, labelsize=7, length=0)
    axes.set_xlim(*time)
    middle = [time[0] + (time[1] - time[0]) * part for part in (0.0, 0.25, 0.5, 0.75, 1.0)]
    axes.set_xticks(middle, [f"-{time[1] - at:.0f} s" if at < time[1] else "now" for at in middle])
    return axes


def _empty(figure: Figure, where: Place, text: str) -> None:
    figure.text(where[0] + where[2] / 2, where[1] + where[3] / 2, text, color=FAINT, fontsize=10, ha="center")


def _timeseries(
    figure: Figure,
    card: FancyBboxPatch,
    where: Place,
    model: dict[str, Any],
    series: Sequence[Series],
    time: tuple[float, float],
) -> None:
    defaults = model["fieldConfig"]["defaults"]
    custom, unit = defaults.get("custom", {}), defaults["unit"]
    if not series:
        _empty(figure, where, defaults["noValue"])
        return
    shown = sorted(series, key=lambda one: -max(value for _, value in one.points))
    axes = _axes(figure, where, min(len(shown), _LEGEND_ROWS), time)
    colours = {one.name: _colour(one.name) for one in series}
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    bars = custom.get("drawStyle") == "bars"
    heights: dict[float, float] = {}
    for one in series:
        xs = [at for at, _ in one.points]
        floor = [heights.get(at, 0.0) if stacked else 0.0 for at in xs]
        ys = [base + value for base, (_, value) in zip(floor, one.points)]
        colour = colours[one.name]
        if bars:
            axes.bar(
                xs, [value for _, value in one.points], bottom=floor, width=2.0, color=colour, alpha=0.75
            )
        else:
            step = 3 * 2.0  # A gap in the data is a gap in the line.
            pieces: list[list[int]] = [[]]
            for i, at in enumerate(xs):
                if pieces[-1] and at - xs[pieces[-1][-1]] > step:
                    pieces.append([])
                pieces[-1].append(i)
            for piece in pieces:
                px, py = [xs[i] for i in piece], [ys[i] for i in piece]
                axes.plot(
                    px, py, color=colour, linewidth=1.1, marker="." if len(piece) == 1 else None, markersize=3
                )
                axes.fill_between(
                    px, [floor[i] for i in piece], py, color=colour, alpha=0.25 if stacked else 0.06
                )
        heights.update(zip(xs, ys))
    for step_ in defaults.get("thresholds", {}).get("steps", []):
        if step_["value"] and custom.get("thresholdsStyle", {}).get("mode") == "dashed":
            axes.axhline(step_["value"], color=COLOURS[step_["color"]], linewidth=1, linestyle="--")
    axes.set_ylim(0, max(axes.get_ylim()[1], custom.get("axisSoftMax") or 0.0))
    axes.set_yticks(axes.get_yticks()[::2] if len(axes.get_yticks()) > 6 else axes.get_yticks())
    axes.yaxis.set_major_formatter(lambda value, _: number(value, unit))
    _legend(figure, where, shown, colours, unit)


_given: dict[str, Colour] = {}


def _colour(name: str) -> Colour:
    """Return the colour of a name, the same in every panel and picture."""
    return _given.setdefault(name, _LINES[len(_given) % len(_LINES)])


def _legend(
    figure: Figure, where: Place, shown: Sequence[Series], colours: dict[str, Colour], unit: str
) -> None:
    inch = 1 / figure.get_figheight()
    for line, one in enumerate(shown[:_LEGEND_ROWS]):
        at = where[1] + (0.1 + 0.16 * (min(len(shown), _LEGEND_ROWS) - 1 - line)) * inch
        figure.text(
            where[0] + 0.006, at, "—", color=colours[one.name], fontsize=9, va="center", fontweight="bold"
        )
        name = one.name or "value"
        if line == _LEGEND_ROWS - 1 and len(shown) > _LEGEND_ROWS:
            name += f"   (and {len(shown) - _LEGEND_ROWS} more)"
        figure.text(where[0] + 0.02, at, name, color=INK, fontsize=7, va="center")
        most = max(value for _, value in one.points)
        text = f"last {number(one.last, unit)}   max {number(most, unit)}"
        figure.text(where[0] + where[2] - 0.005, at, text, color=FAINT, fontsize=7, va="center", ha="right")


def _heatmap(
    figure: Figure,
    card: FancyBboxPatch,
    where: Place,
    model: dict[str, Any],
    series: Sequence[Series],
    time: tuple[float, float],
) -> None:
    if not series:
        _empty(figure, where, model["fieldConfig"]["defaults"]["noValue"])
        return
    bounds = sorted(series, key=lambda one: float(one.labels["le"]))
    axes = _axes(figure, where, 0, time)
    axes.grid(visible=False)
    times = sorted({at for one in bounds for at, _ in one.points})
    cells, below = [], dict.fromkeys(times, 0.0)
    for one in bounds:
        values = dict(one.points)
        now = {at: values.get(at, 0.0) for at in times}
        cells.append([max(0.0, now[at] - below[at]) ** 0.5 or float("nan") for at in times])
        below = now
    edges = [*times, times[-1] + (times[1] - times[0] if len(times) > 1 else 2)]
    axes.pcolormesh(edges, range(len(cells) + 1), cells, cmap="Oranges_r", vmin=-max(map(_most, cells)) * 0.3)
    names = [number(float(one.labels["le"]), "s") if one.labels["le"] != "+Inf" else "more" for one in bounds]
    axes.set_yticks([place + 0.5 for place in range(len(names))][::2], names[::2])


def _most(cells: Sequence[float]) -> float:
    return max((cell for cell in cells if cell == cell), default=1.0)


def _table(
    figure: Figure,
    card: FancyBboxPatch,
    where: Place,
    model: dict[str, Any],
    series: Sequence[Series],
    _: Any,
) -> None:
    if not series:
        _empty(figure, where, model["fieldConfig"]["defaults"]["noValue"])
        return
    options = model["transformations"][0]["options"]
    names, places = options["renameByName"], options["indexByName"]
    columns = {label: names[label] for label in sorted(names, key=places.__getitem__)}
    series = sorted(series, key=lambda one: [one.labels.get(label, "") for label in columns])
    inch = 1 / figure.get_figheight()
    rows = [list(columns.values())]
    rows += [[one.labels.get(label, "").removeprefix(_PREFIX) for label in columns] for one in series]
    widths = [max(len(cell) for cell in column) + 2 for column in zip(*rows)]
    starts = [sum(widths[:place]) / sum(widths) for place in range(len(widths))]
    for line, cells in enumerate(rows):
        at = where[1] + where[3] - (0.45 + 0.2 * line) * inch
        if at < where[1] + 0.08 * inch:
            break
        for start, cell in zip(starts, cells):
            colour = FAINT if not line else COLOURS["red"] if cell == "firing" else INK
            figure.text(
                where[0] + 0.006 + start * (where[2] - 0.01),
                at,
                cell,
                color=colour,
                fontsize=7.5,
                va="center",
            )


_DRAW: dict[str, Callable[..., None]] = {
    "stat": _stat,
    "timeseries": _timeseries,
    "heatmap": _heatmap,
    "table": _table,
}
