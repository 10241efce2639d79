"""The diagnostics of a process: what it answers, to whom, and what doctor makes of it."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest

from instrumented_sessions import SessionManager, ThreadLock
from instrumented_sessions.chain import CodeLocation
from instrumented_sessions.cli import diagnosis, main
from instrumented_sessions.events import (
    Event,
    LockWaitStarted,
    LoopRecovered,
    LoopStalled,
    StackSample,
    StallReport,
)
from instrumented_sessions.integrations.auto import server
from instrumented_sessions.integrations.auto.instrumentation import Instrumentation
from instrumented_sessions.observer import AMBIENT
from instrumented_sessions.vocabulary import Phase, StallCause

WHERE = CodeLocation("work", "/home/me/agent.py", 12)


def ask(instrumented: Instrumentation, path: str, **headers: str) -> tuple[int, str]:
    assert instrumented.diagnostics is not None
    request = urllib.request.Request(
        instrumented.diagnostics.address + path,
        headers={name.replace("_", "-"): text for name, text in headers.items()},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def stalled(duration_s: float = 3.0, *, ongoing: bool = True) -> StallReport:
    return StallReport(
        loop="main",
        thread_id=1,
        started_at=0.0,
        duration_s=duration_s,
        ongoing=ongoing,
        cause=StallCause.CPU,
        culprit=WHERE,
        stacks=(StackSample((WHERE,), 3),),
        stall_id=-1,
    )


def test_every_path_answers(instrumented: Instrumentation) -> None:
    """Sentences as text, data as JSON, metrics in Prometheus' form."""
    with SessionManager():
        assert ask(instrumented, "/explain") == (200, "Nothing waits, and every loop runs.\n")
        assert ask(instrumented, "/hangs") == (200, "[]\n")
        assert ask(instrumented, "/stalls") == (200, "[]\n")
        statistics = json.loads(ask(instrumented, "/statistics")[1])
        assert statistics["managers"] >= 1
        assert statistics["counters"]["calls_ok"] >= 0
    assert "Thread 'MainThread'" in ask(instrumented, "/stacks")[1]
    assert "instrumented_sessions_sessions" in ask(instrumented, "/metrics")[1]
    assert json.loads(ask(instrumented, "/healthz")[1])["service"] == diagnosis.SERVICE
    assert ask(instrumented, "/")[0] == 200
    assert ask(instrumented, "/nothing")[0] == 404
    assert ask(instrumented, "/hangs?older_than_s=-1")[0] == 400


def test_wait_for_a_lock_of_the_program_is_told(instrumented: Instrumentation) -> None:
    """The users' own locks are in it, once, whatever managers there are."""
    lock, waits = ThreadLock("a lock of the program"), _WaitStarted()
    waiter = threading.Thread(target=lambda: lock.acquire() and lock.release())
    AMBIENT.add(waits)
    lock.acquire()
    waiter.start()
    try:
        assert waits.told.wait(20)
        with SessionManager(), SessionManager():
            (chain,) = json.loads(ask(instrumented, "/hangs")[1])
        assert "a lock of the program" in chain["summary"]
        assert chain["links"][0]["holder"]["thread_name"] == "MainThread"
    finally:
        lock.release()
        waiter.join(20)
        AMBIENT.remove(waits)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "user@127.0.0.1"}, 421),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:1"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
    ],
    ids=str,
)
def test_requests_from_elsewhere_are_refused(
    headers: dict[str, str], status: int, instrumented: Instrumentation
) -> None:
    """No web page can read it: neither under a name of its own nor by a request across sites."""
    assert ask(instrumented, "/explain", **headers)[0] == status


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", ("127.0.0.1", 0)),
        ("9465", ("127.0.0.1", 9465)),
        ("localhost:9465", ("localhost", 9465)),
        ("[::1]:9465", ("::1", 9465)),
        ("none", None),
    ],
)
def test_address_is_read_from_the_environment(text: str, address: Any) -> None:
    """A port, an address, or nothing at all; any free port by default."""
    assert server.wanted_address({server.VARIABLE: text}) == address


@pytest.mark.parametrize("text", ["0.0.0.0:9465", "example.com:1", "127.0.0.1:99999", "here"])
def test_address_of_others_is_refused(text: str) -> None:
    """It listens for this machine only."""
    with pytest.raises(ValueError, match="must be a port"):
        server.wanted_address({server.VARIABLE: text})


def test_doctor_is_content_with_an_agent_that_runs(
    instrumented: Instrumentation, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0, and a sentence; the address needs no scheme."""
    assert instrumented.diagnostics is not None
    assert main(["doctor", instrumented.diagnostics.address.removeprefix("http://")]) == 0
    assert "ok      every loop runs, and nothing has waited for long" in capsys.readouterr().out


def test_doctor_names_the_stall_and_what_to_do(
    instrumented: Instrumentation, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loop, the cause and the line, until it runs again."""
    assert instrumented.diagnostics is not None
    instrumented.stalls.on_event(LoopStalled(0.0, stalled()))
    assert ", cause cpu, at work (me/agent.py:12)." in instrumented.view.explain()
    assert main(["doctor", instrumented.diagnostics.address]) == 1
    said = capsys.readouterr().out
    assert "WRONG   loop 'main' has not run for" in said
    assert "cause cpu at work (me/agent.py:12)" in said
    assert f"What to do: {diagnosis.FOR_CAUSE['cpu']}." in said
    instrumented.stalls.on_event(LoopRecovered(0.0, stalled(ongoing=False)))
    assert main(["doctor", instrumented.diagnostics.address]) == 0


def test_every_cause_and_phase_has_an_advice() -> None:
    """The doctor is never at a loss."""
    assert set(diagnosis.FOR_CAUSE) == {cause.value for cause in StallCause}
    assert set(diagnosis.FOR_PHASE) == {phase.value for phase in Phase}


class _WaitStarted:
    """Hears that somebody waits for a lock."""

    def __init__(self) -> None:
        self.told = threading.Event()

    def on_event(self, event: Event) -> None:
        if isinstance(event, LockWaitStarted):
            self.told.set()
