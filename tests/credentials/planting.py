"""A program with secrets in every field: run by the tests in a process of its own.

Arguments: the file for all that it shows of its sessions; the dashboard's address; and those of an MCP
server that is open, one behind a real authorization server, and one that fails and tells what it was sent.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import traceback
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instrumented_sessions import SessionError, SessionManager, Settings, ThreadLock
from instrumented_sessions.telemetry import setup
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.transports import SSETransport, StdioTransport, StreamableHTTPTransport, sdk
from tests.credentials import authorization
from tests.credentials.authorization import MARK, PRIVATE

TELLTALE = str(Path(__file__).parent / "telltale.py")


class Token(sdk.httpx.Auth):  # type: ignore[misc]
    """An auth object as programs write them."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def auth_flow(self, request: Any) -> Iterator[Any]:
        request.headers["x-signature"] = self.secret
        yield request


def with_secrets(url: str) -> str:
    scheme, rest = url.split("://")
    return f"{scheme}://{MARK}-user:{MARK}-password@{rest}?key={MARK}-query&more={MARK}%20escaped"


def fields(name: str) -> dict[str, Any]:
    return {
        "headers": {"authorization": f"Bearer {MARK}-header", "x-api-key": f"{MARK}-key"},
        "auth": Token(f"{MARK}-auth-{name}"),
    }


def build(open_url: str, protected_url: str, failing_url: str) -> tuple[list[Any], list[Any]]:
    """Return the transports that open, and those that do not."""
    command = {"command": sys.executable, "env": {"TOKEN": f"{MARK}-env"}, "mode": "legacy"}
    arguments = [f"{MARK}-argument", f"--password={MARK}-option"]
    good = [
        StreamableHTTPTransport(id="http", url=with_secrets(open_url), **fields("http")),
        StreamableHTTPTransport(
            id="rotating", url=open_url, headers=lambda: {"authorization": f"Bearer {MARK}-rotating"}
        ),
        StreamableHTTPTransport(
            id="consent", url=protected_url, auth=authorization.provider(protected_url), mode="legacy"
        ),
        StdioTransport(id="stdio", args=[TELLTALE, "fails", *arguments], **command),
    ]
    bad: list[Any] = [
        StdioTransport(id=f"stdio-{way}", args=[TELLTALE, way, *arguments], **command)
        for way in ("refuses", "dies")
    ]
    for way in ("401", "500", "html", "redirect", "rpc"):
        url = with_secrets(f"{failing_url}/{way}")
        bad.append(StreamableHTTPTransport(id=f"http-{way}", url=url, mode="legacy", **fields(way)))
        bad.append(SSETransport(id=f"sse-{way}", url=url, mode="legacy", **fields(way)))
    closed = with_secrets("http://127.0.0.1:9/mcp")
    bad.append(StreamableHTTPTransport(id="closed", url=closed, mode="legacy", **fields("closed")))
    return good, bad


def show(*things: object) -> None:
    for thing in things:
        print(repr(thing), str(thing))
        if isinstance(thing, BaseException):
            print(vars(thing), "".join(traceback.format_exception(thing)))


def use(manager: SessionManager, good: list[Any], bad: list[Any]) -> None:
    for transport in good:
        print("GOOD", transport.id)
        session = manager.session(transport, timeout_s=60.0)
        try:
            # Arguments and results are never recorded; what the server answers is its caller's only.
            session.call_tool("echo", {"text": PRIVATE}, timeout_s=60.0)
        except sdk.MCPError:
            if transport.id != "stdio":
                raise
        show(session, transport)
    for transport in bad:
        print("BAD", transport.id)
        try:
            manager.session(transport, timeout_s=60.0)
        except SessionError as error:
            show(error, transport)
        else:
            raise AssertionError(f"{transport.id} opened")
    conflict = StreamableHTTPTransport(id="http", url=good[0].url, headers={"x-api-key": f"{MARK}-other"})
    try:
        manager.session(conflict)
    except SessionError as error:
        show(error)
    asyncio.run(in_a_task(manager, good[0]))


async def in_a_task(manager: SessionManager, transport: Any) -> None:
    session = await manager.asession(transport, "other")
    await session.acall_tool("echo", {"text": PRIVATE})


def main() -> None:
    file, dashboard, *addresses = sys.argv[1:]
    sys.stdout = open(file, "w", encoding="utf-8")  # noqa: SIM115  # Until the process ends.
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="LOG %(name)s %(message)s")
    telemetry = setup(service_name="planting", otlp_endpoint=dashboard, prometheus_port=0)
    recorder = Recorder()
    good, bad = build(*addresses)
    with SessionManager(
        Settings(backoff_initial_s=0.01, open_timeout_s=60.0), observers=[recorder]
    ) as manager:
        use(manager, good, bad)
        with ThreadLock("a lock"):
            show(manager, manager.explain(), *manager.hangs(), manager.statistics(), manager.settings)
    show(*good, *bad, *recorder.events)
    show_metrics(telemetry)
    telemetry.close(timeout_s=60.0)
    sys.stdout.flush()


def show_metrics(telemetry: Any) -> None:
    port = telemetry.prometheus_port
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        print("METRICS", answer.read().decode())


if __name__ == "__main__":
    main()
