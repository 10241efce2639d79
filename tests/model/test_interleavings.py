"""The pool under thousands of schedules: nobody waits for ever, nothing is lost, nothing happens twice.

`MODEL_SCHEDULES` is how many different schedules of each scenario are run, at most. A failure prints
its schedule as a call of `replay`, from which a named test is made.
"""

from __future__ import annotations

import os

import pytest

from .explorer import explore, finish, replay
from .invariants import explain_all
from .scenarios import SCENARIOS
from .world import World

SCHEDULES = int(os.environ.get("MODEL_SCHEDULES", "460"))
FAST_TOTAL = 10_000
"""What the fast suite promises, over all scenarios."""
PROMPT_STEPS = 20
"""More than any scenario needs when nothing goes wrong and nobody dawdles."""


@pytest.mark.timeout(30 + SCHEDULES / 10)
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_schedule_keeps_the_rules(name: str) -> None:
    """Whatever the order of events, the invariants hold and everybody is answered."""
    found = explore(SCENARIOS[name], SCHEDULES)
    assert found.complete or found.schedules == SCHEDULES


def test_the_fast_suite_runs_ten_thousand_schedules() -> None:
    """No scenario is so small that its schedules run out."""
    assert len(SCENARIOS) * SCHEDULES >= FAST_TOTAL


@pytest.mark.parametrize("name", SCENARIOS)
def test_world_comes_to_rest_soon_when_everybody_is_prompt(name: str) -> None:
    """Without misfortune nothing is done in vain, such as opening sessions that nobody gets to use."""
    world = World(SCENARIOS[name])
    finish(world)
    assert len(world.trace) <= PROMPT_STEPS


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_wait_can_be_explained_at_every_step(name: str) -> None:
    """The chain of each waiter ends, in every state on the way."""
    world = World(SCENARIOS[name])
    while not world.at_rest():
        world.take(next(choice.name for choice in world.choices() if choice.due))
        assert all(chain.waited_s >= 0 for chain in explain_all(world))


def test_replay_is_exact() -> None:
    """The same steps lead to the same world."""
    scenario = SCENARIOS["callers of one key share an opening"]
    steps = ["ann asks", "bob asks", "portal hears ann", "w/a#1 connects", "portal hears bob"]
    assert replay(scenario, steps).trace == replay(scenario, steps).trace
