"""Whether the portal's loop stands still now, so that the waits which it delays can say so."""

from __future__ import annotations

import threading

from ..chain import ChainLink, Party
from ..clock import Clock
from ..events import Event, LoopRecovered, LoopStalled, StallReport
from ..stacks import thread_stack


class PortalStall:
    """Remembers the watchdog's last word on one portal; told on the watchdog's thread, read from any."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._thread_id = 0
        self._report: StallReport | None = None

    def follow(self, thread_id: int) -> None:
        """Watch the portal of this thread from now on."""
        self._thread_id = thread_id
        self._report = None

    def on_event(self, event: Event) -> None:
        """Take note of a stall of the portal's loop, or of its end."""
        if isinstance(event, (LoopStalled, LoopRecovered)) and event.report.thread_id == self._thread_id:
            self._report = event.report if isinstance(event, LoopStalled) else None

    def link(self) -> ChainLink | None:
        """Return the stall as the last link of a chain; None when the loop runs."""
        report = self._report
        if report is None or threading.get_ident() == self._thread_id:
            return None
        task = f" in task {report.task!r}" if report.task else ""
        at = f" at {report.culprit.short()}" if report.culprit else ""
        return ChainLink(
            waits_for="the portal's loop, which stands still",
            holder=Party(name="the portal's thread", thread_id=report.thread_id),
            held_s=max(0.0, self._clock.time() - report.started_at),
            doing=f"has not come back to its loop: {report.cause}{at}{task}",
            stack=thread_stack(report.thread_id),
        )
