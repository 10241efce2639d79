"""What is asked at the moment a manager closes: answered at once, though its portal hears no more."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from instrumented_sessions import PortalClosedError, SessionClosedError, SessionManager, Settings, portal
from instrumented_sessions.events import CallEnded, CallStarted, SessionAcquired, SessionRequested
from instrumented_sessions.portal import Portal
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport

from .wires import LIMIT_S

FOREVER_S = 100 * LIMIT_S


class Straggler:
    """Somebody whose post comes when the portal's loop runs no more: before it is closed, or after.

    Args:
        late: Whether the loop is closed by then.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, late: bool) -> None:
        self.about_to_post = threading.Event()
        self._go = threading.Event()
        self._posted = threading.Event()
        self._late = late
        self._finish, self._post = portal._finish, Portal.post
        self._me: int | None = None
        monkeypatch.setattr(portal, "_finish", self._hold_the_end)
        monkeypatch.setattr(Portal, "post", self._hold_the_post(Portal.post))

    def is_me(self) -> None:
        """Hold the next post of the calling thread."""
        self._me = threading.get_ident()

    def _hold_the_end(self, loop: Any) -> None:
        if self._late:
            self._finish(loop)
        self._go.set()
        assert self._posted.wait(LIMIT_S)
        if not self._late:
            loop.close()

    def _hold_the_post(self, post: Any) -> Any:
        def held(portal: Portal, function: Any, *args: Any) -> None:
            if threading.get_ident() != self._me:
                return post(portal, function, *args)  # type: ignore[no-any-return]
            self._me = None
            self.about_to_post.set()
            assert self._go.wait(LIMIT_S)
            try:
                post(portal, function, *args)
            finally:
                self._posted.set()
            return None

        return held


@pytest.mark.scenario("S24")
@pytest.mark.parametrize("late", [False, True])
def test_request_that_comes_too_late_is_refused_at_once(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for its limit, and its end is said."""
    recorder = Recorder()
    manager = SessionManager(Settings(acquire_timeout_s=FOREVER_S), observers=[recorder])
    manager.session(FakeTransport())
    straggler = Straggler(monkeypatch, late=late)

    def ask() -> None:
        straggler.is_me()
        with pytest.raises(PortalClosedError):
            manager.session(FakeTransport("other"))

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(ask)
        assert straggler.about_to_post.wait(LIMIT_S)
        manager.close()
        done.result(LIMIT_S)
    assert manager.hangs() == []
    asked = {event.request_id for event in recorder.of(SessionRequested)}
    assert asked == {event.request_id for event in recorder.of(SessionAcquired)}


@pytest.mark.scenario("S24")
@pytest.mark.parametrize("late", [False, True])
def test_call_that_comes_too_late_is_refused_at_once(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a request is."""
    recorder = Recorder()
    manager = SessionManager(Settings(call_timeout_s=FOREVER_S), observers=[recorder])
    session = manager.session(FakeTransport())
    straggler = Straggler(monkeypatch, late=late)

    def call() -> None:
        straggler.is_me()
        with pytest.raises(PortalClosedError):
            session.call_tool("echo", {"text": "x"})

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(call)
        assert straggler.about_to_post.wait(LIMIT_S)
        manager.close()
        done.result(LIMIT_S)
    assert manager.hangs() == []
    started = {event.call_id for event in recorder.of(CallStarted)}
    assert started == {event.call_id for event in recorder.of(CallEnded)}


def test_call_that_begins_while_the_loop_unwinds_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its task may be cancelled before its first step."""
    recorder = Recorder()
    manager = SessionManager(Settings(call_timeout_s=FOREVER_S), observers=[recorder])
    session = manager.session(FakeTransport())
    about_to_end, posted = threading.Event(), threading.Event()
    finish = portal._finish

    def hold(loop: Any) -> None:
        about_to_end.set()
        assert posted.wait(LIMIT_S)
        finish(loop)

    monkeypatch.setattr(portal, "_finish", hold)
    post = Portal.post

    def held(portal: Portal, function: Any, *args: Any) -> None:
        calls = getattr(function, "__name__", "") == "start"
        if calls:
            about_to_post.set()
            assert about_to_end.wait(LIMIT_S)
        post(portal, function, *args)
        if calls:
            posted.set()

    about_to_post = threading.Event()
    monkeypatch.setattr(Portal, "post", held)

    def call() -> None:
        with pytest.raises((PortalClosedError, SessionClosedError)):
            session.call_tool("echo", {"text": "x"})

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(call)
        assert about_to_post.wait(LIMIT_S)
        manager.close()
        done.result(LIMIT_S)
    started = {event.call_id for event in recorder.of(CallStarted)}
    assert started == {event.call_id for event in recorder.of(CallEnded)}
