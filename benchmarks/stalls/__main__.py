"""Runs the stall harness with our watchdog beside others, and says which targets it meets.

    python -m benchmarks.stalls            a few minutes
    python -m benchmarks.stalls --full     the figures in docs/watchdog.md, hours

The harness is outside of this repository: set STALL_BENCH to its directory (default ../shared/stall_bench).
The detectors that need packages are run when these are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
from pathlib import Path

from .. import machine
from . import harness, processes, score, table

PAGE = Path(__file__).parent.parent.parent / "docs" / "watchdog.md"
MARK = "<!-- What follows is made by `python -m benchmarks.stalls --full`; do not edit. -->"

ALWAYS = ("none", "ref_watchdog", "fh_watchdog", "asyncio_debug")
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
    parser.add_argument("--reps", type=int, help="repetitions of our own runs")
    parser.add_argument("--peers", help="detectors to run beside ours, separated by commas")
    parser.add_argument("--write", action="store_true", help="write the figures of the short form, too")
    parser.add_argument("--rows", type=Path, help="keep the runs in this file, as JSON lines")
    options = parser.parse_args()
    ours_reps = options.reps or (20 if options.full else 2)
    peers = options.peers.split(",") if options.peers else list(ALWAYS[: None if options.full else 2])
    if options.full and not options.peers:
        peers += [name for name, package in NEEDS.items() if importlib.util.find_spec(package)]
    detectors = list(dict.fromkeys([harness.DETECTOR, "none", *peers]))
    with tempfile.TemporaryDirectory() as directory:
        copy = harness.stage(Path(directory))
        rows = harness.run(copy, detectors, ["cost"], 3 if options.full else 1, 15 if options.full else 6)
        rows += harness.run(copy, detectors, ["stalls", "external", "controls"], 5 if options.full else 1, 15)
        if ours_reps > (done := 5 if options.full else 1):
            rows += harness.run(copy, [harness.DETECTOR], ["stalls", "external"], ours_reps - done, 15)
    if options.rows:
        options.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    figures = {detector: score.summary(rows, detector) for detector in detectors if detector != "none"}
    extras = {
        "twenty loops": processes.measure("many_loops", 20),
        "idle": processes.measure("idle_loops", 8),
        "soak": processes.measure("soak", 10_000 if options.full else 200),
    }
    text = (
        f"Measured {machine.describe()}; {ours_reps} repetitions of ours,"
        f" load {os.getloadavg()[2]:.1f} at the end.\n\n"
        f"{table.targets(figures[harness.DETECTOR], extras)}\n\n{table.side_by_side(figures)}\n"
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
