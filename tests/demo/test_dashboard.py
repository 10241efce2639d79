"""The dashboard's process comes up with an address, or says why not."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from instrumented_sessions.demo.dashboard import Dashboard, answers, check_port
from instrumented_sessions.demo.problem import Problem
from tests.demo.processes import need_full_installation


@pytest.fixture(autouse=True)
def installed() -> None:
    need_full_installation()


def test_dashboard_answers_at_the_address_it_tells(tmp_path: Path) -> None:
    """It answers from the moment that its address is known, and no longer than the demo."""
    with Dashboard(tmp_path, port=0, stop=threading.Event()) as dashboard:
        address = dashboard.wait_for_address()
        assert answers(address, timeout_s=5.0)
    assert not answers(address)


def test_port_lost_meanwhile_is_a_problem_with_its_last_words(tmp_path: Path) -> None:
    """A port that was free a moment ago and is taken now is said in a sentence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    dashboard = Dashboard(tmp_path, port=port, stop=threading.Event())
    with (
        socket.create_server(("127.0.0.1", port)),
        dashboard,
        pytest.raises(Problem, match=f"did not start; it said: .*127.0.0.1:{port}"),
    ):
        dashboard.wait_for_address()


def test_stopped_start_does_not_wait(tmp_path: Path) -> None:
    """Somebody who stops the demo while it starts gets no address and no complaint."""
    stop = threading.Event()
    stop.set()
    with Dashboard(tmp_path, port=0, stop=stop) as dashboard:
        assert dashboard.wait_for_address() == ""


def test_free_port_is_well() -> None:
    """Any port will do when any is asked for."""
    check_port(0, "--port")
