"""The five deadlocks that the Rust tool Deloxide is measured by: each has one victim, threads or tasks.

https://github.com/Emivvvvv/deloxide-evaluation, `deloxide-deadlock-tests`
"""

from __future__ import annotations

import pytest

from instrumented_sessions import DeadlockError
from instrumented_sessions.events import DeadlockDetected
from instrumented_sessions.telemetry.recorder import Recorder

from .worlds import Actor, ReadersWriter, World


def one_victim(world: World, recorder: Recorder, size: int) -> DeadlockError:
    """Exactly one actor got the circle, as an error and an event; the others came to their end."""
    (error,) = world.errors
    assert isinstance(error, DeadlockError)
    assert f"circle of {size}" in str(error)
    (event,) = recorder.of(DeadlockDetected)
    assert event.cycle is error.cycle
    assert error.cycle is not None
    assert error.cycle.is_cycle
    assert len(error.cycle.links) == size
    return error


def ring(world: World, size: int) -> list[Actor]:
    """Each takes its own lock, meets the others, and wants its neighbour's."""
    locks = [world.lock(f"lock {number}") for number in range(size)]
    meet = world.meeting(size)

    def actor(number: int) -> Actor:
        async def take_two() -> None:
            async with locks[number]:
                await meet()
                async with locks[(number + 1) % size]:
                    pass

        return take_two

    return [actor(number) for number in range(size)]


@pytest.mark.scenario("S8")
@pytest.mark.parametrize("size", [2, 3, 5], ids=["two locks", "three locks", "five locks"])
def test_ring_of_locks_has_one_victim(world: World, recorder: Recorder, size: int) -> None:
    """Two, three and five that each hold one lock and want the next."""
    world.run(*ring(world, size))
    error = one_victim(world, recorder, size)
    assert error.cycle is not None
    names = {f"lock 'lock {number}'" for number in range(size)}
    assert {link.waits_for for link in error.cycle.links} == names
    assert all(link.holder is not None for link in error.cycle.links)
    assert str(error).count("take_two") >= size, str(error)


def test_philosophers_who_all_take_the_left_fork_first_have_one_victim(
    world: World, recorder: Recorder
) -> None:
    """The one who goes hungry puts down the fork, and the other four eat."""
    forks = [world.lock(f"fork {number}") for number in range(5)]
    seated, eaten = world.meeting(5), []

    def philosopher(number: int) -> Actor:
        async def dine() -> None:
            async with forks[number]:
                await seated()
                async with forks[(number + 1) % 5]:
                    eaten.append(number)

        return dine

    world.run(*map(philosopher, range(5)))
    one_victim(world, recorder, 5)
    assert len(eaten) == 4


def test_writers_of_two_readers_writer_locks_in_opposite_order_have_one_victim(
    world: World, recorder: Recorder
) -> None:
    """A lock that is made of ours inherits what ours see."""
    first, second = ReadersWriter(world, "first"), ReadersWriter(world, "second")
    meet = world.meeting(2)

    def writer(outer: ReadersWriter, inner: ReadersWriter) -> Actor:
        async def write_both() -> None:
            async with outer.write():
                await meet()
                async with inner.write():
                    pass

        return write_both

    world.run(writer(first, second), writer(second, first))
    one_victim(world, recorder, 2)
