"""Observers are told in order, and a bad one harms nobody."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from instrumented_sessions import Queued, SessionManager
from instrumented_sessions.events import Event, OpeningStarted
from instrumented_sessions.observer import Announcer
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport

EVENT = Event(at=1.0)


class Failing:
    """Raises at its first event."""

    def __init__(self) -> None:
        self.told = 0

    def on_event(self, event: Event) -> None:
        self.told += 1
        raise LookupError("mine")


@pytest.mark.scenario("O2")
def test_observer_that_raises_is_logged_once_and_removed(caplog: pytest.LogCaptureFixture) -> None:
    """The others go on, and the program never notices."""
    failing, recorder = Failing(), Recorder()
    announcer = Announcer([failing, recorder])
    with caplog.at_level(logging.ERROR, "instrumented_sessions"):
        for _ in range(3):
            announcer.announce(EVENT)
    assert failing.told == 1
    assert len(recorder.of(Event)) == 3
    assert len(caplog.records) == 1
    assert announcer.observers == (recorder,)


def test_what_is_no_observer_is_refused() -> None:
    """Adding something without `on_event` raises at once, not at the first event."""
    with pytest.raises(TypeError, match="on_event"):
        Announcer([object()])  # type: ignore[list-item]
    manager = SessionManager()
    with pytest.raises(TypeError, match="on_event"):
        manager.add_observer("me")  # type: ignore[arg-type]
    manager.close()


@pytest.mark.scenario("O2")
async def test_failing_observer_does_not_reach_sessions(manager_with: Any) -> None:
    """A manager whose observer raises opens and calls as ever."""
    failing = Failing()
    manager = manager_with(failing)
    session = await manager.asession(FakeTransport())
    assert (await session.acall_tool("echo", {"text": "x"})).content[0].text == "x"
    assert failing.told == 1


class Scoped:
    """Notes when its scopes are entered and left, and raises where it is told to."""

    def __init__(self, fail: str = "") -> None:
        self.fail = fail
        self.story: list[str] = []

    def on_event(self, event: Event) -> None:
        pass

    @contextmanager
    def scope(self, event: Event) -> Iterator[None]:
        self.story.append("in")
        if self.fail == "enter":
            raise LookupError("mine")
        yield
        self.story.append("out")
        if self.fail == "exit":
            raise LookupError("mine")


@pytest.mark.parametrize("fail", ["enter", "exit"])
def test_scope_that_raises_lets_the_work_pass(fail: str, caplog: pytest.LogCaptureFixture) -> None:
    """The work runs inside the other scopes, and its own error is not swallowed."""
    bad, good = Scoped(fail), Scoped()
    announcer = Announcer([bad, good])
    with pytest.raises(ZeroDivisionError), announcer.scope(EVENT):
        raise ZeroDivisionError
    with announcer.scope(EVENT):
        pass
    assert good.story == ["in", "out"] * 2
    assert bad not in announcer.observers
    assert len(caplog.records) == 1


async def test_scopes_surround_an_opening_in_its_task(manager_with: Any) -> None:
    """What an observer opens around a connect is open while the transport connects."""
    seen: list[bool] = []
    scoped = Scoped()

    class Watching(FakeTransport):
        def connect(self) -> Any:
            seen.append(scoped.story == ["in"])
            return super().connect()

    manager = manager_with(scoped)
    await manager.asession(Watching())
    assert seen == [True]
    assert scoped.story == ["in", "out"]


def test_queued_observer_never_holds_up_the_program() -> None:
    """A slow observer gets a bounded queue; what does not fit is dropped and counted."""
    entered, go_on = threading.Event(), threading.Event()

    class Slow:
        def __init__(self) -> None:
            self.told: list[Event] = []

        def on_event(self, event: Event) -> None:
            entered.set()
            go_on.wait(10)
            self.told.append(event)

    slow = Slow()
    queued = Queued(slow, capacity=2)
    queued.on_event(EVENT)
    entered.wait(10)
    for _ in range(5):
        queued.on_event(EVENT)
    assert queued.dropped == 3
    go_on.set()
    queued.close()
    assert len(slow.told) == 3
    queued.on_event(EVENT)
    assert len(slow.told) == 3


def test_observers_may_ask_the_manager(manager_with: Any) -> None:
    """Events are told under no internal lock: an observer on any thread may read statistics."""
    answers: list[Any] = []

    class Asking:
        def on_event(self, event: Event) -> None:
            if isinstance(event, OpeningStarted):
                thread = threading.Thread(
                    target=lambda: answers.extend([manager.statistics(), manager.hangs(), manager.explain()])
                )
                thread.start()
                thread.join(10)

    manager = manager_with(Asking())
    manager.session(FakeTransport())
    assert len(answers) == 3


@pytest.fixture
def manager_with() -> Iterator[Any]:
    made: list[SessionManager] = []

    def make(*observers: Any) -> SessionManager:
        made.append(SessionManager(observers=observers))
        return made[-1]

    yield make
    for manager in made:
        manager.close()
