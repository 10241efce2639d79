"""Explores the schedules of a scenario: all of them when they are few, else as many as asked for.

Every schedule found is another one, by construction: a run follows a prefix, then choices seeded by
that prefix; each choice it could have made otherwise, behind its prefix, is a prefix of its own.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from zlib import crc32

from .scenario import Scenario
from .world import World


@dataclass
class Exploration:
    """What an exploration found."""

    schedules: int
    steps: int
    complete: bool
    """Whether there are no other schedules."""


class ScheduleError(AssertionError):
    """A schedule under which something that must hold does not; carries the steps."""

    def __init__(self, scenario: Scenario, steps: list[str], cause: BaseException) -> None:
        self.steps = steps
        listed = "".join(f"\n        {step!r}," for step in steps)
        again = f"replay(SCENARIOS[{scenario.name!r}], [{listed}\n    ])"
        super().__init__(f"{scenario.name}: {type(cause).__name__}: {cause}\n    {again}")


def explore(scenario: Scenario, limit: int) -> Exploration:
    """Run up to `limit` different schedules of `scenario` to their ends.

    Raises:
        ScheduleError: One of them breaks a rule; the schedule is shortened before.
    """
    rng = random.Random(scenario.name)
    prefixes: list[tuple[int, ...]] = [()]
    schedules = steps = 0
    while prefixes and schedules < limit:
        # From anywhere, so that early and late alternatives get their share.
        where = rng.randrange(len(prefixes))
        prefixes[where], prefixes[-1] = prefixes[-1], prefixes[where]
        prefix = prefixes.pop()
        taken, widths = _run(scenario, prefix)
        schedules += 1
        steps += len(taken)
        for depth in range(len(prefix), len(taken)):
            others = (other for other in range(widths[depth]) if other != taken[depth])
            prefixes.extend((*taken[:depth], other) for other in others)
    return Exploration(schedules, steps, complete=not prefixes)


def _run(scenario: Scenario, prefix: tuple[int, ...]) -> tuple[tuple[int, ...], list[int]]:
    """Run to the end; return which choice was taken at each step, and of how many."""
    world = World(scenario)
    rng = random.Random(crc32(repr(prefix).encode()))
    # In half of the runs the portal is quick, as it mostly is; in the others anything may overtake it.
    quick = rng.choice((0.0, 0.8))
    taken: list[int] = []
    widths: list[int] = []
    try:
        while not world.at_rest():
            choices = world.choices()
            if len(taken) < len(prefix):
                chosen = prefix[len(taken)]
            elif rng.random() < quick:
                chosen = next(index for index, choice in enumerate(choices) if choice.due)
            else:
                chosen = rng.randrange(len(choices))
            taken.append(chosen)
            widths.append(len(choices))
            world.take(choices[chosen].name)
    except Exception as error:
        raise _shortened(scenario, world.trace, error) from error
    return tuple(taken), widths


def replay(scenario: Scenario, steps: list[str]) -> World:
    """Take `steps`, then whatever has to happen, in a fixed order, until the world is at rest.

    Raises:
        AssertionError: Something that must hold does not.
        KeyError: A step is not possible when its turn comes.
    """
    world = World(scenario)
    for step in steps:
        world.take(step)
    finish(world)
    return world


def finish(world: World) -> None:
    """Let happen what has to, until nothing is left; the time goes by last."""
    while not world.at_rest():
        world.take(next(choice.name for choice in world.choices() if choice.due))


def _shortened(scenario: Scenario, steps: list[str], error: Exception) -> ScheduleError:
    """Leave out every step without which it fails all the same."""
    index = len(steps) - 1
    while index >= 0:
        shorter, found = _failure(scenario, [*steps[:index], *steps[index + 1 :]])
        if found is not None and type(found) is type(error) and len(shorter) < len(steps):
            steps, error = shorter, found
        index = min(index, len(steps)) - 1
    return ScheduleError(scenario, steps, error)


def _failure(scenario: Scenario, steps: list[str]) -> tuple[list[str], Exception | None]:
    """Take those of `steps` that are possible, then what has to happen; return both steps and failure."""
    world = World(scenario)
    taken: list[str] = []
    try:
        for step in steps:
            if any(choice.name == step for choice in world.choices()):
                taken.append(step)
                world.take(step)
        finish(world)
    except Exception as error:
        return taken, error
    return taken, None
