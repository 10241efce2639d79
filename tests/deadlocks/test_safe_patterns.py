"""The nine patterns without a deadlock that Deloxide is measured by: none is taken for one.

Two of them take locks in orders that could deadlock at other times, which is an event and never an error.
https://github.com/Emivvvvv/deloxide-evaluation, `deloxide-deadlock-tests`
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from instrumented_sessions.events import DeadlockDetected, LockOrderInversion
from instrumented_sessions.telemetry.recorder import Recorder

from .worlds import Actor, ReadersWriter, World

ROUNDS = 20


def nested(world: World, *locks: Any, rounds: int = ROUNDS) -> Actor:
    """Takes the locks one inside the other."""

    async def take_all() -> None:
        for _ in range(rounds):
            async with AsyncExitStack() as stack:
                for lock in locks:
                    await stack.enter_async_context(lock)
                    await world.turn()
            await world.turn()

    return take_all


def in_turn(world: World, *locks: Any) -> Actor:
    """Takes the locks one after the other, never two at once."""

    async def take_each() -> None:
        for _ in range(ROUNDS):
            for lock in locks:
                async with lock:
                    await world.turn()
                await world.turn()

    return take_each


def no_report(world: World, recorder: Recorder, *, inversions: bool = False) -> None:
    assert world.errors == []
    assert recorder.of(DeadlockDetected) == []
    assert bool(recorder.of(LockOrderInversion)) is inversions


def test_hierarchy_of_four_locks(world: World, recorder: Recorder) -> None:
    """All take them downwards, some leave one out."""
    a, b, c, d = world.locks("abcd")
    world.run(nested(world, a, b, c, d), nested(world, a, c, d), nested(world, b, d), nested(world, b))
    no_report(world, recorder)


def test_locks_in_opposite_order_but_never_two_at_once(world: World, recorder: Recorder) -> None:
    """Each is given back before the next is taken."""
    a, b = world.locks("ab")
    world.run(in_turn(world, a, b), in_turn(world, b, a))
    no_report(world, recorder)


def test_locks_in_opposite_order_with_a_free_interval_between(world: World, recorder: Recorder) -> None:
    """Both meet without any lock between one and the other."""
    a, b = world.locks("ab")
    meetings = [world.meeting(2) for _ in range(ROUNDS)]

    def actor(first: Any, second: Any) -> Actor:
        async def take() -> None:
            for meet in meetings:
                async with first:
                    await world.turn()
                await meet()
                async with second:
                    await world.turn()

        return take

    world.run(actor(a, b), actor(b, a))
    no_report(world, recorder)


def test_producers_and_consumers_of_one_queue(world: World, recorder: Recorder) -> None:
    """Eight contend for the one lock of a queue."""
    lock, queue, taken = world.lock("queue"), list[int](), list[int]()

    async def produce() -> None:
        for number in range(ROUNDS):
            async with lock:
                queue.append(number)
                await world.turn()

    async def consume() -> None:
        wanted = ROUNDS
        while wanted:
            async with lock:
                if queue:
                    taken.append(queue.pop())
                    wanted -= 1
                await world.turn()
            await world.turn()

    world.run(*[produce] * 4, *[consume] * 4)
    assert sorted(taken) == sorted([*range(ROUNDS)] * 4)
    no_report(world, recorder)


def test_opposite_orders_under_one_coordinator(world: World, recorder: Recorder) -> None:
    """Whoever takes two holds a third lock first, which keeps the others out: no inversion either."""
    coordinator, a, b = world.lock("coordinator"), world.lock("a"), world.lock("b")
    forward, backward = nested(world, coordinator, a, b), nested(world, coordinator, b, a)
    world.run(forward, backward, forward, backward)
    no_report(world, recorder)


def test_readers_in_every_order_and_one_writer(world: World, recorder: Recorder) -> None:
    """Readers exclude nobody but the writer; the room's lock is given back by another than its taker."""
    if world.kind == "trio":
        return  # A trio lock can be given back by its holder only.
    a, b, c = (ReadersWriter(world, name) for name in "abc")

    def reader(*order: ReadersWriter) -> Actor:
        async def read_all() -> None:
            for _ in range(ROUNDS):
                async with AsyncExitStack() as stack:
                    for data in order:
                        await stack.enter_async_context(data.read())
                        await world.turn()

        return read_all

    async def write() -> None:
        for _ in range(ROUNDS):
            async with a.write():
                await world.turn()

    world.run(reader(a, b, c), reader(c, b, a), reader(b, a, c), reader(a, c), write)
    assert world.errors == []
    assert recorder.of(DeadlockDetected) == []


def test_two_groups_with_hierarchies_of_their_own(world: World, recorder: Recorder) -> None:
    """Three take a, b, c; three take x, y, z."""
    abc, xyz = world.locks("abc"), world.locks("xyz")
    world.run(*[nested(world, *abc)] * 3, *[nested(world, *xyz)] * 3)
    no_report(world, recorder)


def test_opposite_orders_one_after_the_other_are_an_inversion_only(world: World, recorder: Recorder) -> None:
    """It could deadlock if the two ran at once, so it is announced, once."""
    a, b = world.locks("ab")

    async def one_after_the_other() -> None:
        await nested(world, a, b)()

    world.run(one_after_the_other)
    world.run(nested(world, b, a))
    no_report(world, recorder, inversions=True)
    (event,) = recorder.of(LockOrderInversion)
    assert (event.first, event.second, event.between) == ("b", "a", ())
    assert event.earlier is not None
    assert event.now is not None


def test_three_rotations_in_phases_are_inversions_only(world: World, recorder: Recorder) -> None:
    """a b c, then b c a, then c a b, never two at once."""
    a, b, c = world.locks("abc")
    for order in ((a, b, c), (b, c, a), (c, a, b)):
        world.run(nested(world, *order))
    no_report(world, recorder, inversions=True)
