"""The committed dashboards, and their queries as Grafana would send them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GENERATED = Path(__file__).parents[2] / "grafana" / "generated"


@dataclass(frozen=True)
class Query:
    """One query of one panel."""

    board: str
    panel: str
    expr: str
    is_instant: bool
    legend: str

    def __str__(self) -> str:
        return f"{self.board}: {self.panel}: {self.legend}"

    def filled(self, *, window: str = "20s", range: str = "5m", job: str = ".*") -> str:
        """Return the expression with Grafana's variables replaced."""
        values = {
            "$__rate_interval": window,
            "$__interval": window,
            "$__range": range,
            "$job": job,
            "$instance": ".*",
            "$transport": ".*",
        }
        text = self.expr
        for name, value in values.items():
            text = text.replace(name, value)
        return text


def boards() -> dict[str, dict[str, Any]]:
    """Return every dashboard, by the name of its file."""
    paths = sorted((GENERATED / "dashboards").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels of a dashboard, rows left out."""
    yield from (panel for panel in board["panels"] if panel["type"] != "row")


def queries() -> list[Query]:
    """Return every query of every panel, the annotations' included."""
    found = []
    for name, board in boards().items():
        for panel in panels(board):
            for target in panel["targets"]:
                legend = target.get("legendFormat", "")
                instant = bool(target.get("instant"))
                found.append(Query(name, panel["title"], target["expr"], instant, legend))
        found += [
            Query(name, "annotation", annotation["expr"], False, annotation["name"])
            for annotation in board["annotations"]["list"]
        ]
    return found
