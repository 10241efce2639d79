"""Predictions against real runs: a manager, its portal and its locks, under a clock that the test moves."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from instrumented_sessions import SessionManager, Settings
from instrumented_sessions.advisor import Option, Recording, replay
from instrumented_sessions.events import LockAcquired, LockReleased, LockWaitStarted, SessionAcquired
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport, ManualClock

from .recordings import GLOBAL, SESSION, TRANSPORT

HANDSHAKES_S = {"slow": 1.0, "quick": 0.21, "quicker": 0.13}
LIMIT_S = 60.0


def load() -> list[tuple[float, str, str]]:
    """Forty openings within four seconds, at random instants that no two of them share."""
    chance = random.Random(3)
    names = chance.choices(list(HANDSHAKES_S), [2, 3, 3], k=40)
    return [(at, name, f"c-{at:.6f}") for at, name in zip(sorted(chance.uniform(0, 4) for _ in names), names)]


async def run(option: Option, clock: ManualClock) -> Recording:
    """Really open the load's sessions under `option`, and return what was recorded."""
    recorder = Recorder()
    transports = {name: FakeTransport(name) for name in HANDSHAKES_S}
    for transport in transports.values():
        transport.connecting.close()
    settings = Settings(granularity=option.granularity, permits=option.permits or 4)
    start = clock.monotonic()
    waiting = load()
    ends: list[tuple[float, str]] = []
    connects = dict.fromkeys(transports, 0)
    asked: list[asyncio.Task[object]] = []

    async def come_to_rest() -> None:
        """Wait until the portal has done all that follows, and note which handshakes it has begun."""
        deadline = time.monotonic() + LIMIT_S
        while not (
            len(recorder.of(LockWaitStarted)) + sum(not each.contended for each in recorder.of(LockAcquired))
            == len(asked)
            and sum(transport.connecting.arrived for transport in transports.values())
            == len(recorder.of(LockAcquired))
            and len(recorder.of(SessionAcquired)) == len(recorder.of(LockReleased)) == released
        ):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)
        for name, transport in transports.items():
            new, connects[name] = transport.connecting.arrived - connects[name], transport.connecting.arrived
            ends.extend([(clock.monotonic() - start + HANDSHAKES_S[name], name)] * new)
        ends.sort()

    released = 0
    async with SessionManager(settings, observers=[recorder]) as manager:
        while waiting or ends:
            if ends and (not waiting or ends[0][0] < waiting[0][0]):
                at, name = ends.pop(0)
                clock.advance(start + at - clock.monotonic())
                transports[name].connecting.release_one()
                released += 1
            else:
                at, name, conversation = waiting.pop(0)
                clock.advance(start + at - clock.monotonic())
                asked.append(asyncio.create_task(manager.asession(transports[name], conversation)))
            await come_to_rest()
        await asyncio.gather(*asked)
    return Recording.of(recorder.events, permits=settings.permits)


@pytest.mark.scenario("S6")
async def test_what_one_granularity_predicts_another_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded under any of them, each opening's wait under the others is the one that a run of them has."""
    clock = ManualClock(epoch=time.time())  # Ahead of the others' clock: nothing is long under way for them.
    monkeypatch.setattr("instrumented_sessions.manager.manager.SYSTEM_CLOCK", clock)
    options = [Option(GLOBAL, 1), Option(GLOBAL, 2), Option(TRANSPORT, 2), Option(SESSION)]
    recordings = {option: await run(option, clock) for option in options}
    waits = {
        option: {each.conversation: each.waited_s for each in recording.openings}
        for option, recording in recordings.items()
    }
    sums = [sum(waits[option].values()) for option in options]
    assert sums == sorted(sums, reverse=True)
    assert sums[0] > 10.0
    assert sums[2] > 1.0
    assert sums[3] == 0.0
    for recording in recordings.values():
        for option in options:
            predicted = {each.opening.conversation: each.waited_s for each in replay(recording, option)}
            assert predicted == pytest.approx(waits[option], abs=1e-6)
