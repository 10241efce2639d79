"""The demo's agents are a program like any other."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from instrumented_sessions import manager
from instrumented_sessions.demo import load
from instrumented_sessions.demo.scene import LIVE_CONVERSATIONS, Conversations
from instrumented_sessions.stacks import is_own
from instrumented_sessions.watchdog.stacks import Origin, origin_of


def test_lines_of_the_demo_can_be_at_fault() -> None:
    """The demo comes with this library, yet reports name its lines as a program's."""
    assert not is_own(load.__file__)
    assert is_own(manager.__file__)
    assert origin_of(manager.__file__) is Origin.MACHINERY
    assert origin_of(load.__file__) is not Origin.MACHINERY


def test_conversations_come_and_go() -> None:
    """The oldest end, as many others begin, and names come back when all others had their turn."""
    conversations = Conversations()
    rng = random.Random(1)
    ended = [conversations.end_oldest(2) for _ in range(10)]
    assert all(first != second for first, second in ended)
    assert ended[0] == ended[5]
    live = {conversations.pick(rng) for _ in range(100)}
    assert len(live) == LIVE_CONVERSATIONS
    assert not live & {*ended[-1]}


@pytest.fixture
def idle_load() -> Iterator[load.Load]:
    """A load whose agents never come to ask: it is told to stop before it starts."""
    stop = threading.Event()
    stop.set()
    with manager.SessionManager() as sessions:
        yield load.Load(sessions, {}, seed=0, healthy=True, stop=stop)


def test_agents_that_end_as_told_met_nothing_unexpected(idle_load: load.Load) -> None:
    """A load that was told to stop ends, and has nothing to report."""
    idle_load.start()
    assert idle_load.join(10.0)
    assert idle_load.unexpected == []


def test_loop_that_dies_is_not_passed_over(idle_load: load.Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo whose loops are gone must not look like a demo that went well."""

    def dies(name: str) -> None:
        raise TypeError(f"the loop {name} dies")

    monkeypatch.setattr(load, "watch_loop", dies)
    idle_load.start()
    assert idle_load.join(10.0)
    assert sorted(str(error) for error in idle_load.unexpected) == [
        f"the loop {name} dies" for name in sorted(load.LOOPS)
    ]


def test_task_that_dies_is_not_passed_over(idle_load: load.Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for one task of a loop that goes on."""

    async def dies(self: load.Load) -> None:
        raise TypeError("the keeper dies")

    monkeypatch.setattr(load.Load, "_end_conversations", dies)
    idle_load.start()
    assert idle_load.join(10.0)
    assert [str(error) for error in idle_load.unexpected] == ["the keeper dies"]


@pytest.mark.parametrize(("stopped", "noted"), [(False, {("printer", "isError"): 1}), (True, {})])
def test_refusal_counts_until_the_demo_ends(
    stopped: bool, noted: dict[tuple[str, str], int], idle_load: load.Load
) -> None:
    """A refused call is an error while the demo runs; what its end interrupts is not."""
    if not stopped:
        idle_load._stop.clear()
    idle_load._note_refusal("printer", SimpleNamespace(is_error=True))
    assert idle_load.errors == noted
