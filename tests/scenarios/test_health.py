"""S33, S34: servers that flap, and health checks by the protocol's era."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from instrumented_sessions import (
    Session,
    SessionManager,
    SessionOpenError,
    SessionState,
    SessionTimeoutError,
    Settings,
    live,
)
from instrumented_sessions.events import Event, OpeningEnded, OpeningStarted
from instrumented_sessions.manager.backoff import Backoff
from instrumented_sessions.telemetry.measure import Measure
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.transports import StdioTransport, StreamableHTTPTransport
from instrumented_sessions.transports.sdk import SDK_GENERATION
from instrumented_sessions.vocabulary import OpenFailure, Outcome
from tests import servers
from tests.manager.test_doors import until
from tests.manager.wires import LIMIT_S, Door, text
from tests.servers import raw

from .wires import let_it_have_idled, let_it_have_lived

ERAS = ["legacy", "modern"] if SDK_GENERATION == 2 else ["legacy"]
CHECKS = {"legacy": "ping", "modern": "server/discover"}


@contextmanager
def server_of(kind: str, era: str, journal: servers.Journal) -> Iterator[Any]:
    """Give a transport of `kind` to a server that speaks one era only."""
    options = servers.options(era=era, journal=journal.path)
    if kind == "stdio":
        command, args = servers.command(*options)
        yield StdioTransport(id="one", command=command, args=args)
        return
    with servers.running("http", *options) as server:
        yield StreamableHTTPTransport(id="one", url=server.url)


@pytest.mark.scenario("S34")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_idle_session_is_checked_as_its_era_does(
    manager: SessionManager, kind: str, era: str, tmp_path: Path
) -> None:
    """`ping` for the handshake protocols, `server/discover` for the others; only after a long idle time."""
    journal = servers.Journal(tmp_path / "journal")
    other = next(check for check in CHECKS.values() if check != CHECKS[era])
    with server_of(kind, era, journal) as transport:
        session = await manager.asession(transport, timeout_s=LIMIT_S)
        opening = journal.lines()
        for word in ("busy", "still busy"):
            assert text(await session.acall_tool("echo", {"text": word}, timeout_s=LIMIT_S)) == word
        assert _checks(journal, opening) == []
        let_it_have_idled(session)
        assert text(await session.acall_tool("echo", {"text": "idle"}, timeout_s=LIMIT_S)) == "idle"
        assert _checks(journal, opening) == [CHECKS[era]]
        assert other not in _checks(journal, opening)
        assert text(await session.acall_tool("echo", {"text": "busy"}, timeout_s=LIMIT_S)) == "busy"
        assert len(_checks(journal, opening)) == 1
        assert session.generation == 1
        await manager.aclose()


def _checks(journal: servers.Journal, opening: list[str]) -> list[str]:
    return [line.split()[1] for line in journal.lines()[len(opening) :] if line.split()[1] in CHECKS.values()]


@pytest.mark.scenario("S34")
async def test_dead_session_that_a_check_finds_is_replaced_before_the_call(
    manager: SessionManager, door: Door
) -> None:
    """The call that asked for the check was not sent: it runs on the next generation, once."""
    seen: list[str] = []

    def gone(request: raw.Request) -> None:
        seen.append(request.rpc)
        request.error(-32600, "Session not found", status=404)

    with raw.Raw(raw.mcp(ping=gone)) as server:
        transport = StreamableHTTPTransport(id="one", url=server.url())
        session = await door.session(manager, transport, timeout_s=LIMIT_S)
        let_it_have_lived(session)
        let_it_have_idled(session)
        assert text(await door.call_tool(session, "echo", timeout_s=LIMIT_S)) == "ok"
        assert (session.generation, seen) == (2, ["ping"])
        assert [request.rpc for request in server.requests].count("tools/call") == 1


@pytest.mark.scenario("S34")
async def test_session_that_is_lost_during_its_check_costs_no_call(
    manager: SessionManager, door: Door
) -> None:
    """What waits for the check was not sent: it runs on the next generation, though the child died."""
    transport = FakeTransport()
    session = await door.session(manager, transport)
    let_it_have_lived(session)
    let_it_have_idled(session)
    transport.calling.close()
    call = asyncio.create_task(door.call_tool(session, "echo", {"text": "once"}, timeout_s=LIMIT_S))
    await transport.calling.await_for(1)  # The check.
    transport.lose(ConnectionResetError())
    await until(lambda: session.state is SessionState.BROKEN)
    transport.calling.open()
    assert text(await call) == "once"
    assert session.generation == 2


@pytest.mark.scenario("S34")
async def test_check_that_gets_no_answer_is_part_of_the_call_s_limit(
    manager: SessionManager, door: Door
) -> None:
    """A server that is silent to the check holds its caller no longer than the call's own limit."""
    with raw.Raw(raw.mcp(ping=raw.silent)) as server:
        transport = StreamableHTTPTransport(id="one", url=server.url())
        session = await door.session(manager, transport, timeout_s=LIMIT_S)
        let_it_have_idled(session)
        with pytest.raises(TimeoutError):
            await door.call_tool(session, "echo", timeout_s=0.1)
        assert [request.rpc for request in server.requests].count("tools/call") == 0


