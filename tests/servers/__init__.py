"""Starts and stops the servers that the tests talk to: real ones as processes, broken ones as sockets.

Every wait is bounded, every process is ended by its id, and nothing survives its `with` block.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

LIMIT_S = 15.0
"""Longest wait for a process to start or to end, in seconds: a guard, never the expectation."""

SERVER = Path(__file__).parent / "server.py"


class Gate:
    """A gate at which a server's handshakes or `gate` tool calls stop until the test lets them go.

    Servers connect to `port`. Waiting blocks the thread: in a coroutine use `await gate.aarrived()`.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []

    @property
    def port(self) -> int:
        """Where servers announce themselves."""
        port: int = self._listener.getsockname()[1]
        return port

    def arrived(self, timeout_s: float = LIMIT_S) -> str:
        """Wait until one more has arrived, and return what it says it is.

        Raises:
            TimeoutError: None came within `timeout_s` seconds.
        """
        self._listener.settimeout(timeout_s)
        held, _ = self._listener.accept()
        held.settimeout(timeout_s)
        self._held.append(held)
        label = b""
        while not label.endswith(b"\n"):
            byte = held.recv(1)
            if not byte:
                break
            label += byte
        return label.decode().strip()

    async def aarrived(self, timeout_s: float = LIMIT_S) -> str:
        """Like `arrived()`, without blocking the loop."""
        return await anyio.to_thread.run_sync(self.arrived, timeout_s)

    def release(self) -> None:
        """Let the one go that arrived first."""
        held = self._held.pop(0)
        with held:
            try:
                held.sendall(b".")
            except OSError:
                pass  # It was killed or cancelled meanwhile.

    def open(self) -> None:
        """Let all go, and everybody who comes later."""
        self._listener.close()
        while self._held:
            self.release()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *exc: object) -> None:
        self.open()


@dataclass
class Journal:
    """What reached the servers that were given this file, over all their incarnations."""

    path: Path

    def lines(self, method: str = "") -> list[str]:
        """Return the noted requests, `pid method name` each; those of `method` when given."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [line for line in lines if not method or line.split()[1] == method]

    def calls(self, tool: str) -> int:
        """Return how often `tool` was called."""
        return sum(line.split()[2:] == [tool] for line in self.lines("tools/call"))


@dataclass
class Server:
    """A running server process."""

    process: subprocess.Popen[str]
    url: str
    port: int
    options: tuple[str, ...] = field(default=())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait(LIMIT_S)

    def stop(self) -> None:
        """Stop it from running (SIGSTOP) while its sockets stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again."""
        os.kill(self.pid, signal.SIGCONT)


def command(*options: str) -> tuple[str, list[str]]:
    """Return the program and its arguments that run the server over stdio, for a `StdioTransport`."""
    return sys.executable, [str(SERVER), *options]


def options(
    *,
    gate: Gate | None = None,
    journal: Path | None = None,
    era: str = "",
    handshake_delay_s: float = 0.0,
    json: bool = False,
    stateless: bool = False,
) -> list[str]:
    """Return the server's command line options; `era` is `legacy`, `modern` or both."""
    found = [f"--{era}"] if era else []
    found += ["--json"] if json else []
    found += ["--stateless"] if stateless else []
    found += ["--gate", str(gate.port)] if gate is not None else []
    found += ["--journal", str(journal)] if journal is not None else []
    found += ["--handshake-delay", str(handshake_delay_s)] if handshake_delay_s else []
    return found


@contextmanager
def running(transport: str = "http", *arguments: str, port: int = 0) -> Iterator[Server]:
    """Run the server over `http` or `sse` until the block ends.

    Args:
        transport: `http` or `sse`.
        arguments: More options of the server, see `options()`.
        port: Where it listens; default a free port. To start a killed one again, pass the old one's.
    """
    line = [sys.executable, str(SERVER), "--transport", transport, "--port", str(port), *arguments]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    try:
        bound = int(first_line(process))
        path = "sse" if transport == "sse" else "mcp"
        yield Server(process, f"http://127.0.0.1:{bound}/{path}", bound, arguments)
    finally:
        end(process)


def first_line(process: subprocess.Popen[str], timeout_s: float = LIMIT_S) -> str:
    """Return the first line that `process` prints.

    Raises:
        TimeoutError: It printed none within `timeout_s` seconds.
        RuntimeError: It ended instead.
    """
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(timeout_s):
            raise TimeoutError(f"process {process.pid} printed nothing within {timeout_s} s")
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"process {process.pid} ended with {process.wait(timeout_s)}")
    return line.strip()


def end(process: subprocess.Popen[str]) -> None:
    """End `process` for certain."""
    process.kill()
    process.wait(LIMIT_S)
    if process.stdout is not None:
        process.stdout.close()


def kill(pid: int) -> None:
    """Kill a process whose id a test has learnt."""
    os.kill(pid, signal.SIGKILL)


async def ended(pid: int, timeout_s: float = LIMIT_S) -> None:
    """Wait until a process has ended; nothing announces the end of a stranger.

    Raises:
        TimeoutError: It still runs after `timeout_s` seconds.
    """
    with anyio.fail_after(timeout_s):
        while is_alive(pid):
            await anyio.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc").exists():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return text.rpartition(")")[2].split()[0] != "Z"
