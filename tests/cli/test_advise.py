"""`advise`: a table, a sentence, JSON for programs, and bad files told in a sentence."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from instrumented_sessions import LockGranularity, SessionManager, SessionState, Settings, cli
from instrumented_sessions.advisor import Recording, save
from instrumented_sessions.events import LockReleased
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport

STARTS = 6


async def slow_starts(granularity: LockGranularity) -> Recording:
    """Starts of eight conversations on two transports, one permit a lock; all ask before one is served."""
    recorder = Recorder()
    settings = Settings(granularity=granularity, permits=1)
    async with SessionManager(settings, observers=[recorder]) as manager:
        for start in range(STARTS):
            transports = [FakeTransport(name) for name in (f"a{start}", f"b{start}")]
            for transport in transports:
                transport.connecting.close()
            asked = [
                asyncio.create_task(manager.asession(transport, f"c-{number}"))
                for transport in transports
                for number in range(4)
            ]
            while manager.statistics().sessions.get(SessionState.CREATING) != 8:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)  # The wait that is to be seen.
            for transport in transports:
                transport.connecting.open()
            await asyncio.gather(*asked)
    assert len(recorder.of(LockReleased)) == 8 * STARTS
    return Recording.of(recorder.events, permits=1)


def advised(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert cli.main(["advise", str(path), *options]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


@pytest.mark.scenario("S6")
@pytest.mark.parametrize(
    ("granularity", "waits"),
    [(LockGranularity.GLOBAL, 7), (LockGranularity.TRANSPORT, 6), (LockGranularity.SESSION, 0)],
)
def test_advise_shows_the_wait_of_a_slow_start_move(
    granularity: LockGranularity, waits: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measured: seven of eight wait under one lock, six under one for each transport, else none.

    From each run, the replay of the finer locks has less waiting, and the sentences name the contention.
    """
    recording = asyncio.run(slow_starts(granularity))
    save(recording, tmp_path / "start.jsonl")
    said = advised(tmp_path / "start.jsonl", capsys)
    openings = 8 * STARTS
    if waits:
        assert f"Contention: {waits * STARTS} of {openings} openings waited for their lock" in said
    else:
        assert f"Contention: None of {openings} openings waited for its lock." in said
    told = json.loads(advised(tmp_path / "start.jsonl", capsys, "--json"))
    assert told["measured"]["waited"] == waits * STARTS
    sums = {(each["granularity"], each["permits"]): each["sum_s"] for each in told["predicted"]}
    assert sums["session", None] == 0.0
    assert sums["global", 1] >= sums["transport", 1] >= sums["session", None]
    if waits:
        assert sums[granularity, 1] == pytest.approx(told["measured"]["sum_s"], rel=0.25, abs=1.0)
        assert sums["global", 1] > sums["session", None]


def test_demo_records_and_advises_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A real run of two seconds has contention that finer locks would have spared it."""
    assert cli.main(["advise", "--demo"]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0].startswith("96 openings of 2 transports in ")
    assert lines[0].endswith("under global with 2 permits")
    assert sum(line.startswith(("replayed", "advised")) for line in lines) == 11
    assert "openings waited for their lock" in said
    assert "Advice: " in said


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "line 1: the file is empty"), (b"# A page\n", "line 1: not JSON"), (None, "No such file")],
)
def test_bad_file_is_said_in_a_sentence(
    content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence names the file and the line; the exit code is 2, and there is no traceback."""
    path = tmp_path / "run.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["advise", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("instrumented-sessions advise: error: ")
    assert str(path) in printed.err
    assert said in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "one of the arguments FILE --demo is required"),
        (["run.jsonl", "--demo"], "not allowed with"),
        (["run.jsonl", "--permits", "0"], "--permits: must be a whole number, 1 or more; got '0'"),
    ],
    ids=" ".join,
)
def test_bad_arguments_are_said_in_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file or the demo, not both; permits are counted from one."""
    assert cli.main(["advise", *arguments]) == 2
    assert said in capsys.readouterr().err
