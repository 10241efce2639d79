"""The users' own locks: standard behaviour, visible waits, and deadlocks that raise in one victim."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from instrumented_sessions import DeadlockError, SessionManager, TaskLock, ThreadLock
from instrumented_sessions.events import (
    DeadlockDetected,
    LockAcquired,
    LockReleased,
    LockWaitAbandoned,
    LockWaitStarted,
)
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.vocabulary import Outcome, Phase
from instrumented_sessions.waitgraph import GRAPH

LIMIT_S = 10


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def manager(recorder: Recorder) -> Iterator[SessionManager]:
    with SessionManager(observers=[recorder]) as manager:
        yield manager
    assert not GRAPH._holders
    assert not GRAPH._waits


class Crew:
    """Threads whose errors are kept."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.threads: list[threading.Thread] = []

    def start(self, work: Any, name: str) -> None:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=run, name=name)
        self.threads.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive(), thread.name


def test_thread_lock_is_a_standard_lock(manager: SessionManager, recorder: Recorder) -> None:
    """It excludes, times out, and refuses to be given back twice, as `threading.Lock` does."""
    lock = ThreadLock("ledger")
    assert lock.acquire()
    assert lock.locked()
    assert "held by thread 'MainThread'" in repr(lock)
    lock.release()
    assert not lock.locked()
    with pytest.raises(RuntimeError):
        lock.release()
    with lock:
        seen: list[bool] = []
        crew = Crew()
        crew.start(lambda: seen.extend([lock.acquire(blocking=False), lock.acquire(timeout=0.01)]), "other")
        crew.join()
        assert seen == [False, False]
    assert [event.outcome for event in recorder.of(LockWaitAbandoned)] == [Outcome.TIMEOUT]
    assert len(recorder.of(LockAcquired)) == len(recorder.of(LockReleased)) == 2
    assert {event.lock_name for event in recorder.of(LockAcquired)} == {"ledger"}


def test_wait_for_a_thread_lock_is_seen_while_it_lasts(manager: SessionManager, recorder: Recorder) -> None:
    """`hangs()` names the lock, its holder, and where the holder is."""
    lock = ThreadLock("ledger")
    crew = Crew()
    with lock:
        crew.start(lambda: lock.acquire() and lock.release(), "clerk")
        _until(lambda: len(recorder.of(LockWaitStarted)) == 1)
        (chain,) = manager.hangs()
        assert (chain.waiter.name, chain.phase, chain.key) == ("clerk", Phase.LOCK, None)
        (link,) = chain.links
        assert link.waits_for == "lock 'ledger'"
        assert link.holder is not None
        assert link.holder.thread_name == "MainThread"
        assert any("test_wait_for_a_thread_lock" in frame for frame in link.stack)
        assert "lock 'ledger', held for" in manager.explain()
    crew.join()
    assert manager.hangs() == []
    waited = [event for event in recorder.of(LockAcquired) if event.contended]
    assert [event.owner.name for event in waited] == ["clerk"]


@pytest.mark.scenario("S8")
def test_two_threads_in_opposite_order_have_one_victim(manager: SessionManager, recorder: Recorder) -> None:
    """The second to block gets the cycle as an error; the other one goes on."""
    first, second = ThreadLock("first"), ThreadLock("second")
    ready = threading.Barrier(2)

    def take(outer: ThreadLock, inner: ThreadLock) -> None:
        with outer:
            ready.wait(LIMIT_S)
            with inner:
                pass

    crew = Crew()
    crew.start(lambda: take(first, second), "A")
    crew.start(lambda: take(second, first), "B")
    crew.join()
    (error,) = crew.errors
    assert isinstance(error, DeadlockError)
    assert error.cycle is not None
    assert error.cycle.is_cycle
    assert {"first", "second"} <= set(str(error).replace("'", " ").split())
    assert len(recorder.of(DeadlockDetected)) == 1


def test_taking_a_thread_lock_twice_is_a_circle_of_one(manager: SessionManager) -> None:
    """A standard lock would wait for ever; this one says so."""
    lock = ThreadLock("ledger")
    with lock, pytest.raises(DeadlockError, match="circle of 1"):
        lock.acquire()


async def test_task_lock_is_fair_and_cancellable() -> None:
    """Tasks get it in the order of asking; a cancelled waiter gives up its place."""
    recorder = Recorder()
    async with SessionManager(observers=[recorder]):
        lock = TaskLock("ledger")
        order: list[str] = []

        async def take(name: str) -> None:
            async with lock:
                order.append(name)

        await lock.acquire()
        tasks = {name: asyncio.create_task(take(name), name=name) for name in "abc"}
        with anyio.fail_after(LIMIT_S):
            while len(recorder.of(LockWaitStarted)) < 3:
                await asyncio.sleep(0)
        tasks["b"].cancel()
        lock.release()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert order == ["a", "c"]
        assert [event.outcome for event in recorder.of(LockWaitAbandoned)] == [Outcome.CANCELLED]
        assert not lock.locked()


@pytest.mark.scenario("S8")
async def test_ring_of_tasks_has_one_victim() -> None:
    """Five tasks that each hold one lock and want the next: one raises, four finish."""
    async with SessionManager():
        locks = [TaskLock(f"lock {number}") for number in range(5)]
        everybody_holds = anyio.Event()
        holding = 0

        async def take(number: int) -> None:
            nonlocal holding
            async with locks[number]:
                holding += 1
                if holding == 5:
                    everybody_holds.set()
                await everybody_holds.wait()
                async with locks[(number + 1) % 5]:
                    pass

        with anyio.fail_after(LIMIT_S):
            results = await asyncio.gather(*(take(n) for n in range(5)), return_exceptions=True)
        victims = [result for result in results if result is not None]
        assert len(victims) == 1
        assert isinstance(victims[0], DeadlockError)
        assert "circle of 5" in str(victims[0])


@pytest.mark.parametrize("name", ["", 7, None])
def test_lock_needs_a_name(name: Any) -> None:
    """A lock without a name could not be told from another."""
    with pytest.raises(ValueError, match="name"):
        ThreadLock(name)
    with pytest.raises(ValueError, match="name"):
        TaskLock(name)


def _until(condition: Any) -> None:
    limit = threading.Event()
    for _ in range(LIMIT_S * 1000):
        if condition():
            return
        limit.wait(0.001)
    raise AssertionError("it did not happen")
