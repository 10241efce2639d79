"""What the benchmark consists of: parts that are kept, so that a run which was broken off can go on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import faults, processes
from .harness import DETECTOR, run


@dataclass(frozen=True)
class Part:
    """One part; `measure` takes the copy of the harness and returns rows or figures."""

    name: str
    measure: Callable[[Path], Any]
    needs_harness: bool = False


def short() -> list[Part]:
    """Return the parts of the short form: about four minutes."""
    return [
        *_side_by_side((), 1, idle_s=6),
        *_ours(1),
        *_own(soak=200, faults=5, longest_s=5, pairs=20),
    ]


def full(peers: Sequence[str], reps: int) -> list[Part]:
    """Return the parts of the full form, the most important first; the peers' come last."""
    return [
        *_own(soak=10_000, faults=50, longest_s=60, pairs=300),
        *_side_by_side((), 3, idle_s=15),
        *_ours(reps - 3),
        _harness("uvloop", [DETECTOR], ["stalls"], 3, uvloop=True),
        *(part for peer in peers for part in _side_by_side((peer,), 1, idle_s=6)),
    ]


def run_all(parts: Sequence[Part], kept: Path, copy: Path | None, budget_s: float) -> dict[str, Any]:
    """Run what is not in `kept` yet and return all results by name.

    Says on stderr where it is. What would begin after `budget_s` seconds is left out, and so is what needs
    the harness without a copy of it.
    """
    kept.mkdir(parents=True, exist_ok=True)
    start, results = time.monotonic(), {}
    for number, part in enumerate(parts, 1):
        file, where = kept / f"{part.name}.json", f"[{number}/{len(parts)}] {part.name}"
        if file.exists():
            print(f"{where}: kept", file=sys.stderr)
        elif part.needs_harness and copy is None:
            print(f"{where}: left out, there is no harness", file=sys.stderr)
            continue
        elif time.monotonic() - start > budget_s:
            print(f"{where}: left out, the time is over; run again to go on", file=sys.stderr)
            continue
        else:
            print(f"{where}: after {time.monotonic() - start:.0f} s", file=sys.stderr)
            file.write_text(json.dumps(part.measure(copy or Path())))
        results[part.name] = json.loads(file.read_text())
    return results


def _own(soak: int, faults: int, longest_s: float, pairs: int) -> list[Part]:
    return [
        _process("twenty loops", "many_loops", 20),
        _process("idle", "idle_loops", 8),
        _process("saturated", "saturated", pairs),
        _process("echo over http", "echo_over_http", pairs),
        _process("echo in memory", "echo_in_memory", pairs),
        _process("echo without deadline", "echo_without_deadline", pairs),
        _process("long", "long_stalls", longest_s),
        _process("soak", "soak", soak),
        *(_fault(fault, faults) for fault in ("stopped", "starved", "throttled")),
    ]


def _ours(reps: int) -> list[Part]:
    """Return runs of ours, a few in each part."""
    return [
        _harness(f"ours-{first}", [DETECTOR], ["stalls", "external"], min(4, reps - first))
        for first in range(0, reps, 4)
    ]


def _side_by_side(peers: Sequence[str], reps: int, idle_s: float) -> list[Part]:
    """Return runs of ours and of none, or of one peer: its costs, and what it tells."""
    who, name = (list(peers), peers[0]) if peers else ([DETECTOR, "none"], "ours")
    stalls = [DETECTOR] if not peers else who
    return [
        _harness(f"cost-{name}", who, ["cost"], reps, idle_s),
        _harness(f"stalls-{name}", stalls, ["stalls", "external", "controls"], reps),
    ]


def _harness(
    name: str,
    detectors: Sequence[str],
    workloads: Sequence[str],
    reps: int,
    idle_s: float = 15,
    uvloop: bool = False,
) -> Part:
    return Part(
        f"rows-{name}", lambda copy: run(copy, detectors, workloads, reps, idle_s, uvloop), needs_harness=True
    )


def _process(name: str, function: str, argument: float) -> Part:
    return Part(name, lambda _: processes.measure(function, argument))


def _fault(fault: str, count: int) -> Part:
    return Part(fault, lambda _: faults.measure(fault, count))
