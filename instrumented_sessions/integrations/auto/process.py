"""What waits in this process now, and why: every manager's sessions, the others, and the loops."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
import threading
import time
from typing import Any

from ... import live
from ...chain import BlockingChain
from ...events import Event, LoopRecovered, LoopStalled, StallReport
from ...manager.explain import chain_lines
from ...manager.process import all_managers
from ...userlocks import waiting_chains
from . import hooks
from .ledger import Ledger

_STACK_LINES = 8


class Stalls:
    """An observer that keeps the stalls that last; any thread may call it."""

    only_contended = True

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget them; called in the child after a fork."""
        self._lock = threading.Lock()  # Protects the one below.
        self._reports: dict[int, StallReport] = {}

    def on_event(self, event: Event) -> None:
        """Note that a loop has stalled, or runs again."""
        if isinstance(event, LoopStalled):
            with self._lock:
                self._reports[event.report.stall_id] = event.report
        elif isinstance(event, LoopRecovered):
            with self._lock:
                self._reports.pop(event.report.stall_id, None)

    def now(self) -> list[StallReport]:
        """Return the stalls that last, the longest first, each with its duration until now."""
        with self._lock:
            reports = list(self._reports.values())
        at = time.time()
        lasting = [dataclasses.replace(report, duration_s=at - report.started_at) for report in reports]
        return sorted(lasting, key=lambda report: -report.duration_s)


class ProcessView:
    """Answers from any thread, also while every loop is stalled."""

    def __init__(self, ledger: Ledger, stalls: Stalls) -> None:
        self._ledger = ledger
        self._stalls = stalls

    def hangs(self, older_than_s: float = 0.0) -> list[BlockingChain]:
        """Return what waits now, the oldest first, and why."""
        found = [*self._ledger.hangs(), *waiting_chains()]
        for manager in all_managers():  # Each of them knows the users' own locks, which have no key.
            found += [chain for chain in manager.hangs() if chain.key is not None]
        return sorted(
            (chain for chain in found if chain.waited_s >= older_than_s), key=lambda chain: -chain.waited_s
        )

    def stalls(self) -> list[StallReport]:
        """Return the stalls of loops that last, the longest first."""
        return self._stalls.now()

    def explain(self) -> str:
        """Return what stalls and what waits now, and why, in plain sentences with stacks."""
        stalls, chains = self.stalls(), self.hangs()
        lines = [_verdict(stalls, chains)]
        for report in stalls:
            lines += ["", f"{_sentence(report)}."]
            lines += _stacks(report)
        for number, chain in enumerate(chains, 1):
            lines += ["", *chain_lines(number, chain)]
        return "\n".join(lines)

    def statistics(self) -> dict[str, Any]:
        """Return counts of this process, as plain data."""
        reading = live.read()
        managers = [manager.statistics() for manager in all_managers()]
        counters: dict[str, int] = {}
        for statistics in managers:
            for name, count in statistics.counters.items():
                counters[name] = counters.get(name, 0) + count
        return {
            "at": time.time(),
            "pid": os.getpid(),
            "program": " ".join(sys.argv[:1]) or sys.executable,
            "python": platform.python_version(),
            "managers": len(managers),
            "sessions": [
                {"transport": transport, "state": str(state), "count": count}
                for (transport, state), count in sorted(reading.sessions.items())
            ],
            "waiters": len(self.hangs()),
            "holders": sum(statistics.holders for statistics in managers),
            "counters": counters,
            "loops": [
                {"loop": loop, "heartbeat_age_s": age}
                for loop, age in sorted(reading.heartbeat_age_s.items())
            ],
            "dropped": dict(reading.dropped),
            "hook_failures": hooks.failures(),
        }


def all_stacks() -> str:
    """Return the stack of every thread, innermost call last; the calling thread comes last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.get_ident()
    frames = sys._current_frames()
    lines: list[str] = []
    for ident in sorted(frames, key=lambda ident: ident == own):
        lines.append(f"Thread {names.get(ident, 'unknown')!r} ({ident}):")
        lines += [f"  {line}" for line in _stack_of(frames[ident])]
    return "\n".join(lines)


def _stack_of(frame: Any) -> list[str]:
    lines: list[str] = []
    while frame is not None and len(lines) < 64:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        lines.append(f'File "{code.co_filename}", line {frame.f_lineno or 0}, in {name}')
        frame = frame.f_back
    return lines[::-1]


def _verdict(stalls: list[StallReport], chains: list[BlockingChain]) -> str:
    if not stalls and not chains:
        return "Nothing waits, and every loop runs."
    parts = []
    if stalls:
        loops = f"{len(stalls)} loops do not run" if len(stalls) > 1 else "1 loop does not run"
        parts.append(f"{loops}, the longest for {stalls[0].duration_s:.1f} s")
    if chains:
        count = f"{len(chains)} wait" if len(chains) > 1 else "1 waits"
        parts.append(f"{count}, the longest for {chains[0].waited_s:.1f} s")
    return "; ".join(parts) + "."


def _sentence(report: StallReport) -> str:
    text = f"Loop {report.loop!r} has not run for {report.duration_s:.1f} s, cause {report.cause}"
    if report.culprit is not None:
        text += f", at {report.culprit.short()}"
    return f"{text}, in task {report.task!r}" if report.task else text


def _stacks(report: StallReport) -> list[str]:
    if not report.stacks:
        return []
    frames = report.stacks[0].frames[-_STACK_LINES:]
    return ["   Stack of the loop, innermost last:", *(f"     {frame}" for frame in frames)]
