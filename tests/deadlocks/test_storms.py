"""Storms of timeouts and cancellations: no false report, no lost waiter, nothing left behind.

LOCK_STORM says how many acquisitions the storms make in all; `make test-locks-full` makes a million.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from typing import Any

import anyio
import pytest

from instrumented_sessions import DeadlockError, TaskLock, ThreadLock
from instrumented_sessions.events import DeadlockDetected, Event, LockOrderInversion
from instrumented_sessions.observer import AMBIENT
from instrumented_sessions.userlocks.chains import waiting
from instrumented_sessions.userlocks.held import held_by_tasks
from instrumented_sessions.waitgraph import GRAPH

STORM = int(os.environ.get("LOCK_STORM", "100000"))
LIMIT_S = 25 + STORM / 2000
pytestmark = pytest.mark.timeout(2 * LIMIT_S)


class Reports:
    """Keeps what a storm must not lead to."""

    only_contended = True

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def on_event(self, event: Event) -> None:
        if isinstance(event, (DeadlockDetected, LockOrderInversion)):
            self.seen.append(event)


class Reserved:
    """Something that only the holder of a lock may use; counts how often somebody did."""

    def __init__(self) -> None:
        self.in_use = False
        self.uses = 0

    def enter(self) -> None:
        assert not self.in_use, "two hold one lock"
        self.in_use = True
        self.uses += 1

    def leave(self) -> None:
        self.in_use = False


@pytest.fixture
def reports() -> Any:
    reports = Reports()
    AMBIENT.add(reports)
    yield reports
    AMBIENT.remove(reports)
    assert reports.seen == []
    assert (GRAPH._holders, GRAPH._waits, waiting, held_by_tasks) == ({}, {}, {}, {})


@pytest.mark.slow
def test_storm_of_timeouts_in_threads(reports: Reports) -> None:
    """Eight threads take one or two of five locks in one order, many of them with a limit that passes."""
    locks = [(ThreadLock(f"lock {number}"), Reserved()) for number in range(5)]
    errors: list[BaseException] = []
    got = [0] * 8

    def storm(worker: int) -> None:
        rng = random.Random(worker)
        for _ in range(STORM // 10):
            chosen = sorted(rng.sample(range(5), rng.choice((1, 1, 1, 2))))
            timeout = rng.choice((-1.0, -1.0, 0.0, 0.0001))
            held = []
            for number in chosen:
                lock, reserved = locks[number]
                if not lock.acquire(timeout=timeout):
                    break
                got[worker] += 1
                held.append((lock, reserved))
                reserved.enter()
            for lock, reserved in reversed(held):
                reserved.leave()
                lock.release()

    def guarded(worker: int) -> None:
        try:
            storm(worker)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
        assert not thread.is_alive()
    assert errors == []
    assert sum(reserved.uses for _, reserved in locks) == sum(got)
    for lock, reserved in locks:
        seen = lock.statistics()
        assert not lock.locked()
        assert seen.holds == reserved.uses
        assert seen.waits <= seen.holds


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_storm_of_cancellations_in_tasks(reports: Reports, anyio_backend: str) -> None:
    """Forty tasks take one or two of five locks in one order, and are cancelled wherever they are."""
    locks = [(TaskLock(f"lock {number}"), Reserved()) for number in range(5)]
    scopes: dict[int, anyio.CancelScope] = {}
    taken = ended = 0

    async def take(chosen: list[int], turns: int) -> None:
        nonlocal taken
        lock, reserved = locks[chosen[0]]
        async with lock:
            taken += 1
            reserved.enter()
            try:
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                if chosen[1:]:
                    await take(chosen[1:], turns)
            finally:
                reserved.leave()

    async def work(worker: int) -> None:
        nonlocal ended
        rng = random.Random(worker)
        for _ in range(STORM // 10 // 40):
            with anyio.CancelScope() as scope:
                scopes[worker] = scope
                await take(sorted(rng.sample(range(5), rng.choice((1, 1, 1, 2)))), rng.choice((0, 0, 1)))
        ended += 1

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            for worker in range(40):
                group.start_soon(work, worker)
            rng = random.Random(7)
            while ended < 40:
                await anyio.lowlevel.checkpoint()
                if scopes:
                    scopes[rng.choice(list(scopes))].cancel()
    assert taken > STORM // 40
    assert sum(reserved.uses for _, reserved in locks) == taken
    assert not any(lock.locked() for lock, _ in locks)
    assert sum(lock.statistics().holds for lock, _ in locks) == taken


async def test_waiter_that_is_cancelled_as_it_is_granted_passes_the_lock_on() -> None:
    """The one instant at which asyncio's own lock once lost a waiter."""
    lock = TaskLock("lock")
    await lock.acquire()
    first, second = (asyncio.create_task(lock.acquire(), name=name) for name in ("first", "second"))
    while len(waiting) < 2:
        await asyncio.sleep(0)
    lock.release()
    first.cancel()
    with anyio.fail_after(LIMIT_S):
        assert await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert lock.statistics().abandoned == 1
    with pytest.raises(RuntimeError):
        await asyncio.create_task(_release_twice(lock))
    assert not lock.locked()


async def _release_twice(lock: TaskLock) -> None:
    lock.release()
    lock.release()


def test_victim_of_a_deadlock_leaves_the_others_to_go_on() -> None:
    """Twenty circles of two, one after the other: one victim each, and both locks are free again."""
    first, second = ThreadLock("first"), ThreadLock("second")
    victims = 0
    for _ in range(20):
        meet = threading.Barrier(2)
        raised: list[DeadlockError] = []

        def take(
            outer: ThreadLock,
            inner: ThreadLock,
            meet: threading.Barrier = meet,
            raised: list[DeadlockError] = raised,
        ) -> None:
            try:
                with outer:
                    meet.wait(LIMIT_S)
                    with inner:
                        pass
            except DeadlockError as error:
                raised.append(error)

        other = threading.Thread(target=take, args=(second, first))
        other.start()
        take(first, second)
        other.join(LIMIT_S)
        assert not other.is_alive()
        victims += len(raised)
    assert victims == 20
    assert (first.locked(), second.locked()) == (False, False)
