"""Panels with this project's defaults: short functions around the Foundation SDK's builders."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

with warnings.catch_warnings():
    # The SDK would rather write the new schema; every Grafana from 11 to 13 reads the classic one.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import (
        common,
        dashboard,
        heatmap,
        prometheus,
        stat,
        table,
        timeseries,
    )
from grafana_foundation_sdk.cog import builder as cog
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heat_kinds
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Panel: TypeAlias = cog.Builder[models.Panel]
Query: TypeAlias = prometheus.Dataquery

SOURCE = kinds.DataSourceRef(type_val="prometheus", uid="${datasource}")
"""The data source that was chosen."""

GREEN, AMBER, RED = "green", "orange", "red"


def query(expr: str, legend: str = "__auto", *, exemplars: bool = False) -> Query:
    """Return a query over the dashboard's time range."""
    asked = prometheus.Dataquery().expr(expr).legend_format(legend).datasource(SOURCE).range()
    return asked.exemplar(True) if exemplars else asked


def instant(expr: str, legend: str = "__auto", *, as_table: bool = False) -> Query:
    """Return a query for now only."""
    asked = prometheus.Dataquery().expr(expr).legend_format(legend).datasource(SOURCE).instant()
    return asked.format(PromQueryFormat.TABLE) if as_table else asked


def steps(*bounds: float, worst_is_low: bool = False) -> dashboard.ThresholdsConfig:
    """Return thresholds: green, then amber, then red, from the bounds on, or the other way round."""
    colours = [RED, AMBER, GREEN] if worst_is_low else [GREEN, AMBER, RED]
    if len(bounds) == 1:
        colours.pop(1)
    found = [models.Threshold(value=None, color=colours[0])]
    found += [models.Threshold(value=bound, color=colour) for bound, colour in zip(bounds, colours[1:])]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


def tile(
    title: str,
    text: str,
    expr: str,
    *,
    unit: str,
    width: int,
    legend: str = "",
    bounds: Sequence[float] = (),
    low_is_bad: bool = False,
    words: Mapping[int, tuple[str, str]] | None = None,
    nothing: str = "no data",
    height: int = 5,
) -> Panel:
    """Return one figure of now, its background in the colour of what it means.

    Args:
        title: What it is.
        text: What it means and when it is bad.
        expr: What is asked, for now.
        unit: A unit of Grafana's, `s` for seconds.
        width: In columns of 24.
        legend: Whose figure it is, shown above it; none for a sum.
        bounds: Where it turns amber and red; one bound: red.
        low_is_bad: Small values are the red ones.
        words: Shown in place of whole numbers, with a colour each.
        nothing: Shown when there is no value.
        height: In rows.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .no_value(nothing)
        .span(width)
        .height(height)
        .with_target(instant(expr, legend or "__auto").ref_id("A"))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .color_mode(kinds.BigValueColorMode.BACKGROUND)
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .text_mode(kinds.BigValueTextMode.VALUE_AND_NAME if legend else kinds.BigValueTextMode.VALUE)
        .thresholds(
            steps(*bounds, worst_is_low=low_is_bad)
            if bounds
            else dashboard.ThresholdsConfig()
            .mode(models.ThresholdsMode.ABSOLUTE)
            .steps([models.Threshold(value=None, color="blue")])
        )
    )
    if unit == "s":
        panel = panel.decimals(1)
    if words is not None:
        panel = panel.mappings(
            [
                models.ValueMap(
                    options={
                        str(number): models.ValueMappingResult(text=word, color=colour, index=number)
                        for number, (word, colour) in words.items()
                    }
                )
            ]
        )
    return panel


def lines(
    title: str,
    text: str,
    *queries: Query,
    unit: str,
    width: int = 8,
    height: int = 8,
    bounds: Sequence[float] = (),
    stacked: bool = False,
    bars: bool = False,
    top: float | None = None,
    nothing: str = "no data",
) -> Panel:
    """Return lines over time; `bounds` are dashed lines, `top` is the least upper end of the axis."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .no_value(nothing)
        .span(width)
        .height(height)
        .line_width(1)
        .fill_opacity(60 if bars else 25 if stacked else 8)
        .show_points(kinds.VisibilityMode.NEVER if not bars else kinds.VisibilityMode.AUTO)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.TABLE)
            .placement(kinds.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
            .show_legend(True)
        )
        .tooltip(
            common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)
        )
    )
    for letter, asked in zip("ABCDEF", queries):
        panel = panel.with_target(asked.ref_id(letter))
    if bars:
        panel = panel.draw_style(kinds.GraphDrawStyle.BARS)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    if top is not None:
        panel = panel.axis_soft_max(top)
    if bounds:
        panel = panel.thresholds(steps(*bounds)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED)
        )
    return panel


def heat(title: str, text: str, expr: str, *, width: int = 12, height: int = 8) -> Panel:
    """Return a heat map of a histogram of seconds: how many, in which bucket, when."""
    asked = prometheus.Dataquery().expr(expr).legend_format("{{le}}").datasource(SOURCE).range().ref_id("A")
    return (
        heatmap.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit("short")
        .no_value("no data")
        .span(width)
        .height(height)
        .with_target(asked.format(PromQueryFormat.HEATMAP).exemplar(True))
        .calculate(False)
        .cell_gap(1)
        .y_axis(heatmap.YAxisConfig().unit("s").axis_placement(kinds.AxisPlacement.LEFT))
        .rows_frame(heatmap.RowsHeatmapOptions().layout(kinds.HeatmapCellLayout.AUTO))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heat_kinds.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(heat_kinds.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .tooltip(heatmap.HeatmapTooltip().mode(kinds.TooltipDisplayMode.SINGLE).y_histogram(True))
        .show_legend()
    )


def listing(
    title: str, text: str, expr: str, *, columns: Mapping[str, str], width: int, height: int, nothing: str
) -> Panel:
    """Return a table of now: the labels in `columns`, in that order, sorted by the first."""
    organize: dict[str, Any] = {
        "includeByName": dict.fromkeys(columns, True),
        "indexByName": {name: place for place, name in enumerate(columns)},
        "renameByName": dict(columns),
    }
    return (
        table.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit("short")
        .no_value(nothing)
        .span(width)
        .height(height)
        .with_target(instant(expr, as_table=True).ref_id("A"))
        .sort_by([common.TableSortByFieldState().display_name(next(iter(columns.values())))])
        .with_transformation(models.DataTransformerConfig(id_val="organize", options=organize))
    )
