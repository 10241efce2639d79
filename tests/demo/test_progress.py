"""The line of progress fits what reads it."""

from __future__ import annotations

import io

import pytest

from instrumented_sessions.chain import BlockingChain, Party
from instrumented_sessions.demo import progress
from instrumented_sessions.demo.progress import ProgressLine, describe
from instrumented_sessions.vocabulary import Phase, SessionKey


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The instant in seconds; a test moves it."""
    instant = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: instant[0])
    return instant


def test_terminal_gets_one_line_drawn_over_itself(now: list[float]) -> None:
    """On a terminal nothing scrolls."""
    terminal = Terminal()
    line = ProgressLine(terminal)
    line.show("one")
    now[0] += progress.TERMINAL_INTERVAL_S
    line.show("two")
    line.clear()
    assert terminal.getvalue() == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"


@pytest.mark.parametrize(
    ("stream", "live"), [(io.StringIO(), True), (Terminal(), False)], ids=["file", "headless"]
)
def test_elsewhere_lines_are_rare(stream: io.StringIO, live: bool, now: list[float]) -> None:
    """A log file gets whole lines, one every few seconds, and no control characters."""
    line = ProgressLine(stream, live=live)
    for second in range(7):
        now[0] = 100.0 + second
        line.show(f"second {second}")
    line.clear()
    assert stream.getvalue() == "second 0\nsecond 5\n"


def test_line_tells_sessions_waits_and_stalls() -> None:
    """The oldest wait and the loop that stands still are named."""
    chain = BlockingChain(
        SessionKey("notes", "refund-4711"),
        Phase.RESPONSE,
        waited_s=1.25,
        waiter=Party("agent-0", 1),
        started_at=0.0,
    )
    text = describe(75.4, {"ready": 3, "broken": 0, "creating": 1}, [chain], 4, "planner: cpu")
    assert text == (
        "01:15  sessions: 1 creating, 3 ready | waits: 1 | stalls: 4 | stalled now: planner: cpu"
        " | oldest wait: 1.2 s, notes/refund-4711, response"
    )
    assert describe(0.0, {}, [], 0, "") == "00:00  sessions: none | waits: 0 | stalls: 0"