class Flap:
    """A transport of any kind that fails until it is healed."""

    def __init__(self, kind: str, tmp_path: Path) -> None:
        self._sign = tmp_path / "healthy"
        self._server: raw.Raw | None = None
        self.transport: Any
        if kind == "fake":
            self.transport = FakeTransport("flaps")
            self.transport.failures.extend(ConnectionRefusedError() for _ in range(1000))
        elif kind == "stdio":
            run = f"[ -e {self._sign} ] && exec {sys.executable} {raw.STDIO} good; exit 3"
            self.transport = StdioTransport(id="flaps", command="sh", args=["-c", run])
        else:
            self._server = raw.Raw(lambda request: self._behave(request)).__enter__()
            self.transport = StreamableHTTPTransport(id="flaps", url=self._server.url())

    def _behave(self, request: raw.Request) -> None:
        (raw.mcp() if self._sign.exists() else raw.status(503))(request)

    def heal(self) -> None:
        self._sign.touch()
        if isinstance(self.transport, FakeTransport):
            self.transport.failures.clear()

    def close(self) -> None:
        if self._server is not None:
            self._server.__exit__(None, None, None)


class Attempts:
    """Counts the openings that are under way, as an observer."""

    def __init__(self) -> None:
        self.at_once = 0
        self.most_after_a_failure = 0
        self.failed = 0
        self.succeeded = 0

    def on_event(self, event: Event) -> None:
        if isinstance(event, OpeningStarted):
            self.at_once += 1
            if self.failed >= 4 and not self.succeeded:  # The first four went together, on four permits.
                self.most_after_a_failure = max(self.most_after_a_failure, self.at_once)
        elif isinstance(event, OpeningEnded):
            self.at_once -= 1
            self.failed += event.outcome is Outcome.ERROR
            self.succeeded += event.outcome is Outcome.OK


class Measured:
    """Keeps what would be exported as metrics, as an observer."""

    def __init__(self) -> None:
        self.measure = Measure()
        self.labels: dict[str, set[tuple[str, ...]]] = {}

    def on_event(self, event: Event) -> None:
        for sample in self.measure.samples(event):
            self.labels.setdefault(sample.metric.name, set()).add(sample.labels)


@pytest.mark.scenario("S33")
@pytest.mark.parametrize("kind", ["fake", "stdio", "http"])
async def test_flapping_server_sees_one_attempt_at_a_time(door: Door, kind: str, tmp_path: Path) -> None:
    """Ten conversations on a server that fails and recovers: single probes, then all of them get in."""
    attempts, measured = Attempts(), Measured()
    settings = Settings(backoff_initial_s=0.02, backoff_max_s=0.05)
    flap = Flap(kind, tmp_path)
    async with SessionManager(settings, observers=[attempts, measured]) as manager:

        async def insist(conversation: str) -> Session:
            while True:
                try:
                    return await door.session(manager, flap.transport, conversation, timeout_s=LIMIT_S)
                except SessionOpenError:
                    pass

        asked = [asyncio.create_task(insist(f"c-{number}")) for number in range(10)]
        await until(lambda: attempts.failed >= 7)
        refused = await _refusal(door, manager, flap.transport)
        assert refused.retry_after_s is not None
        flap.heal()
        sessions = await asyncio.wait_for(asyncio.gather(*asked), LIMIT_S)
        assert {session.state for session in sessions} == {SessionState.READY}
        assert attempts.most_after_a_failure == 1
    flap.close()
    requests = measured.measure.read(live.Reading())["instrumented_sessions.session.requests"]
    assert requests["flaps", "refused"] >= 1
    assert requests["flaps", "error"] >= 7
    assert ("flaps", "error") in measured.labels["instrumented_sessions.session.create.duration"]


async def _refusal(door: Door, manager: SessionManager, transport: Any) -> SessionOpenError:
    """Ask with too short a limit until a back-off refuses it at once."""
    while True:
        try:
            await door.session(manager, transport, "hasty", timeout_s=0.005)
        except SessionOpenError as error:
            if error.category is OpenFailure.BACKOFF:
                return error
        except SessionTimeoutError:
            pass  # Between two pauses.


@pytest.mark.scenario("S34")
async def test_server_that_refuses_the_check_is_alive(manager: SessionManager, door: Door) -> None:
    """An old server that knows no `ping` keeps its session."""
    with raw.Raw(raw.mcp(ping=lambda request: request.error(-32601, "Method not found"))) as server:
        session = await door.session(manager, StreamableHTTPTransport(id="one", url=server.url()))
        let_it_have_idled(session)
        assert text(await door.call_tool(session, "echo", timeout_s=LIMIT_S)) == "ok"
        assert session.generation == 1


@pytest.mark.scenario("S33")
def test_pauses_grow_have_jitter_and_an_end() -> None:
    """Two processes that fail together do not come back together, and none waits longer than the limit."""
    settings = Settings(backoff_initial_s=0.5, backoff_max_s=4.0)
    series = []
    for seed in (1, 2):
        backoff, pauses, now = Backoff(settings, random.Random(seed)), [], 1_000.0
        for _ in range(8):
            backoff.failed(now, now)
            assert backoff.retry_at is not None
            pauses.append(backoff.retry_at - now)
            now = backoff.retry_at
            backoff.pause_over(now)
        for pause, longest in zip(pauses, (0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0), strict=True):
            assert longest / 2 - 1e-9 <= pause <= longest + 1e-9
        series.append(pauses)
    assert all(abs(one - other) > 1e-6 for one, other in zip(*series, strict=True))
