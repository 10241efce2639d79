"""Every loop is watched from the moment it runs, whoever made it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import uvloop

from instrumented_sessions.events import LoopStalled
from instrumented_sessions.integrations.auto.instrumentation import Instrumentation
from instrumented_sessions.observer import AMBIENT

LIMIT_S = 60.0


class Stalled:
    """Blocks its loop until its line is named; on a full machine nobody may be blamed at first."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.reports: list[Any] = []
        AMBIENT.add(self)

    def on_event(self, event: Any) -> None:
        if isinstance(event, LoopStalled):
            self.reports.append(event.report)
            if event.report.culprit is not None:
                self.told.set()

    async def on_asyncio(self) -> None:
        await asyncio.sleep(0)
        assert self.told.wait(LIMIT_S)

    async def on_trio(self) -> None:
        await trio.lowlevel.checkpoint()
        assert self.told.wait(LIMIT_S)


def run_uvloop(stalled: Stalled) -> None:
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(stalled.on_asyncio())
    finally:
        loop.close()


RUNS: dict[str, Callable[[Stalled], Any]] = {
    "asyncio": lambda stalled: asyncio.run(stalled.on_asyncio()),
    "uvloop": run_uvloop,
    "trio": lambda stalled: trio.run(stalled.on_trio),
}


@pytest.mark.parametrize("kind", sorted(RUNS))
@pytest.mark.parametrize("where", ["main", "other"])
def test_stall_of_a_loop_that_nobody_watches_is_told(
    kind: str, where: str, instrumented: Instrumentation
) -> None:
    """A program that does nothing for it has its stalled loop reported while it is stalled."""
    stalled = Stalled()
    try:
        if where == "main":
            RUNS[kind](stalled)
        else:
            thread = threading.Thread(target=RUNS[kind], args=(stalled,))
            thread.start()
            thread.join(LIMIT_S)
    finally:
        AMBIENT.remove(stalled)
    assert stalled.reports[-1].loop == where
    assert stalled.reports[-1].culprit.function.startswith("on_")


def test_stall_that_lasts_is_explained(instrumented: Instrumentation) -> None:
    """Diagnostics name the loop and the line while it blocks, from another thread."""
    stalled, texts = Stalled(), []

    async def agent() -> None:
        await asyncio.sleep(0)
        assert stalled.told.wait(LIMIT_S)
        asked = threading.Thread(target=lambda: texts.append(instrumented.view.explain()))
        asked.start()
        asked.join(LIMIT_S)

    try:
        asyncio.run(agent())
    finally:
        AMBIENT.remove(stalled)
    assert texts[0].startswith("1 loop does not run")
    assert "at agent (" in texts[0]
