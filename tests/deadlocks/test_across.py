"""Circles through threads, tasks, loops, openings, joins and managers, and what only looks like one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from instrumented_sessions import (
    DeadlockError,
    SessionManager,
    SessionOpenError,
    Settings,
    TaskLock,
    ThreadLock,
)
from instrumented_sessions.events import DeadlockDetected, LockWaitStarted
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.userlocks.held import held_by_tasks

LIMIT_S = 60.0


class Busy(FakeTransport):
    """Does some work of the test's while it connects."""

    def __init__(self, id: str, work: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(id)
        self.work = work

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        await self.work()
        async with super().connect() as client:
            yield client


def deadlock_behind(error: BaseException | None) -> DeadlockError:
    """The deadlock that an opening failed of."""
    while error is not None and not isinstance(error, DeadlockError):
        error = error.__cause__
    assert error is not None
    return error


def test_thread_that_holds_what_the_opening_it_waits_for_wants(recorder: Recorder) -> None:
    """Thread, opening, lock: the opening is the victim, and its error names all of them."""
    lock = ThreadLock("ledger")

    async def use_the_ledger() -> None:
        await asyncio.to_thread(lock.acquire)
        lock.release()

    with SessionManager() as manager:
        with lock, pytest.raises(SessionOpenError) as raised:
            manager.session(Busy("weather", use_the_ledger), timeout_s=LIMIT_S)
        error = deadlock_behind(raised.value)
    assert error.cycle is not None
    assert [link.waits_for for link in error.cycle.links] == ["lock 'ledger'", "opening weather/default #1"]
    assert "circle of 2" in str(error)
    assert "MainThread" in str(error)
    assert len(recorder.of(DeadlockDetected)) == 1


@pytest.mark.scenario("S8")
def test_two_managers_whose_openings_need_each_other(recorder: Recorder) -> None:
    """The graph is the process's: the second manager's opening joins the first's, which waits for it."""
    with SessionManager() as first, SessionManager() as second:

        async def ask_the_second() -> None:
            await second.asession(inner, timeout_s=LIMIT_S)

        async def ask_the_first() -> None:
            await first.asession(outer, timeout_s=LIMIT_S)

        outer, inner = Busy("outer", ask_the_second), Busy("inner", ask_the_first)
        with pytest.raises(SessionOpenError) as raised:
            first.session(outer, timeout_s=LIMIT_S)
        error = deadlock_behind(raised.value)
    assert "circle of 2" in str(error)
    assert len(recorder.of(DeadlockDetected)) == 1


def test_lock_and_opening_whose_victim_is_the_one_who_joins(recorder: Recorder) -> None:
    """An opening holds a lock and joins another one that waits for that lock."""
    lock = TaskLock("ledger")
    with SessionManager(Settings(permits=8)) as manager:

        async def hold_and_join() -> None:
            async with lock:
                threading.Thread(target=lambda: sessions.append(ask(second))).start()
                while not recorder.of(LockWaitStarted):
                    await asyncio.sleep(0.001)
                await manager.asession(second, timeout_s=LIMIT_S)

        async def use_the_ledger() -> None:
            async with lock:
                pass

        def ask(transport: FakeTransport) -> Any:
            try:
                return manager.session(transport, timeout_s=LIMIT_S)
            finally:
                answered.set()

        sessions: list[Any] = []
        answered = threading.Event()
        first, second = Busy("first", hold_and_join), Busy("second", use_the_ledger)
        with pytest.raises(SessionOpenError) as raised:
            manager.session(first, timeout_s=LIMIT_S)
        error = deadlock_behind(raised.value)
        assert answered.wait(LIMIT_S)
    assert "circle of 2" in str(error)
    assert "lock 'ledger'" in str(error)
    assert len(sessions) == 1


async def test_two_tasks_of_one_opening_may_wait_for_each_other_s_lock(recorder: Recorder) -> None:
    """Work of one opening that is done side by side is no circle."""
    lock, second_waits = TaskLock("cache"), anyio.Event()

    async def fill() -> None:
        async with lock:
            second_waits.set()
            while not recorder.of(LockWaitStarted):
                await asyncio.sleep(0.001)

    async def read() -> None:
        await second_waits.wait()
        async with lock:
            pass

    async def both() -> None:
        await asyncio.gather(fill(), read())

    async with SessionManager() as manager:
        await manager.asession(Busy("weather", both), timeout_s=LIMIT_S)
    assert not recorder.of(DeadlockDetected)


async def test_thread_lock_that_a_task_of_the_same_loop_holds_is_a_circle(recorder: Recorder) -> None:
    """To wait for it would stop the loop on which its holder has to go on."""
    lock, held, done = ThreadLock("cache"), anyio.Event(), anyio.Event()

    async def hold() -> None:
        with lock:
            held.set()
            await done.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(hold)
        await held.wait()
        with pytest.raises(DeadlockError, match="circle of 1"):
            lock.acquire()
        done.set()
    assert len(recorder.of(DeadlockDetected)) == 1


def test_circle_of_a_loop_and_a_thread(recorder: Recorder) -> None:
    """A task blocks its loop for a lock whose holder wants what another task of that loop holds."""
    outer, inner = ThreadLock("outer"), ThreadLock("inner")
    outer_held, inner_held = threading.Event(), threading.Event()
    errors: list[DeadlockError] = []

    def guarded(work: Callable[[], Any]) -> None:
        try:
            work()
        except DeadlockError as error:
            errors.append(error)

    async def on_the_loop() -> None:
        holding, blocked = asyncio.Event(), asyncio.Event()

        async def hold_inner() -> None:
            with inner:
                inner_held.set()
                holding.set()
                await blocked.wait()

        async def want_outer() -> None:
            await holding.wait()
            outer_held.wait(LIMIT_S)
            guarded(lambda: outer.acquire() and outer.release())
            blocked.set()

        await asyncio.gather(hold_inner(), want_outer())

    def in_the_thread() -> None:
        with outer:
            outer_held.set()
            inner_held.wait(LIMIT_S)
            with inner:
                pass

    threads = [
        threading.Thread(target=asyncio.run, args=(on_the_loop(),)),
        threading.Thread(target=guarded, args=(in_the_thread,)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
        assert not thread.is_alive()
    (error,) = errors
    assert "circle of 2" in str(error)
    assert len(recorder.of(DeadlockDetected)) == 1


def test_lock_that_others_give_back_is_a_signal_and_closes_no_circle(recorder: Recorder) -> None:
    """Who once saw it given back by another than its taker cannot say any more who holds it."""
    signal = ThreadLock("signal")
    signal.acquire()
    helper = threading.Thread(target=signal.release)
    helper.start()
    assert signal.acquire(timeout=LIMIT_S)
    helper.join()
    waits = threading.Thread(target=lambda: signal.acquire() and signal.release())
    waits.start()
    helper = threading.Thread(target=signal.release)
    helper.start()
    waits.join(LIMIT_S)
    helper.join(LIMIT_S)
    assert not waits.is_alive()
    assert not recorder.of(DeadlockDetected)


async def test_signal_of_a_task_that_holds_other_locks_too() -> None:
    """What is given back by others is no part of what a task holds, and takes nothing of it along."""
    signal, lock = TaskLock("signal"), TaskLock("lock")
    await signal.acquire()

    async def give_back() -> None:
        signal.release()

    await asyncio.create_task(give_back())
    async with lock:
        async with signal:
            pass
        with pytest.raises(DeadlockError, match="circle of 1"):
            await lock.acquire()
    assert (signal.locked(), lock.locked()) == (False, False)
    assert held_by_tasks == {}
