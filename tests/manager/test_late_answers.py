"""A limit that passes while the answer is on its way: the answer is given, or an error, never nothing."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from instrumented_sessions import Session, SessionManager, SessionState, SessionTimeoutError
from instrumented_sessions.events import (
    CallEnded,
    Event,
    OpeningEnded,
    SessionAcquired,
    SessionStateChanged,
)
from instrumented_sessions.manager import manager as doors
from instrumented_sessions.parking import AsyncioParker, ThreadParker
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.vocabulary import Outcome

from .test_doors import until
from .wires import LIMIT_S, Door, text

pytestmark = pytest.mark.blocks_the_loop("the portal is held between the answer and its giving")


class SlowObserver:
    """Holds the portal at one event: the answer is decided by then, and not given yet."""

    def __init__(self, holds_at: Callable[[Event], bool]) -> None:
        self.told = threading.Event()
        self.go_on = threading.Event()
        self.acquired: list[SessionAcquired] = []
        self._holds_at = holds_at

    def on_event(self, event: Event) -> None:
        if isinstance(event, SessionAcquired):
            self.acquired.append(event)
        if self._holds_at(event):
            self.told.set()
            assert self.go_on.wait(LIMIT_S)


def let_limits_pass_when_told(monkeypatch: pytest.MonkeyPatch, observer: SlowObserver, caller: Door) -> None:
    """Let the caller's first wait end without an answer as soon as the observer holds the portal."""
    apark, park = AsyncioParker.apark, ThreadParker.park
    first: list[Any] = []

    def is_first(parker: Any) -> bool:
        return not first and not first.append(parker)  # type: ignore[func-returns-value]

    async def apark_until_told(parker: AsyncioParker, timeout_s: float) -> bool:
        if not caller.blocking and is_first(parker):
            await until(observer.told.is_set)
            timeout_s = 0.0
        return await apark(parker, timeout_s)

    def park_until_told(parker: ThreadParker, timeout_s: float) -> bool:
        if caller.blocking and is_first(parker):
            assert observer.told.wait(LIMIT_S)
            timeout_s = 0.0
        return park(parker, timeout_s)

    monkeypatch.setattr(AsyncioParker, "apark", apark_until_told)
    monkeypatch.setattr(ThreadParker, "park", park_until_told)


Ask = Callable[[SessionManager, Door, Session], Awaitable[Any]]


async def request(manager: SessionManager, door: Door, session: Session) -> None:
    found = await door.session(manager, FakeTransport("other"))
    assert found.state is SessionState.READY


async def call(manager: SessionManager, door: Door, session: Session) -> None:
    assert text(await door.call_tool(session, "echo", {"text": "x"})) == "x"


async def close(manager: SessionManager, door: Door, session: Session) -> None:
    await door.close_session(manager, session._transport)
    assert session.state is SessionState.CLOSED


def is_closed(event: Event) -> bool:
    return isinstance(event, SessionStateChanged) and event.new is SessionState.CLOSED


every_wait = pytest.mark.parametrize(
    ("ask", "holds_at"),
    [
        pytest.param(request, lambda event: isinstance(event, OpeningEnded), id="request"),
        pytest.param(call, lambda event: isinstance(event, CallEnded), id="call"),
        pytest.param(close, is_closed, id="close"),
    ],
)


@every_wait
async def test_answer_that_is_on_its_way_at_the_limit_is_given(
    ask: Ask, holds_at: Any, manager: SessionManager, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await manager.asession(FakeTransport())
    observer = SlowObserver(holds_at)
    manager.add_observer(observer)
    let_limits_pass_when_told(monkeypatch, observer, door)
    time_out, refused = manager._shell.time_out, []

    def note_and_go_on(ticket: Any) -> bool:
        refused.append(not time_out(ticket))
        observer.go_on.set()
        return not refused[-1]

    monkeypatch.setattr(manager._shell, "time_out", note_and_go_on)
    await ask(manager, door, session)
    assert refused == [True]


@every_wait
async def test_answer_that_is_kept_longer_is_a_timeout(
    ask: Ask, holds_at: Any, manager: SessionManager, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an observer that does not return, for one."""
    session = await manager.asession(FakeTransport())
    observer = SlowObserver(holds_at)
    manager.add_observer(observer)
    let_limits_pass_when_told(monkeypatch, observer, door)
    monkeypatch.setattr(doors, "_ANSWER_GRACE_S", 0.0)
    try:
        with pytest.raises(SessionTimeoutError, match="no result within") as caught:
            await ask(manager, door, session)
    finally:
        observer.go_on.set()
    assert caught.value.limit_s is not None
    assert caught.value.chain is not None
    told = [(event.outcome, event.phase, event.error) for event in observer.acquired]
    assert told == ([(Outcome.TIMEOUT, caught.value.phase, caught.value)] if ask is request else [])
