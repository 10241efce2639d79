"""The other processes of `telemetry_cost`: a collector that keeps nothing, an MCP server, an idle program.

    python -m benchmarks.telemetry_peers collector | mcp | idle ENDPOINT MCP_ADDRESS SECONDS

The first two print their address when they listen.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def started(name: str) -> Iterator[str]:
    """Run one of the servers for the time of the block, and give its address."""
    command = [sys.executable, "-m", "benchmarks.telemetry_peers", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def collector() -> None:
    """Take OTLP over HTTP and keep nothing."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def mcp() -> None:
    """Serve the tool `echo` over streamable HTTP."""
    import uvicorn

    from .scenario_tools import tool_server

    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(tool_server().streamable_http_app(), log_level="error")
    uvicorn.Server(config).run(sockets=[listener])


def idle(endpoint: str, mcp_address: str, seconds: float) -> None:
    """Do nothing with everything on, and print which share of a core that took."""
    from instrumented_sessions import SessionManager
    from instrumented_sessions.telemetry import Recorder, setup
    from instrumented_sessions.transports import StreamableHTTPTransport

    telemetry = setup(service_name="idle", otlp_endpoint=endpoint, prometheus_port=0)

    async def program() -> float:
        async with SessionManager(observers=[Recorder()]) as manager:
            session = await manager.asession(StreamableHTTPTransport(id="tools", url=mcp_address))
            await session.acall_tool("echo", {"text": "x"})
            await asyncio.sleep(2.0)
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            await asyncio.sleep(seconds)
            return (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)

    print(asyncio.run(program()))
    telemetry.close(2.0)


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    if kind == "idle":
        idle(arguments[0], arguments[1], float(arguments[2]))
    else:
        {"collector": collector, "mcp": mcp}[kind]()
