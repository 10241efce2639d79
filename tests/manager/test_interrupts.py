"""Ctrl-C at a line before the wait: nobody is left waiting in the books."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from instrumented_sessions import SessionManager, Settings
from instrumented_sessions.events import SessionAcquired, SessionRequested
from instrumented_sessions.manager import manager as hub
from instrumented_sessions.portal import Portal
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport

from .wires import LIMIT_S


def interrupted(*args: Any, **more: Any) -> Any:
    raise KeyboardInterrupt


def after(function: Callable[..., object]) -> Callable[..., Any]:
    """Return what is interrupted, once, when `function` has done its work."""
    interrupts = [KeyboardInterrupt]

    def wrapper(*args: Any, **more: Any) -> Any:
        function(*args, **more)
        if interrupts:
            raise interrupts.pop()

    return wrapper


@pytest.mark.scenario("S25")
@pytest.mark.parametrize("line", ["watch", "post"])
def test_call_interrupted_before_it_waits_is_no_wait(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the portal has heard of it or not."""
    transport = FakeTransport()
    with SessionManager() as manager:
        session = manager.session(transport)
        transport.calling.close()
        with monkeypatch.context() as patch:
            if line == "watch":
                patch.setattr(hub.SLOW_CALLS, "watch", interrupted)
            else:
                patch.setattr(Portal, "post", after(Portal.post))
            with pytest.raises(KeyboardInterrupt):
                session.call_tool("echo", {"text": "x"})
        assert manager.hangs() == []
        transport.calling.open()
        session.call_tool("echo", {"text": "after all"})


@pytest.mark.scenario("S25")
@pytest.mark.parametrize("line", ["announce", "post"])
def test_request_interrupted_before_it_waits_is_no_wait(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is said as often as its beginning."""
    recorder = Recorder()
    with SessionManager(observers=[recorder]) as manager:
        manager.session(FakeTransport("other"))
        with monkeypatch.context() as patch:
            if line == "announce":
                shell = manager._shell
                patch.setattr(shell, "announce_requested", after(shell.announce_requested))
            else:
                patch.setattr(Portal, "post", after(Portal.post))
            with pytest.raises(KeyboardInterrupt):
                manager.session(FakeTransport())
        assert manager.hangs() == []
        asked = [event.request_id for event in recorder.of(SessionRequested)]
        assert asked == [event.request_id for event in recorder.of(SessionAcquired)]


@pytest.mark.scenario("S25")
def test_signal_that_does_not_interrupt_the_wait_is_noticed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread has got it; one that came just before the wait began is the same to the main thread."""
    transport = FakeTransport()
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with SessionManager(Settings(close_timeout_s=0.1)) as manager:
            session = manager.session(transport)
            transport.calling.close()

            def interrupt() -> None:
                while not session.in_flight:
                    threading.Event().wait(0.001)
                signal.pthread_kill(threading.get_ident(), signal.SIGINT)

            thread = threading.Thread(target=interrupt)
            thread.start()
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                session.call_tool("echo", {"text": "x"}, timeout_s=4 * LIMIT_S)
            assert time.monotonic() - began < LIMIT_S
            thread.join()
            transport.calling.open()
    finally:
        signal.signal(signal.SIGINT, previous)


def test_interrupted_start_of_the_portal_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next use starts another."""
    started: list[Portal] = []
    start = Portal.start

    def cut(portal: Portal) -> None:
        started.append(portal)
        start(portal)
        raise KeyboardInterrupt

    with SessionManager(Settings(open_timeout_s=LIMIT_S)) as manager:
        with monkeypatch.context() as patch:
            patch.setattr(Portal, "start", cut)
            with pytest.raises(KeyboardInterrupt):
                manager.session(FakeTransport())
        thread = started[0].thread
        assert thread is not None
        thread.join(LIMIT_S)
        assert not thread.is_alive()
        manager.session(FakeTransport())
