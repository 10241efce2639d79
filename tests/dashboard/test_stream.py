"""The live stream."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from instrumented_sessions.telemetry import catalog
from tests.dashboard.agent import agent, session
from tests.dashboard.conftest import LIMIT_S, Served, serving


@contextmanager
def listening(served: Served) -> Iterator[Iterator[dict[str, Any]]]:
    """Open the stream and lend its snapshots."""
    connection = http.client.HTTPConnection(served.address.removeprefix("http://"), timeout=LIMIT_S)
    connection.request("GET", "/api/v1/stream", headers={"accept": "text/event-stream"})
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")

    def snapshots() -> Iterator[dict[str, Any]]:
        event = ""
        for raw in iter(answer.readline, b""):
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: ") and event == "now":
                yield json.loads(line.removeprefix("data: "))

    try:
        yield snapshots()
    finally:
        answer.close()
        connection.close()


def test_listener_gets_a_snapshot_at_once_and_what_arrives_after(served: Served) -> None:
    """A new wait is seen without asking, and so is its end."""
    with listening(served) as snapshots, agent(served.address) as program:
        assert next(snapshots)["waits"] == []
        span = program.start(catalog.SPAN_ACQUIRE, 2.0, session("search"))
        program.report_now(span)
        program.flush()
        shown = next(one for one in snapshots if one["waits"])
        assert shown["waits"][0]["transport"] == "search"
        assert shown["verdict"]["level"] in ("warn", "bad")
        program.end(span)
        program.flush()
        assert next(one for one in snapshots if not one["waits"])["waits_total"] == 0


def test_snapshots_come_while_nothing_arrives(served: Served) -> None:
    """A page can tell a quiet system from a lost line."""
    with listening(served) as snapshots:
        first, second, third = (next(snapshots) for _ in range(3))
        assert first["at"] < second["at"] < third["at"]
        assert third["at"] - first["at"] < LIMIT_S


def test_several_listeners_get_the_same(served: Served) -> None:
    """Each gets what arrives, and one that leaves does not disturb the others."""
    with listening(served) as staying, agent(served.address) as program:
        with listening(served) as leaving:
            next(leaving)
        program.report_now(program.start(catalog.SPAN_ACQUIRE, 2.0, session("search")))
        program.flush()
        assert next(one for one in staying if one["waits"])


def test_server_ends_while_somebody_listens() -> None:
    """An open page does not keep the dashboard from ending."""
    ended = threading.Event()

    def read(snapshots: Iterator[dict[str, Any]]) -> None:
        for _ in snapshots:
            pass
        ended.set()

    with serving() as served:
        lent = listening(served)
        snapshots = lent.__enter__()
        next(snapshots)
        reader = threading.Thread(target=read, args=(snapshots,), name="listener")
        reader.start()
    assert ended.wait(LIMIT_S)
    reader.join(LIMIT_S)
    lent.__exit__(None, None, None)
