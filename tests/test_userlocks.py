"""The users' own locks: standard behaviour, visible waits, and deadlocks that raise in one victim."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from instrumented_sessions import DeadlockError, SessionManager, TaskLock, ThreadLock, observer
from instrumented_sessions.events import (
    DeadlockDetected,
    Event,
    LockAcquired,
    LockReleased,
    LockWaitAbandoned,
    LockWaitStarted,
)
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.userlocks import held
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


def test_every_hold_and_wait_is_in_the_statistics_without_any_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As long as nobody wants the events of free locks, none is made, and nothing is lost."""
    monkeypatch.setattr(observer, "all_holds_are_heard", False)
    monkeypatch.setattr(held, "announce_everywhere", lambda event: pytest.fail(f"{event} was made"))
    lock = ThreadLock("ledger")
    for _ in range(100):
        with lock:
            pass
    seen = lock.statistics()
    assert (seen.holds, seen.waits, seen.abandoned) == (100, 0, 0)
    assert 0 <= seen.longest_hold_s <= seen.held_s


def test_observers_that_want_contention_only_leave_free_locks_alone() -> None:
    """The first that wants all turns the events on, and its end turns them off."""

    class Modest(Recorder):
        only_contended = True

    before = observer.AMBIENT.observers
    for known in before:
        observer.AMBIENT.remove(known)
    try:
        announcer = observer.Announcer([Modest()])
        observer.include(announcer)
        eager, recorder = observer.all_holds_are_heard, Recorder()
        announcer.add(recorder)
        assert observer.all_holds_are_heard
        with ThreadLock("ledger"):
            pass
        assert [type(event) for event in recorder.of(Event)] == [LockAcquired, LockReleased]
        announcer.remove(recorder)
        assert observer.all_holds_are_heard is eager
    finally:
        for known in before:
            observer.AMBIENT.add(known)


def test_holder_of_a_free_lock_is_known_with_its_line() -> None:
    """Who took it, where, without any event."""
    lock = ThreadLock("ledger")
    with lock:
        party = lock.holding_party()
    assert party is not None
    assert party.location is not None
    assert party.location.function.endswith("test_holder_of_a_free_lock_is_known_with_its_line")
    assert lock.holding_party() is None


@pytest.mark.parametrize("arguments", [(False, 1.0), (True, -2.0)])
def test_wrong_arguments_are_refused_as_the_standard_lock_refuses_them(arguments: tuple[bool, float]) -> None:
    """Held or free; and a timeout of 0 is no wait, so no circle either."""
    lock = ThreadLock("ledger")
    with pytest.raises(ValueError):
        lock.acquire(*arguments)
    with lock:
        with pytest.raises(ValueError):
            lock.acquire(*arguments)
        assert not lock.acquire(timeout=0)
        assert not lock.acquire(blocking=False)


LOOPS = ["asyncio", ("asyncio", {"use_uvloop": True}), "trio"]


@pytest.mark.parametrize("anyio_backend", LOOPS, ids=["asyncio", "uvloop", "trio"])
async def test_task_lock_works_on_every_loop(anyio_backend: Any) -> None:
    """Exclusion in the order of asking, the holder's name, cancellation, and a circle of one."""
    lock, order = TaskLock("ledger"), list[str]()
    queued = [anyio.Event() for _ in range(3)]

    async def take(number: int) -> None:
        queued[number].set()
        async with lock:
            order.append(f"task {number}")

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            async with lock:
                with pytest.raises(DeadlockError, match="circle of 1"):
                    await lock.acquire()
                with anyio.move_on_after(0.01):
                    await _elsewhere(lock)
                for number in range(3):
                    group.start_soon(take, number, name=f"task {number}")
                    await queued[number].wait()
                    await anyio.lowlevel.checkpoint()
                party = lock.holding_party()
                assert party is not None
                assert party.task_name is not None
    assert order == ["task 0", "task 1", "task 2"]
    assert not lock.locked()
    assert lock.statistics().holds == 4
    with pytest.raises(RuntimeError):
        lock.release()


async def _elsewhere(lock: TaskLock) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(lock.acquire)


def test_task_lock_may_move_to_another_library_when_it_is_free() -> None:
    """One program may run both, one after the other."""
    lock = TaskLock("ledger")

    async def use() -> None:
        async with lock:
            pass

    for backend in ("asyncio", "trio", "asyncio"):
        anyio.run(use, backend=backend)
    assert lock.statistics().holds == 3


async def test_lock_and_asker_are_named_when_the_holder_is_a_task_of_a_busy_thread() -> None:
    """A holder that runs is where its thread is."""
    lock = ThreadLock("ledger")
    crew, manager = Crew(), SessionManager()
    with lock:
        crew.start(lambda: lock.acquire() and lock.release(), "clerk")
        with anyio.fail_after(LIMIT_S):
            while not manager.hangs():
                await asyncio.sleep(0.001)
        (chain,) = manager.hangs()
    await asyncio.to_thread(crew.join)
    await manager.aclose()
    assert chain.links[0].holder is not None
    assert chain.links[0].holder.task_name is not None
    assert any("test_lock_and_asker_are_named" in frame for frame in chain.links[0].stack)


def _until(condition: Any) -> None:
    limit = threading.Event()
    for _ in range(LIMIT_S * 1000):
        if condition():
            return
        limit.wait(0.001)
    raise AssertionError("it did not happen")
