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
import tempfile
from datetime import date
from pathlib import Path

from . import harness, processes, score, table

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
    print(f"\n{date.today().isoformat()}\n\n{table.side_by_side(figures)}\n")
    extras = {
        "twenty loops": processes.measure("many_loops", 20),
        "idle": processes.measure("idle_loops", 8),
        "soak": processes.measure("soak", 10_000 if options.full else 200),
    }
    print(table.targets(figures[harness.DETECTOR], extras))


if __name__ == "__main__":
    main()
