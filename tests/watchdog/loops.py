"""The kinds of loops that can be watched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from instrumented_sessions.watchdog.pulse import Pulse

RUNNERS = ["asyncio", "uvloop", "trio"]


def run_on(runner: str, main: Callable[[], Any]) -> None:
    """Run a coroutine function on a loop of this kind, in this thread."""
    if runner == "trio":
        import trio

        trio.run(main)
    elif runner == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()
    else:
        asyncio.run(main())


class HandPulse(Pulse):
    """Beats when a test says so."""

    asked = 0
    runs = True
    delay_s: float | None = None
    """In how many seconds the next heartbeat is to follow, as of the last one."""

    def _ask(self) -> None:
        self.asked += 1

    def _repeat(self, delay_s: float) -> None:
        self.delay_s = delay_s

    def _has_ended(self) -> bool:
        return False

    def _is_running(self) -> bool:
        return self.runs

    def _task_name(self) -> str | None:
        return None
