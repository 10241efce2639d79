"""The pool's decisions, each under the one schedule that matters; see tests/model for all the others."""

from __future__ import annotations

from instrumented_sessions.vocabulary import SessionState
from tests.model.scenario import Calls, Scenario, Wants
from tests.model.world import World


def after(scenario: Scenario, *steps: str) -> World:
    """Take `steps`; what must always hold is checked after each."""
    world = World(scenario)
    for step in steps:
        world.take(step)
    return world


def test_calls_that_compete_for_room_take_turns() -> None:
    """A session that was opened for a call serves it before it makes room for another."""
    world = after(
        Scenario(
            "", (Calls("one", "w/a"), Calls("two", "w/b")), warm=("w/a", "w/b"), settings={"max_sessions": 1}
        ),
        *("one asks", "portal hears one", "one runs", "w/b#1 ends"),
        *("two asks", "portal hears two", "two runs", "w/a#2 connects"),
    )
    assert world.handle("w/a").state is SessionState.READY
    world.take("one runs")
    world.take("one is answered")
    assert world.handle("w/a").state is SessionState.DRAINING
    world.take("w/a#2 ends")
    world.take("w/b#2 connects")
    world.take("two runs")
    assert list(world.handle("w/b").calls) == [world.actors[1].ticket]


def test_room_is_made_when_the_call_that_a_session_was_opened_for_is_cancelled() -> None:
    """A promise to somebody who left keeps nobody waiting."""
    world = after(
        Scenario(
            "", (Calls("one", "w/a"), Wants("ann", "w/b")), warm=("w/a", "w/b"), settings={"max_sessions": 1}
        ),
        *("one asks", "portal hears one", "one runs", "w/b#1 ends"),
        *("ann asks", "portal hears ann", "w/a#2 connects"),
        *("one is cancelled", "portal hears that one has left", "one runs"),
    )
    assert world.handle("w/a").state is SessionState.DRAINING
