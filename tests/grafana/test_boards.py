"""The committed dashboards keep the rules that Grafana's own linter has, and those of this project."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from instrumented_sessions.telemetry import catalog
from tests.grafana import boards

BOARDS = boards.boards()
FROM_PROMETHEUS = {"up", "scrape_duration_seconds", "ALERTS"}
"""Series that Prometheus makes itself."""

NAMES: dict[str, catalog.Metric] = {}
for metric in catalog.METRICS:
    for suffix in ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",):
        NAMES[metric.prometheus_name + suffix] = metric

every_board = pytest.mark.parametrize("name", BOARDS)


def expressions(board: dict[str, Any]) -> list[str]:
    """Every PromQL expression of a dashboard."""
    asked = [target["expr"] for panel in boards.panels(board) for target in panel["targets"]]
    return asked + [annotation["expr"] for annotation in board["annotations"]["list"]]


def selectors(expr: str) -> list[str]:
    """The names of the series that an expression selects."""
    return re.findall(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?=\{)", expr)


def test_there_are_five_with_ids_of_their_own() -> None:
    """Every dashboard has another uid and title, and their names are those that links use."""
    assert set(BOARDS) == {"overview", "contention", "sessions", "loops", "telemetry"}
    assert {board["uid"] for board in BOARDS.values()} == {f"instrumented-sessions-{name}" for name in BOARDS}
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)


@every_board
def test_board_is_provisioned_as_it_is(name: str) -> None:
    """Classic JSON that nobody edits in Grafana, without what only an import by hand would fill in."""
    board = BOARDS[name]
    assert board["schemaVersion"] >= 41
    assert board["editable"] is False
    assert "__inputs" not in board
    assert "${DS_" not in json.dumps(board)
    assert board.get("id") is None
    assert board["description"].endswith("?")


@every_board
def test_panels_say_what_they_show(name: str) -> None:
    """Every panel has a title, a description, a unit, and words for having no value."""
    panels = list(boards.panels(BOARDS[name]))
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles), "two panels have one title"
    for panel in panels:
        assert panel["title"]
        assert len(panel["description"]) > 10, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"], panel["title"]


@every_board
def test_panels_ask_the_chosen_source(name: str) -> None:
    """Every panel, query and annotation uses the data source that was chosen."""
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in boards.panels(BOARDS[name]):
        assert panel["datasource"] == chosen, panel["title"]
        assert panel["targets"], panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
        for target in panel["targets"]:
            assert target["datasource"] == chosen, panel["title"]
    for annotation in BOARDS[name]["annotations"]["list"]:
        assert annotation["datasource"] == chosen


@every_board
def test_grid_has_no_overlap(name: str) -> None:
    """All panels lie within 24 columns, none over another, and each has its own id."""
    panels = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, panel["title"]
        across = range(place["x"], place["x"] + place["w"])
        for cell in itertools.product(across, range(place["y"], place["y"] + place["h"])):
            assert cell not in taken, f"{panel['title']} lies over {taken[cell]}"
            taken[cell] = panel["title"]


@every_board
def test_variables_are_there_and_used(name: str) -> None:
    """Data source, job, instance and transport can be chosen; every variable in use is defined."""
    board = BOARDS[name]
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance", "transport", "live"]
    for several in ("job", "instance", "transport"):
        assert variables[several]["multi"]
        assert variables[several]["includeAll"]
        assert variables[several]["allValue"] == ".*"
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board))) - {"labels", "value"}
    assert {word for word in used if not word.startswith("__")} <= set(variables)


@every_board
def test_queries_name_what_the_catalog_has(name: str) -> None:
    """Every series in a query is the catalog's, and so is every label that it is grouped or matched by."""
    for expr in expressions(BOARDS[name]):
        named = set(selectors(expr)) - FROM_PROMETHEUS
        assert named <= set(NAMES), expr
        if "__name__" in expr or not named:
            continue
        labels = {label for one in named for label in NAMES[one].prometheus_labels}
        labels |= {"job", "instance", "le"}
        grouped = {
            word.strip() for group in re.findall(r"\bby \(([^)]*)\)", expr) for word in group.split(",")
        }
        assert grouped <= labels, expr
        assert set(re.findall(r"(\w+)(?==|!=|=~|!~)", re.sub(r'"[^"]*"', '""', expr))) <= labels, expr


@every_board
def test_counters_are_asked_for_their_growth(name: str) -> None:
    """A counter or a histogram is only read through a function of its growth, in Grafana's own window."""
    for expr in expressions(BOARDS[name]):
        for one in selectors(expr):
            if one in NAMES and NAMES[one].kind != "gauge":
                for found in re.finditer(rf"(\w+)\({one}{{[^}}]*}}(\[[^\]]+\])?", expr):
                    assert found[1] in ("rate", "increase", "last_over_time", "resets"), expr
                    assert found[2], expr
        for window in re.findall(r"\brate\([^{]*\{[^}]*\}\[([^\]]+)\]", expr):
            assert window in ("$__rate_interval", "$__range"), expr


def test_every_metric_is_on_some_panel() -> None:
    """What is measured can be seen."""
    shown = {one for board in BOARDS.values() for expr in expressions(board) for one in selectors(expr)}
    assert {NAMES[one].name for one in shown & set(NAMES)} == {metric.name for metric in catalog.METRICS}


@every_board
def test_links_lead_on(name: str) -> None:
    """To the other dashboards with time and variables, and to the live one with the time."""
    siblings, live = BOARDS[name]["links"]
    assert siblings["tags"] == ["instrumented-sessions"]
    assert siblings["keepTime"]
    assert siblings["includeVars"]
    assert "${live}" in live["url"]
    assert "${__from}" in live["url"]
    assert BOARDS[name]["tags"] == ["instrumented-sessions"]


@pytest.mark.parametrize(
    ("board", "panel"),
    [
        ("contention", "Wait, p50"),
        ("contention", "Wait, p95"),
        ("contention", "Wait, p99"),
        ("loops", "Lag, p99"),
    ],
)
def test_quantiles_show_exemplars(board: str, panel: str) -> None:
    """From a point on a quantile there is a way to a trace."""
    (found,) = (one for one in boards.panels(BOARDS[board]) if one["title"] == panel)
    assert all(target["exemplar"] for target in found["targets"])


def test_overview_begins_with_the_verdict() -> None:
    """The first thing on the first screen is a sentence, in the colour of what it means."""
    row, verdict = BOARDS["overview"]["panels"][:2]
    assert row["title"] == "Is it hung now?"
    assert (verdict["gridPos"]["x"], verdict["title"]) == (0, "Verdict")
    (words,) = verdict["fieldConfig"]["defaults"]["mappings"]
    assert words["options"]["0"]["color"] == "green"
    assert all(words["options"][str(number)]["color"] in ("red", "orange") for number in range(1, 8))


def test_runbook_has_an_entry_for_every_alert() -> None:
    """Each alert's link leads to an entry that says what it means, why, what to run and what to change."""
    folder = Path(boards.GENERATED)
    anchors = re.findall(r"runbook_url: \S+#(\w+)", (folder / "rules.yml").read_text(encoding="utf-8"))
    runbook = (folder.parent / "runbook.md").read_text(encoding="utf-8")
    entries = re.split(r"^## ", runbook, flags=re.MULTILINE)[1:]
    titles = {entry.splitlines()[0].strip().lower(): entry for entry in entries}
    assert set(anchors) <= set(titles)
    for anchor in anchors:
        for part in ("Meaning", "Likely causes", "Run", "Change"):
            assert f"**{part}.**" in titles[anchor], f"{anchor} has no part {part}"
