"""Worlds in which one script of actors and locks runs: in threads, in asyncio's tasks, in trio's.

An actor is a coroutine function. In the world of threads it never suspends: its locks and meetings block
the thread that drives it.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio

from instrumented_sessions import TaskLock, ThreadLock

LIMIT_S = 60.0

Actor = Callable[[], Coroutine[Any, Any, None]]
KINDS = ("threads", "tasks", "trio")


class BlockingLock:
    """A `ThreadLock` as a `TaskLock` is used."""

    def __init__(self, name: str) -> None:
        self.lock = ThreadLock(name)

    async def acquire(self) -> bool:
        return self.lock.acquire()

    def release(self) -> None:
        self.lock.release()

    def locked(self) -> bool:
        return self.lock.locked()

    async def __aenter__(self) -> None:
        self.lock.acquire()

    async def __aexit__(self, *exc_info: object) -> None:
        self.lock.release()


class World:
    """Runs actors to their ends; `errors` are what they raised."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.errors: list[BaseException] = []

    def lock(self, name: str) -> Any:
        return BlockingLock(name) if self.kind == "threads" else TaskLock(name)

    def locks(self, names: str) -> list[Any]:
        return [self.lock(name) for name in names]

    def meeting(self, size: int) -> Callable[[], Awaitable[None]]:
        """Return what each of `size` actors awaits until all do."""
        if self.kind == "threads":
            barrier = threading.Barrier(size)

            async def meet_threads() -> None:
                barrier.wait(LIMIT_S)

            return meet_threads
        everybody, arrived = anyio.Event(), iter(range(1, size + 1))

        async def meet_tasks() -> None:
            if next(arrived) == size:
                everybody.set()
            await everybody.wait()

        return meet_tasks

    async def turn(self) -> None:
        """Let the others run."""
        if self.kind != "threads":
            await anyio.lowlevel.checkpoint()

    def run(self, *actors: Actor) -> None:
        if self.kind == "threads":
            self._run_threads(actors)
        else:
            anyio.run(self._run_tasks, actors, backend="trio" if self.kind == "trio" else "asyncio")

    def _run_threads(self, actors: tuple[Actor, ...]) -> None:
        def drive(actor: Actor) -> None:
            try:
                actor().send(None)
            except StopIteration:
                pass
            except BaseException as error:
                self.errors.append(error)

        threads = [
            threading.Thread(target=drive, args=(actor,), name=f"actor {n}") for n, actor in enumerate(actors)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive(), f"{thread.name} hangs"

    async def _run_tasks(self, actors: tuple[Actor, ...]) -> None:
        async def guard(actor: Actor) -> None:
            try:
                await actor()
            except Exception as error:
                self.errors.append(error)

        with anyio.fail_after(LIMIT_S):
            async with anyio.create_task_group() as group:
                for number, actor in enumerate(actors):
                    group.start_soon(guard, actor, name=f"actor {number}")


class ReadersWriter:
    """A lock for many readers or one writer: the first reader takes the room, the last gives it back.

    So the room may be given back by another than its taker.
    """

    def __init__(self, world: World, name: str) -> None:
        self._turnstile = world.lock(f"turnstile {name}")
        self._room = world.lock(f"room {name}")
        self._readers = 0

    @asynccontextmanager
    async def read(self) -> Any:
        async with self._turnstile:
            self._readers += 1
            if self._readers == 1:
                await self._room.acquire()
        try:
            yield
        finally:
            async with self._turnstile:
                self._readers -= 1
                if not self._readers:
                    self._room.release()

    @asynccontextmanager
    async def write(self) -> Any:
        async with self._room:
            yield
