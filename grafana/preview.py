"""Draws every dashboard from a real Prometheus' answers, one picture each: Grafana itself cannot run here.

    python -m grafana.preview                     start Prometheus, the demo and a sick agent, then draw
    python -m grafana.preview --prometheus URL    draw from a Prometheus that runs
    python -m grafana.preview --output DIRECTORY  default: docs/images

The pictures show layout, data and colours, not Grafana's own looks.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import matplotlib as mpl
from PIL import Image

mpl.use("agg")
from matplotlib.figure import Figure  # The backend is chosen first.

from . import drawing
from .build import GENERATED

IMAGES = Path(__file__).parent.parent / "docs" / "images"
SHOWN_S = 120
"""How much time a picture shows, in seconds."""

STEP_S = 2
WINDOW = "20s"
_INCIDENTS = ("fail", "flood", "deadlock", "hang", "queue", "stall 4")
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Answers:
    """Asks a Prometheus what Grafana would ask it.

    Args:
        address: Of Prometheus.
        end: The right end of the time range, in Unix seconds.
    """

    def __init__(self, address: str, end: float) -> None:
        self._address = address
        self.start, self.end = end - SHOWN_S, end

    def of(self, target: dict[str, Any]) -> list[drawing.Series]:
        """Return the series of one query, named by its legend."""
        asked: dict[str, Any] = {"query": self._filled(target["expr"])}
        if target.get("instant"):
            kind, asked["time"] = "query", self.end
        else:
            kind = "query_range"
            asked |= {"start": self.start, "end": self.end, "step": STEP_S}
        with _OPENER.open(
            f"{self._address}/api/v1/{kind}?{urllib.parse.urlencode(asked)}", timeout=30
        ) as answer:
            result = json.load(answer)["data"]["result"]
        found = []
        for one in result:
            values = one.get("values") or [one["value"]]
            points = [(float(at), float(value)) for at, value in values if value != "NaN"]
            if points:
                found.append(drawing.Series(_name(target, one["metric"]), one["metric"], points))
        return sorted(found, key=lambda series: series.name)

    def _filled(self, expr: str) -> str:
        values = {
            "$__rate_interval": WINDOW,
            "$__interval": WINDOW,
            "$__range": f"{SHOWN_S}s",
            "$job": ".*",
            "$instance": ".*",
            "$transport": ".*",
        }
        for name, value in values.items():
            expr = expr.replace(name, value)
        return expr


def _name(target: dict[str, Any], labels: dict[str, str]) -> str:
    legend = str(target.get("legendFormat", ""))
    if legend in ("", "__auto"):
        return " ".join(labels.values())
    for label, value in labels.items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    while "{{" in legend:
        legend = legend[: legend.index("{{")] + legend[legend.index("}}") + 2 :]
    return legend.strip()


def draw(board: dict[str, Any], answers: Answers, file: Path) -> None:
    """Draw one dashboard into `file`."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = Figure(figsize=(14, (height + 2) * 0.32), facecolor=drawing.PAGE)
    drawing.header(figure, board["title"], board["description"], height)
    for panel in board["panels"]:
        place = drawing.place(panel["gridPos"], height)
        if panel["type"] == "row":
            drawing.row(figure, place, panel["title"])
            continue
        series = [one for target in panel["targets"] for one in answers.of(target)]
        drawing.panel(figure, place, panel, series, (answers.start, answers.end))
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=90, facecolor=drawing.PAGE)
    # A palette makes it a third as large, and nobody sees a difference.
    Image.open(picture).convert("RGB").quantize(240, dither=Image.Dither.NONE).save(file, optimize=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m grafana.preview", description=__doc__)
    parser.add_argument("--prometheus", metavar="URL", help="draw from this one, and start nothing")
    parser.add_argument("--output", type=Path, default=IMAGES)
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        address = options.prometheus or _scene(stack)
        answers = Answers(address, time.time())
        for path in sorted((GENERATED / "dashboards").glob("*.json")):
            file = options.output / f"grafana-{path.stem}.png"
            draw(json.loads(path.read_text("utf-8")), answers, file)
            print(file)
    return 0


def _scene(stack: ExitStack) -> str:
    """Start what there is to see, and return Prometheus' address when there has been enough of it."""
    from tests.grafana.engines.programs import Agent, Demo, Prometheus

    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sessions-preview-")))
    prometheus = stack.enter_context(Prometheus(directory, GENERATED / "rules.yml"))
    prometheus.wait_until_ready()
    agent = stack.enter_context(Agent(directory))
    prometheus.scrape("refund-agent", agent.metrics_url())
    demo = stack.enter_context(Demo(directory, "--duration", "600"))
    prometheus.scrape("sessions-demo", demo.metrics_url())
    time.sleep(SHOWN_S * 0.8)
    for order in _INCIDENTS:
        agent.do(*order.split())
    time.sleep(SHOWN_S * 0.12)
    return prometheus.address


if __name__ == "__main__":
    sys.exit(main())
