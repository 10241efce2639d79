"""Writes grafana/generated/, or says what differs there.

python -m grafana.build            write
python -m grafana.build --check    change nothing; exit with 1 when a file is not what would be written
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from . import alerts, health, locks, loops, overview, sessions
from .frame import render

GENERATED = Path(__file__).parent / "generated"
PAGES = (overview.page, locks.page, sessions.page, loops.page, health.page)

_HEADER = "# Made by `make grafana`; do not edit. The rules are in grafana/alerts.py.\n"


def files(grafana: str, runbook: str) -> dict[Path, str]:
    """Return what belongs into the directory: path below it, and contents."""
    found = {}
    for make in PAGES:
        page = make()
        found[Path("dashboards") / f"{page.name}.json"] = render(page)
    rules = yaml.safe_dump(alerts.rule_file(grafana, runbook), sort_keys=False, width=110, allow_unicode=True)
    found[Path("rules.yml")] = _HEADER + rules
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m grafana.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    parser.add_argument("--output", type=Path, default=GENERATED, help="default: grafana/generated")
    parser.add_argument(
        "--grafana", default=alerts.GRAFANA_ADDRESS, help="address of Grafana, for links in alerts"
    )
    parser.add_argument(
        "--runbook", default=alerts.RUNBOOK_ADDRESS, help="address of the runbook, for links in alerts"
    )
    options = parser.parse_args(arguments)
    wanted = files(options.grafana, options.runbook)
    there = {path.relative_to(options.output) for path in options.output.glob("**/*.*") if path.is_file()}
    different = sorted(
        {
            path
            for path, text in wanted.items()
            if path not in there or (options.output / path).read_text("utf-8") != text
        }
        | (there - wanted.keys())
    )
    if options.check:
        for path in different:
            print(f"differs: {options.output / path}; run `make grafana`")
        return bool(different)
    for path in different:
        file = options.output / path
        if path in wanted:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(wanted[path], "utf-8")
        else:
            file.unlink()
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
