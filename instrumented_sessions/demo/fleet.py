"""The demo's HTTP servers: started as processes, watched, and started again when they die."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from . import leash
from .problem import Problem

RESTART_DELAY_S = 2.0
"""How long a server stays away when it has died, in seconds."""

START_LIMIT_S = 30.0
"""How long all servers together may take to start, in seconds."""

_LOOK_INTERVAL_S = 0.1


@dataclass(frozen=True)
class ServerPlan:
    """How to start one HTTP server.

    Attributes:
        name: One of `servers.NAMES`.
        arguments: More arguments of the server program.
        lives_s: It crashes after so many seconds, once for each entry; the last one repeats. Empty: never.
    """

    name: str
    arguments: tuple[str, ...] = ()
    lives_s: tuple[float, ...] = ()


class _Member:
    """One server: its plan, and its process of the moment."""

    def __init__(self, plan: ServerPlan, log: Path) -> None:
        self.plan = plan
        self.log = log
        self.port = 0  # Chosen by the system at the first start, kept for all later ones.
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.died_at: float | None = None

    def start(self) -> None:
        lives_s = self.plan.lives_s
        life_s = lives_s[min(self.starts, len(lives_s) - 1)] if lives_s else 0.0
        self.starts += 1
        self.died_at = None
        self.process = leash.start(
            "instrumented_sessions.demo.servers",
            self.plan.name,
            f"--port={self.port}",
            f"--die-after-s={life_s}",
            *self.plan.arguments,
            log=self.log,
            stdout=subprocess.PIPE,
        )

    def has_died(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def end(self) -> None:
        # Killed at once: these servers keep nothing, and a polite end would wait for open streams.
        if self.process is not None:
            leash.end(self.process)
            self.process = None


class Fleet:
    """The HTTP servers as a context manager: entering starts them, leaving ends them.

    One thread starts, watches and ends all of them, because a leash is held by the thread that started.

    Args:
        plans: The servers.
        directory: Where their error output goes, a file for each.
        stop: Set by the program to give up waiting for them to start.

    Raises:
        Problem: On entering, when a server does not start within `START_LIMIT_S`.
    """

    def __init__(self, plans: Sequence[ServerPlan], directory: Path, stop: threading.Event) -> None:
        self._members = [_Member(plan, directory / f"{plan.name}.log") for plan in plans]
        self._stop = stop
        self._left = threading.Event()
        self._started = threading.Event()
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="demo-fleet", daemon=True)

    @property
    def restarts(self) -> int:
        """How often a server was started again, all servers together."""
        return sum(max(0, member.starts - 1) for member in self._members)

    @property
    def process_ids(self) -> list[int]:
        """The servers that are alive now."""
        processes = [member.process for member in self._members]
        return [process.pid for process in processes if process is not None and process.poll() is None]

    def url(self, name: str) -> str:
        """Return the address of the server `name`; stays the same when it comes back."""
        port = next(member.port for member in self._members if member.plan.name == name)
        return f"http://127.0.0.1:{port}/mcp"

    def __enter__(self) -> Fleet:
        self._thread.start()
        self._started.wait()  # Bounded by START_LIMIT_S in the thread.
        if self._problem is not None:
            self._thread.join()
            raise Problem(self._problem, exit_code=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            try:
                self._start_all()
            finally:
                self._started.set()
            while self._problem is None and not self._left.wait(_LOOK_INTERVAL_S):
                for member in self._members:
                    self._look_after(member)
        finally:
            for member in self._members:
                member.end()

    def _start_all(self) -> None:
        for member in self._members:
            member.start()
        deadline = time.monotonic() + START_LIMIT_S
        for member in self._members:
            assert member.process is not None
            line = leash.first_line(member.process, limit_s=deadline - time.monotonic(), stop=self._stop)
            if self._stop.is_set():
                return
            if not line.isdigit():
                name, said = member.plan.name, leash.last_words(member.log)
                self._problem = f"the demo's server {name!r} did not start; {said}"
                return
            member.port = int(line)

    def _look_after(self, member: _Member) -> None:
        now = time.monotonic()
        if member.died_at is not None:
            if now - member.died_at >= RESTART_DELAY_S:
                member.start()
        elif member.has_died():
            member.end()
            member.died_at = now
