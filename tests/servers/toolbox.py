"""The tools of the test server, as a server object of the installed SDK; also for use in process."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

try:  # 2.x
    from mcp.server.mcpserver import Context
    from mcp.server.mcpserver import MCPServer as Server
except ImportError:  # 1.x
    from mcp.server.fastmcp import Context  # type: ignore[no-redef,import-not-found,unused-ignore]
    from mcp.server.fastmcp import FastMCP as Server  # type: ignore[no-redef,import-not-found,unused-ignore]


async def pass_gate(port: int, label: str) -> None:
    """Announce `label` at the test's gate and wait until it lets go; an open gate lets pass at once."""
    try:
        stream = await anyio.connect_tcp("127.0.0.1", port)
    except OSError:
        return
    async with stream:
        try:
            await stream.send(label.encode() + b"\n")
            await stream.receive(1)
        except (anyio.EndOfStream, anyio.BrokenResourceError, OSError):
            pass


def session_name(context: Any) -> str:
    """Return what tells sessions apart on the server: the protocol's session id, else the process."""
    request = context.request_context.request
    header = request.headers.get("mcp-session-id") if request is not None else None
    query = request.query_params.get("session_id") if request is not None else None
    return header or query or f"process-{os.getpid()}"


def quietly(function: Callable[..., Any], **arguments: Any) -> Any:
    """Call something of the SDK that works, with a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(**arguments)


def build(handshakes: Callable[[], int] = lambda: 0, name: str = "test-server", **options: Any) -> Any:
    """Return a server with the tools that the tests use.

    Args:
        handshakes: How many handshakes the program has seen.
        name: The server's name.
        options: More of what the SDK's server takes.
    """
    server = quietly(Server, name=name, log_level="ERROR", **options)
    counts: Counter[str] = Counter()

    def tool(function: Callable[..., Awaitable[Any]]) -> None:
        server.add_tool(function, structured_output=False)

    async def echo(text: str) -> str:
        return text

    async def sleep(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "slept"

    async def gate(port: int, label: str = "gate") -> str:
        """Stop at the test's gate."""
        await pass_gate(port, label)
        return "passed"

    async def fail(message: str = "this tool fails") -> str:
        raise ValueError(message)

    async def counter(context: Context) -> str:
        """Count calls in this session."""
        key = session_name(context)
        counts[key] += 1
        return str(counts[key])

    async def whoami(context: Context) -> str:
        return session_name(context)

    async def pid() -> str:
        return str(os.getpid())

    async def kill(code: int = 1) -> str:
        """End the server's process at once, without an answer."""
        os._exit(code)

    async def seen() -> str:
        """Return how many handshakes this process has seen."""
        return str(handshakes())

    async def environment(variable: str) -> str:
        return os.environ.get(variable, "")

    async def header(context: Context, header_name: str) -> str:
        """Return a header of the request that carried this call."""
        request = context.request_context.request
        return request.headers.get(header_name, "") if request is not None else ""

    async def steps(context: Context, number: int) -> str:
        """Report progress `number` times."""
        for step in range(number):
            await context.report_progress(step + 1, number, f"step {step + 1}")
        return "done"

    async def say(context: Context, text: str) -> str:
        """Send a log message."""
        await quietly(
            context.session.send_log_message, level="info", data=text, related_request_id=context.request_id
        )
        return "said"

    async def changed(context: Context) -> str:
        """Announce that the list of tools has changed."""
        await context.session.send_tool_list_changed()
        return "announced"

    async def roots(context: Context) -> str:
        """Ask the client for its roots; handshake protocols only."""
        answer = await quietly(context.session.list_roots)
        return ",".join(str(root.uri) for root in answer.roots)

    for function in (
        echo, sleep, gate, fail, counter, whoami, pid, kill, environment, header, steps, say, changed, roots,
    ):  # fmt: skip
        tool(function)
    server.add_tool(seen, name="handshakes", structured_output=False)
    return server
