"""A recording of a real run says how long each opening waited and held, and under which settings."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from instrumented_sessions import SessionManager, SessionTimeoutError, Settings
from instrumented_sessions.advisor import Option, Recording, RecordingError, load, save
from instrumented_sessions.events import (
    Event,
    LockAcquired,
    LockReleased,
    LockWaitAbandoned,
    LockWaitStarted,
)
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport

from .recordings import GLOBAL, SESSION, TRANSPORT


async def events_of_a_run(permits: int = 2) -> list[Event]:
    """One that holds, one more, one that gives up while it waits for a permit, one that gets it then."""
    recorder = Recorder()
    transport = FakeTransport("weather")
    transport.connecting.close()
    async with SessionManager(Settings(granularity=GLOBAL, permits=permits), observers=[recorder]) as manager:
        asked = [asyncio.create_task(manager.asession(transport, f"c-{number}")) for number in range(permits)]
        await transport.connecting.await_for(permits)
        with pytest.raises(SessionTimeoutError):
            await manager.asession(transport, "impatient", timeout_s=0.05)
        asked.append(asyncio.create_task(manager.asession(transport, "patient")))
        while len(recorder.of(LockWaitStarted)) < 2:
            await asyncio.sleep(0.001)
        transport.connecting.open()
        await asyncio.gather(*asked)
    return recorder.events


async def test_recording_has_what_the_events_say() -> None:
    """Transport, wait, hold and caller of every opening, and the permits that the waits show."""
    events = await events_of_a_run()
    recording = Recording.of(events)
    assert recording.in_force == Option(GLOBAL, 2)
    assert (recording.transports, recording.cut) == (["weather"], 0)
    by_name = {opening.conversation: opening for opening in recording.openings}
    assert list(by_name) == ["c-0", "c-1", "impatient", "patient"]
    assert all(opening.ended for opening in recording.openings)
    assert by_name["impatient"].held_s is None
    acquired = {
        event.key.conversation: event for event in events if isinstance(event, LockAcquired) and event.key
    }
    released = {
        event.key.conversation: event for event in events if isinstance(event, LockReleased) and event.key
    }
    for name in ("c-0", "c-1", "patient"):
        assert by_name[name].waited_s == acquired[name].waited_s
        assert by_name[name].held_s == released[name].held_s
    assert len({opening.caller for opening in recording.openings}) == 4
    assert None not in {opening.caller for opening in recording.openings}


async def test_recording_that_ends_early_keeps_what_was_seen() -> None:
    """An opening that still waits or holds counts up to the last event, and says so."""
    events = [
        event for event in await events_of_a_run() if not isinstance(event, (LockReleased, LockWaitAbandoned))
    ]
    recording = Recording.of(events)
    assert not any(opening.ended for opening in recording.openings)
    first, *_ = recording.openings
    assert first.ended_at == pytest.approx(max(event.at for event in events), abs=1e-3)


async def test_recording_that_begins_late_says_what_it_lacks() -> None:
    """An opening of which only the end was kept is left out, and counted."""
    events = await events_of_a_run()
    first = next(index for index, event in enumerate(events) if isinstance(event, LockAcquired))
    recording = Recording.of(events[first + 1 :])
    assert (len(recording.openings), recording.cut) == (3, 1)


async def test_permits_are_those_given_then_those_seen_then_the_default() -> None:
    """Without a wait nobody can see how many there were."""
    events = await events_of_a_run(permits=3)
    assert Recording.of(events).in_force.permits == 3
    assert Recording.of(events, permits=5).in_force.permits == 5
    calm = [event for event in events if not isinstance(event, LockWaitStarted)]
    assert Recording.of(calm).in_force.permits == Settings().permits


async def test_managers_that_cannot_be_told_apart_are_refused() -> None:
    """Openings under two granularities come from two managers; a run without any has nothing to say."""
    events = await events_of_a_run()
    other = [replace(event, granularity=TRANSPORT) for event in events if isinstance(event, LockAcquired)]
    with pytest.raises(RecordingError, match="openings under global and transport are mixed"):
        Recording.of([*events, *other])
    with pytest.raises(RecordingError, match="no opening was recorded"):
        Recording.of([])


def test_saved_recording_is_loaded_as_it_was(tmp_path: Path) -> None:
    """Everything survives the file, under any granularity."""
    recording = Recording.of(asyncio.run(events_of_a_run()))
    for each in (recording, replace(recording, in_force=Option(SESSION), cut=3)):
        save(each, tmp_path / "run.jsonl")
        assert load(tmp_path / "run.jsonl") == each


HEADER = '{"format": "instrumented-sessions openings", "version": 1, "granularity": "global", "permits": 2}'
GOOD = '{"asked_at": 1.0, "transport": "a", "conversation": "c", "waited_s": 0, "held_s": 1}'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "line 1: the file is empty"),
        (["# A page"], "line 1: not JSON"),
        (["\x00\xff"], "line 1: not JSON"),
        (["[1, 2]"], "line 1: not a JSON object"),
        ([GOOD], "line 1: not a recording: one begins with a header, see docs/tuning.md"),
        ([HEADER.replace('"version": 1', '"version": 2')], "line 1: version 2 is not known"),
        ([HEADER.replace("global", "planet")], "line 1: 'planet' is not a valid LockGranularity"),
        ([HEADER.replace('"permits": 2', '"permits": null')], "line 1: permits must be 1 or more"),
        ([HEADER.replace('"permits": 2', '"permits": "2"')], "line 1: permits and cut must be whole numbers"),
        ([HEADER], "line 1: no opening was recorded"),
        ([HEADER, GOOD, "", GOOD], "line 3: not JSON"),
        ([HEADER, GOOD, GOOD[:-9]], "line 3: not JSON"),
        ([HEADER, GOOD.replace('"a"', "7")], "line 2: transport must be a text; got 7"),
        ([HEADER, GOOD.replace("1.0", "null")], "line 2: asked_at must be a number of seconds"),
        ([HEADER, GOOD.replace('"waited_s": 0', '"waited_s": -1')], "line 2: waited_s must be a number"),
        ([HEADER, GOOD.replace('"held_s": 1', '"held_s": NaN')], "line 2: held_s must be a number"),
        ([HEADER, GOOD.replace("}", ', "caller": 5}')], "line 2: caller must be a text or null; got 5"),
        ([HEADER, GOOD.replace("}", ', "ended": 5}')], "line 2: ended must be true or false; got 5"),
    ],
)  # fmt: skip
def test_bad_file_is_refused_with_its_name_and_line(lines: list[str], said: str, tmp_path: Path) -> None:
    """Whatever a file holds, the error says where it is wrong."""
    path = tmp_path / "run.jsonl"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("latin-1"))
    with pytest.raises(RecordingError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}, {said}")


def test_file_of_a_later_release_may_say_more(tmp_path: Path) -> None:
    """Facts that this release does not know are left alone."""
    path = tmp_path / "run.jsonl"
    path.write_text("\n".join([HEADER.replace("}", ', "host": "h"}'), GOOD.replace("}", ', "extra": 1}')]))
    assert len(load(path).openings) == 1
