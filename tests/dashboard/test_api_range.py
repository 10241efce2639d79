"""The API when a link asks for a range of time that is over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from instrumented_sessions.telemetry import catalog
from tests.dashboard.agent import Agent, agent, session
from tests.dashboard.conftest import Served

PATHS = ("transports", "loops", "timeline")
HOUR_S = 3_600.0


@pytest.fixture
def program(served: Served) -> Iterator[Agent]:
    with agent(served.address) as found:
        yield found


def ask(served: Served, path: str, from_ago_s: float, to_ago_s: float) -> Any:
    now_ms = int(time.time() * 1000)
    since, until = now_ms - int(from_ago_s * 1000), now_ms - int(to_ago_s * 1000)
    return served.get(f"/api/v1/{path}?from={since}&to={until}")


@pytest.mark.parametrize("ago_s", [2 * HOUR_S, 9 * HOUR_S])
def test_range_shows_what_was_then_and_nothing_else(served: Served, program: Agent, ago_s: float) -> None:
    """Transports, loops and lanes are those of the range, also where only coarse sums are kept."""
    for name, when_s in (("then", ago_s), ("now", 1.0), ("before", ago_s + 2 * HOUR_S)):
        program.done(catalog.SPAN_LOCK_WAIT, when_s, 4.0, session(name, lock="opening"))
        program.done(catalog.SPAN_STALL, when_s, 2.0, {catalog.LOOP: name, catalog.CAUSE: "cpu"}, "ok")
    program.set(catalog.LOOP_HEARTBEAT_AGE, 0.1, "now")
    program.flush()
    answers = {path: ask(served, path, ago_s + HOUR_S / 2, ago_s - HOUR_S / 2) for path in PATHS}
    (transport,) = answers["transports"]["transports"]
    assert (transport["transport"], transport["lock_wait"]["count"]) == ("then", 1)
    assert sum(point["lock_waiting"] for point in transport["points"]) > 0
    assert [loop["loop"] for loop in answers["loops"]["loops"]] == ["then"]
    assert [stall["loop"] for stall in answers["loops"]["stalls"]] == ["then"]
    assert [lane["transport"] for lane in answers["timeline"]["lanes"]] == ["then"]
    assert answers["timeline"]["until"] - answers["timeline"]["since"] == pytest.approx(HOUR_S)


def test_wait_that_lasts_is_part_of_ranges_it_touches(served: Served, program: Agent) -> None:
    """An open wait counts from its begin, to the end of the range; gauges tell of now and never count."""
    span = program.start(catalog.SPAN_LOCK_WAIT, 1_000.0, session("search", lock="opening"))
    program.report_now(span)
    program.set(catalog.LOCK_WAITERS, 3, "gauged", "opening")
    program.set(catalog.LOCK_OLDEST_WAITER_AGE, 900.0, "gauged", "opening")
    program.flush()
    (transport,) = ask(served, "transports", 1_500, 500)["transports"]
    assert (transport["transport"], transport["waiters"]) == ("search", 0)
    answer = ask(served, "timeline", 1_500, 500)
    ((bar,),) = [lane["bars"] for lane in answer["lanes"]]
    assert bar["ongoing"]
    assert bar["ended_at"] == pytest.approx(answer["until"])
    assert ask(served, "transports", 4_000, 2_000)["transports"] == []
    assert ask(served, "timeline", 4_000, 2_000)["lanes"] == []
    program.end(span)


@pytest.mark.parametrize("path", PATHS)
def test_range_without_anything_stored_is_empty(served: Served, program: Agent, path: str) -> None:
    """It is no error: the lists are empty, and the answer says for which time."""
    program.done(catalog.SPAN_LOCK_WAIT, 1.0, 0.5, session("weather", lock="opening"))
    program.flush()
    answer = ask(served, path, 5 * HOUR_S, 4 * HOUR_S)
    assert answer["until"] - answer["since"] == pytest.approx(HOUR_S, abs=120)
    assert not any(value for value in answer.values() if isinstance(value, list))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("from=now-1h&to=1", "got 'now-1h'"),
        ("from=1", "to is missing"),
        ("from=2&to=1", "got from=2 and to=1"),
        (f"from=1&to={quote('<b>')}", "got '<b>'"),
    ],
)
def test_bad_range_is_refused_with_its_value(served: Served, path: str, asked: str, said: str) -> None:
    """400, and a sentence that names the value."""
    answer = served.ask(f"/api/v1/{path}?{asked}")
    assert answer.status == 400
    assert said in answer.json["detail"]
