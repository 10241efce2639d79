"""The dashboard in a process of its own, for the time of the demo."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from . import leash
from .fleet import last_line
from .problem import Problem

DEFAULT_PORT = 4318
"""The port of OTLP/HTTP, so that programs find a dashboard without being told where it is."""

DEFAULT_ADDRESS = f"http://127.0.0.1:{DEFAULT_PORT}"
"""Where a dashboard is when nobody says otherwise."""

START_LIMIT_S = 30.0
"""How long the dashboard may take to answer, in seconds."""

_HOST = "127.0.0.1"
_LOOK_INTERVAL_S = 0.1


def reserve_port(port: int, option: str, *, host: str = _HOST) -> int:
    """Return `port` if this program can listen on it, a free one for 0.

    Raises:
        Problem: It is taken, or not ours to use; names the command line `option` that can change it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        why = error.strerror or error
        raise Problem(f"cannot listen on {host}:{port} ({why}); choose another with {option}") from None


def answers(address: str, *, timeout_s: float = 1.0) -> bool:
    """Return whether a dashboard at `address` says that it is well, within `timeout_s` seconds."""
    # The environment's proxies are not asked: a dashboard is asked directly or not at all.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address.rstrip('/')}/healthz", timeout=timeout_s) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, urllib.error.URLError):
        return False


class Dashboard:
    """The dashboard's process as a context manager.

    Args:
        directory: Where its database and its error output go.
        port: 0 (default): any that is free.
        stop: Set by the program to give up waiting for it to start.

    Raises:
        Problem: The port is taken.
    """

    def __init__(self, directory: Path, *, port: int = 0, stop: threading.Event) -> None:
        self._port = reserve_port(port, "--port")
        self._database = directory / "dashboard.db"
        self._log = directory / "dashboard.log"
        self._stop = stop

    @property
    def address(self) -> str:
        """Where its page is and where OTLP/HTTP goes."""
        return f"http://{_HOST}:{self._port}"

    def __enter__(self) -> Dashboard:
        self._process = leash.start(
            "instrumented_sessions",
            "dashboard",
            f"--host={_HOST}",
            f"--port={self._port}",
            f"--db={self._database}",
            log=self._log,
        )
        return self

    def wait_until_ready(self) -> None:
        """Wait until it answers, or `stop` is set.

        Raises:
            Problem: It ended, or does not answer in time.
        """
        deadline = time.monotonic() + START_LIMIT_S
        while not self._stop.is_set() and not answers(self.address):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Problem(f"the dashboard did not start; {last_line(self._log)}", exit_code=1)
            self._stop.wait(_LOOK_INTERVAL_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leash.end(self._process, grace_s=0.7)
