"""Runs the stall harness, which lives outside of this repository, with our adapter among its detectors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
DETECTOR = "instrumented_sessions_watchdog"

Row = dict[str, Any]
"""One run of the harness: detector, workload, events."""


def location() -> Path:
    """Return where the harness is: `$STALL_BENCH`, default `../shared/stall_bench`.

    Raises:
        LookupError: It is not there.
    """
    path = Path(os.environ.get("STALL_BENCH") or ROOT.parent / "shared" / "stall_bench")
    if not (path / "run.py").exists():
        raise LookupError(f"no stall harness at {path}; set STALL_BENCH to its directory")
    return path


def stage(into: Path) -> Path:
    """Copy the harness to `into` and add our adapter; returns the copy."""
    copy = into / "stall_bench"
    shutil.copytree(location(), copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "detectors").chmod(0o755)
    shutil.copy(Path(__file__).with_name("adapter.py"), copy / "detectors" / f"{DETECTOR}.py")
    return copy


def run(
    copy: Path,
    detectors: Iterable[str],
    workloads: Iterable[str],
    reps: int,
    idle_s: float,
    uvloop: bool = False,
) -> list[Row]:
    """Run detectors and workloads side by side, each `reps` times; writes a line for each run to stderr."""
    results = copy / "results.jsonl"
    results.unlink(missing_ok=True)
    command = [
        sys.executable,
        "run.py",
        "--detectors",
        ",".join(detectors),
        "--workloads",
        ",".join(workloads),
    ]
    command += ["--reps", str(reps), "--idle", str(idle_s), "--out", str(results)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # Its lines are progress: the standard output is for the figures.
    subprocess.run(
        [*command, *(["--uvloop"] if uvloop else [])],
        cwd=copy,
        env=environment,
        check=True,
        stdout=sys.stderr,
    )
    return [json.loads(line) for line in results.read_text().splitlines()]
