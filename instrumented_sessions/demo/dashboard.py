"""The dashboard in a process of its own, for the time of the demo."""

from __future__ import annotations

import socket
import subprocess
import threading
import urllib.request
from pathlib import Path
from types import TracebackType

from . import leash
from .problem import Problem

DEFAULT_ADDRESS = "http://127.0.0.1:4318"
"""Where a dashboard is when nobody says otherwise; OTLP/HTTP's own port, so that programs find it."""

START_LIMIT_S = 30.0
"""How long the dashboard may take to answer, in seconds."""

_GRACE_S = 0.7
_HOST = "127.0.0.1"


def check_port(port: int, option: str) -> None:
    """Check that nobody listens on `port`; 0 is always well.

    Raises:
        Problem: It is taken, or not ours to use; names the command line `option` that can change it.
    """
    try:
        socket.create_server((_HOST, port)).close()
    except OSError as error:
        why = error.strerror or error
        raise Problem(f"cannot listen on {_HOST}:{port} ({why}); choose another with {option}") from None


def answers(address: str, *, timeout_s: float = 1.0) -> bool:
    """Return whether a dashboard at `address` says that it is well, within `timeout_s` seconds."""
    # The environment's proxies are not asked: a dashboard is asked directly or not at all.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address.rstrip('/')}/healthz", timeout=timeout_s) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):  # No answer, or no address.
        return False


class Dashboard:
    """The dashboard's process as a context manager: entering starts it, leaving ends it.

    Args:
        directory: Where its error output goes.
        port: 0: any that is free.
        stop: Set by the program to give up waiting for it to start.

    Raises:
        Problem: The port is taken.
    """

    def __init__(self, directory: Path, *, port: int, stop: threading.Event) -> None:
        check_port(port, "--port")
        self._port = port
        self._log = directory / "dashboard.log"
        self._stop = stop
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Dashboard:
        self._process = leash.start(
            "instrumented_sessions_dashboard",
            f"--host={_HOST}",
            f"--port={self._port}",
            log=self._log,
            stdout=subprocess.PIPE,
        )
        return self

    def wait_for_address(self) -> str:
        """Wait until it answers, and return where: its page, and OTLP/HTTP; empty when `stop` was set.

        Raises:
            Problem: It ended, or did not answer in time.
        """
        assert self._process is not None
        line = leash.first_line(self._process, limit_s=START_LIMIT_S, stop=self._stop)
        if not line and not self._stop.is_set():
            raise Problem(f"the dashboard did not start; {leash.last_words(self._log)}", exit_code=1)
        return line.removeprefix("dashboard: ")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        leash.end(self._process, grace_s=_GRACE_S)
