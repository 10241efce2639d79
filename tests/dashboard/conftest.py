"""A dashboard on a free port of 127.0.0.1, in a thread of this process."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from instrumented_sessions_dashboard.app import create_app
from instrumented_sessions_dashboard.server import Server, listen

LIMIT_S = 10.0


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


class Served(NamedTuple):
    """A dashboard that answers."""

    address: str

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        method: str | None = None,
    ) -> Answer:
        request = urllib.request.Request(self.address + path, body, headers or {}, method=method)
        try:
            with _OPENER.open(request, timeout=LIMIT_S) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def get(self, path: str) -> Any:
        answer = self.ask(path)
        assert answer.status == 200, answer
        return answer.json


@contextmanager
def serving(*, host: str = "127.0.0.1", port: int = 0, **options: Any) -> Iterator[Served]:
    """Run a dashboard for the time of the block; it always listens on 127.0.0.1, whatever `host` tells it."""
    ready = threading.Event()
    addresses: list[str] = []
    listener = listen("127.0.0.1", port)

    def announce(address: str) -> None:
        addresses.append(address)
        ready.set()

    server = Server(create_app(host=host, **options), listener, announce)
    thread = threading.Thread(target=server.run_here, name="dashboard-under-test")
    thread.start()
    try:
        assert ready.wait(LIMIT_S), "the dashboard did not start"
        yield Served(addresses[0])
    finally:
        server.should_exit = True
        thread.join(LIMIT_S)
        listener.close()
        assert not thread.is_alive(), "the dashboard did not end"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A dashboard with a database file."""
    with serving(db=tmp_path / "instrumented_sessions_dashboard.db") as found:
        yield found
