"""The harness's adapter for this library's watchdog; copied among the harness's detectors by `harness`.

It reports at the instant an observer is told, with what a person would read: the report in words, then the
stacks.
"""

from __future__ import annotations

from typing import Any

from detectors import Base

from instrumented_sessions.events import LoopStalled
from instrumented_sessions.watchdog import LoopWatchdog

THRESHOLD_S = 0.1


class Detector(Base):
    def install(self) -> None:
        self.watchdog = LoopWatchdog(observers=[self], stall_threshold_s=THRESHOLD_S)

    async def start(self) -> None:
        self.watchdog.watch()

    def on_event(self, event: Any) -> None:
        if not isinstance(event, LoopStalled):
            return
        report = event.report
        lines = [f"loop {report.loop} stalled for {report.duration_s * 1000:.0f} ms: {report.cause}"]
        if report.culprit is not None:
            lines.append(f"culprit {report.culprit}, task {report.task}")
        lines += [f"{name} {value:.3f}" for name, value in report.evidence]
        for stack in report.stacks:
            lines.append(
                f"{stack.count} times: " + " < ".join(str(frame) for frame in reversed(stack.frames))
            )
        culprit = report.culprit.function if report.culprit is not None else ""
        self.rec.report("\n".join(lines), cls=str(report.cause), culprit=culprit)
