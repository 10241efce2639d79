"""Runs the stall harness with our watchdog beside others, and says which targets it meets.

    python -m benchmarks.stalls            about four minutes
    python -m benchmarks.stalls --full     the figures in docs/watchdog.md: seventy minutes, alone

The harness is outside of this repository: set STALL_BENCH to its directory (default ../shared/stall_bench).
Without it only our own parts are run. Other detectors are run where their packages are installed.
Progress goes to stderr. With --keep DIRECTORY a run that was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from .. import machine
from . import harness, parts, score, table

PAGE = Path(__file__).parent.parent.parent / "docs" / "watchdog.md"
MARK = "<!-- What follows is made by `python -m benchmarks.stalls --full`; do not edit. -->"

ALWAYS = ("ref_watchdog", "ref_sidecar", "fh_watchdog", "asyncio_debug")
NEEDS = {
    "aiodebug_slow": "aiodebug",
    "aiodebug_hang": "aiodebug",
    "aiodebug_lag": "aiodebug",
    "loopmon": "loopmon",
    "blockbuster": "blockbuster",
    "aiocop": "aiocop",
    "dask_tick:tuned": "distributed",
    "pyleak_block": "pyleak",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stalls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--full", action="store_true", help="20 repetitions, all detectors that are installed"
    )
    parser.add_argument("--reps", type=int, default=20, help="repetitions of our own runs in the full form")
    parser.add_argument("--peers", help="detectors to run beside ours, separated by commas")
    parser.add_argument("--minutes", type=float, default=90, help="begin nothing after that; default 90")
    parser.add_argument("--keep", type=Path, help="keep the parts here, and take those that are there")
    parser.add_argument("--write", action="store_true", help="write the figures of the short form, too")
    options = parser.parse_args()
    installed = [name for name, package in NEEDS.items() if importlib.util.find_spec(package)]
    peers = options.peers.split(",") if options.peers else [*ALWAYS, *installed]
    plan = parts.full(peers, options.reps) if options.full else parts.short()
    with tempfile.TemporaryDirectory() as directory:
        try:
            copy = harness.stage(Path(directory))
        except LookupError as error:
            print(error, file=sys.stderr)
            copy = None
        results = parts.run_all(plan, options.keep or Path(directory) / "parts", copy, options.minutes * 60)
    rows = [row for name, part in results.items() if name.startswith("rows-") for row in part]
    on_uvloop = [row for row in rows if row["uvloop"]]
    rows = [row for row in rows if not row["uvloop"]]
    detectors = [harness.DETECTOR, *dict.fromkeys(row["det"] for row in rows)]
    figures = {
        detector: score.summary(rows, detector) for detector in dict.fromkeys(detectors) if detector != "none"
    }
    if on_uvloop:
        figures[f"{harness.DETECTOR}, uvloop"] = score.summary(on_uvloop, harness.DETECTOR)
    extras = {"step": score.step(rows, harness.DETECTOR)}
    extras |= {name: part for name, part in results.items() if not name.startswith("rows-")}
    targets = table.targets(figures[harness.DETECTOR], extras)
    beside = table.side_by_side(figures) if rows else "The harness was not there."
    text = (
        f"Measured {machine.describe()}, load {os.getloadavg()[2]:.1f} at the end.\n\n{targets}\n\n{beside}\n"
    )
    print(f"\n{text}")
    if options.full or options.write:
        write(text)


def write(text: str) -> None:
    """Replace the figures in the documentation."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, _ = page.partition(MARK)
    PAGE.write_text(f"{before}{MARK}\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
