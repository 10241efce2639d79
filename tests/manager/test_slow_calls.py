"""Slow calls: reported with the caller's stack while they last, and again when they end after all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from instrumented_sessions import SessionManager, Settings
from instrumented_sessions.events import CallBecameSlow, CallEnded, Event
from instrumented_sessions.manager import slow_calls
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.vocabulary import Outcome, Phase

LIMIT_S = 20.0
SETTINGS = Settings(slow_call_threshold_s=0.05, call_timeout_s=60.0)


class Slow:
    """Hears of slow calls, and lets a test wait for the first."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.told_by: str | None = None

    def on_event(self, event: Event) -> None:
        if isinstance(event, CallBecameSlow):
            self.told_by = threading.current_thread().name
            self.told.set()


def reports(recorder: Recorder) -> tuple[CallBecameSlow, CallEnded]:
    (slow,), (ended,) = recorder.of(CallBecameSlow), recorder.of(CallEnded)
    return slow, ended


@pytest.mark.scenario("S40")
async def test_slow_call_of_a_task_is_reported_while_it_lasts_and_when_it_ends() -> None:
    """The first report has the stack of the task that waits; the second says how it ended."""
    slow, recorder, transport = Slow(), Recorder(), FakeTransport("weather")
    async with SessionManager(SETTINGS, observers=[recorder, slow]) as manager:
        session = await manager.asession(transport, timeout_s=LIMIT_S)
        transport.calling.close()

        async def ask_the_weather() -> None:
            await session.acall_tool("echo", {"text": "hi"})

        task = asyncio.create_task(ask_the_weather(), name="asker")
        assert await asyncio.to_thread(slow.told.wait, LIMIT_S)
        assert not recorder.of(CallEnded)
        transport.calling.open()
        await task
    report, ended = reports(recorder)
    assert (report.method, report.target) == ("tools/call", "echo")
    assert report.phase in (Phase.QUEUE, Phase.RESPONSE)  # The portal may not have come to it yet.
    assert report.caller.task_name == "asker"
    assert any("ask_the_weather" in frame for frame in report.stack)
    assert report.running_s >= report.threshold_s == 0.05
    assert report.chain.links
    assert (ended.call_id, ended.slow, ended.outcome) == (report.call_id, True, Outcome.OK)


@pytest.mark.scenario("S40")
def test_slow_call_of_a_thread_is_reported_while_it_lasts_and_when_it_ends() -> None:
    """The same through the blocking door; the report comes on a thread that no loop can block."""
    slow, recorder, transport = Slow(), Recorder(), FakeTransport("weather")
    with SessionManager(SETTINGS, observers=[recorder, slow]) as manager:
        session = manager.session(transport, timeout_s=LIMIT_S)
        transport.calling.close()

        def ask_the_weather() -> None:
            session.call_tool("echo", {"text": "hi"})

        asker = threading.Thread(target=ask_the_weather, name="asker")
        asker.start()
        assert slow.told.wait(LIMIT_S)
        transport.calling.open()
        asker.join(LIMIT_S)
    report, ended = reports(recorder)
    assert report.caller.thread_name == "asker"
    assert any("ask_the_weather" in frame for frame in report.stack)
    assert slow.told_by == "instrumented-sessions-slow-calls"
    assert ended.slow


def test_slow_call_is_reported_while_the_portal_stands_still() -> None:
    """A call that the portal's blocked loop has not even taken is slow as well."""
    slow, recorder, transport = Slow(), Recorder(), FakeTransport("weather")
    with SessionManager(SETTINGS, observers=[recorder, slow]) as manager:
        session = manager.session(transport, timeout_s=LIMIT_S)
        go_on, blocked = threading.Event(), threading.Event()

        async def block(_client: object) -> None:
            blocked.set()
            go_on.wait(LIMIT_S)

        def call(work: Callable[[], object]) -> threading.Thread:
            thread = threading.Thread(target=work)
            thread.start()
            return thread

        threads = [call(lambda: session.run(block))]
        assert blocked.wait(LIMIT_S)
        slow.told.wait(LIMIT_S)  # Of the one that blocks.
        slow.told.clear()
        threads.append(call(lambda: session.call_tool("echo")))
        assert slow.told.wait(LIMIT_S)
        assert [event.method for event in recorder.of(CallBecameSlow)] == ["run", "tools/call"]
        assert recorder.of(CallBecameSlow)[1].phase is Phase.QUEUE
        go_on.set()
        for thread in threads:
            thread.join(LIMIT_S)


@pytest.mark.parametrize("settings", [Settings(slow_call_threshold_s=0), Settings(slow_call_threshold_s=30)])
def test_quick_call_is_not_reported(settings: Settings) -> None:
    """Nor is any when the threshold is 0."""
    recorder = Recorder()
    with SessionManager(settings, observers=[recorder]) as manager:
        manager.session(FakeTransport("weather")).call_tool("echo")
    assert not recorder.of(CallBecameSlow)
    assert [event.slow for event in recorder.of(CallEnded)] == [False]


def test_two_managers_share_the_thread_that_reports() -> None:
    """It ends with the last of them."""
    slow, transport = Slow(), FakeTransport("weather")

    def reporters() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name == "instrumented-sessions-slow-calls"]

    with SessionManager(SETTINGS) as first:
        with SessionManager(SETTINGS, observers=[slow]) as second:
            first.session(transport).call_tool("echo")
            session = second.session(transport)
            session.call_tool("echo")
            assert len(reporters()) == 1
        (reporter,) = reporters()
    reporter.join(LIMIT_S)
    assert not reporter.is_alive()


def test_manager_that_comes_while_others_are_looked_at_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread does not sleep for the first one's pause when a second one has come meanwhile."""
    slow, seen = slow_calls.SlowCalls(), threading.Event()
    first, second = object(), object()

    def report_due(shell: object) -> float:
        if shell is first:
            slow.watch(second)  # type: ignore[arg-type]
            return 3600.0
        seen.set()
        return 3600.0

    monkeypatch.setattr(slow_calls, "_report_due", report_due)
    slow.watch(first)  # type: ignore[arg-type]
    try:
        assert seen.wait(LIMIT_S)
    finally:
        slow.unwatch(first)  # type: ignore[arg-type]
        slow.unwatch(second)  # type: ignore[arg-type]
