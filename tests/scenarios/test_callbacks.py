"""S16, S17: whose conversation it is, and callbacks that use the session that called them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import pytest

from instrumented_sessions import SessionManager
from instrumented_sessions.transports import InMemoryTransport, StdioTransport, sdk
from tests import servers
from tests.manager.wires import LIMIT_S, Door, in_thread, text
from tests.servers import toolbox

caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="nobody")


@pytest.fixture(params=["memory", "stdio"])
def build(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Build a transport that speaks a handshake protocol, in which servers ask clients."""
    if request.param == "stdio":
        command, args = servers.command()
        return lambda **options: StdioTransport(
            id="one", command=command, args=args, mode="legacy", **options
        )
    return lambda **options: InMemoryTransport(id="one", server=toolbox.build(), mode="legacy", **options)


def roots_at(path: str) -> Any:
    return sdk.types.ListRootsResult(roots=[sdk.types.Root(uri=f"file:///{path}")])


@pytest.mark.scenario("S16")
async def test_conversation_is_the_one_that_was_passed(manager: SessionManager) -> None:
    """A pool that carries no context variables changes nothing: there is no ambient conversation."""
    transport = InMemoryTransport(id="one", server=toolbox.build())
    caller.set("alice")

    def work(conversation: str) -> Any:
        assert caller.get() == "nobody"
        return manager.session(transport, conversation=conversation)

    with ThreadPoolExecutor(1, thread_name_prefix="pool") as pool:
        loop = asyncio.get_running_loop()
        bob = await loop.run_in_executor(pool, work, "bob")
        default = await loop.run_in_executor(pool, manager.session, transport)
    assert bob.key == ("one", "bob")
    assert default.key == ("one", "default")
    assert bob is not default
    assert await manager.asession(transport) is default


@pytest.mark.scenario("S17")
async def test_callback_may_use_the_session_that_asks(
    manager: SessionManager, door: Door, build: Callable[..., Any]
) -> None:
    """A plain one through the blocking door, in its own thread; nothing waits for itself."""

    def roots(context: Any) -> Any:
        assert not on_a_portal()
        return roots_at(text(sessions[0].call_tool("echo", {"text": "plain"}, timeout_s=LIMIT_S)))

    sessions = [await door.session(manager, build(list_roots_callback=roots))]
    assert text(await door.call_tool(sessions[0], "roots", timeout_s=LIMIT_S)) == "file:///plain"


@pytest.mark.scenario("S17")
async def test_async_callback_may_use_the_session_that_asks(
    manager: SessionManager, door: Door, build: Callable[..., Any]
) -> None:
    """An async one through the async door, on the loop of callbacks."""

    async def roots(context: Any) -> Any:
        assert not on_a_portal()
        return roots_at(text(await sessions[0].acall_tool("echo", {"text": "async"}, timeout_s=LIMIT_S)))

    sessions = [await door.session(manager, build(list_roots_callback=roots))]
    assert text(await door.call_tool(sessions[0], "roots", timeout_s=LIMIT_S)) == "file:///async"


@pytest.mark.scenario("S17")
async def test_progress_may_use_the_session_that_reports_it(
    manager: SessionManager, door: Door, build: Callable[..., Any]
) -> None:
    """On the caller's loop, or in a worker thread for the blocking door; in the caller's context."""
    session = await door.session(manager, build())
    told, done = [], threading.Event()

    def progress(step: float, total: float | None, message: str | None) -> Any:
        if not door.blocking:
            return echo(step)
        note(step, text(session.call_tool("echo", {"text": "nested"}, timeout_s=LIMIT_S)))
        return None

    async def echo(step: float) -> None:
        note(step, text(await session.acall_tool("echo", {"text": "nested"}, timeout_s=LIMIT_S)))

    def note(step: float, answer: str) -> None:
        told.append((step, answer, caller.get()))
        if len(told) == 2:
            done.set()

    caller.set("alice")
    result = await door.call_tool(session, "steps", {"number": 2}, progress=progress, timeout_s=LIMIT_S)
    assert text(result) == "done"
    assert await anyio.to_thread.run_sync(done.wait, LIMIT_S)
    assert sorted(told) == [(1, "nested", "alice"), (2, "nested", "alice")]


@pytest.mark.scenario("S17")
async def test_notification_may_use_the_session_that_sends_it(
    manager: SessionManager, door: Door, build: Callable[..., Any]
) -> None:
    """A list of tools that changed is read at once, by the handler of the message that says so."""
    tools: list[str] = []
    done = threading.Event()

    def changed(message: Any) -> None:
        if "ToolListChanged" in repr(message):
            tools.extend(tool.name for tool in sessions[0].list_tools(timeout_s=LIMIT_S).tools)
            done.set()

    sessions = [await door.session(manager, build(message_handler=changed))]
    await door.call_tool(sessions[0], "changed", timeout_s=LIMIT_S)
    assert await anyio.to_thread.run_sync(done.wait, LIMIT_S)
    assert "echo" in tools


async def test_callback_sees_the_variables_of_its_caller(
    manager: SessionManager, door: Door, build: Callable[..., Any]
) -> None:
    """Those of the one call in flight, whoever has opened the session."""
    caller.set("opener")
    session = await door.session(manager, build(list_roots_callback=lambda context: roots_at(caller.get())))
    caller.set("alice")
    assert text(await door.call_tool(session, "roots", timeout_s=LIMIT_S)) == "file:///alice"


async def test_session_with_callbacks_works_from_a_program_without_loops(build: Callable[..., Any]) -> None:
    """A synchronous program's async callback has a loop of ours."""

    async def roots(context: Any) -> Any:
        await asyncio.sleep(0)
        return roots_at(threading.current_thread().name)

    def program() -> str:
        with SessionManager() as manager:
            session = manager.session(build(list_roots_callback=roots))
            return text(session.call_tool("roots", timeout_s=LIMIT_S))

    assert await in_thread(program) == "file:///instrumented-sessions-callbacks"


def on_a_portal() -> bool:
    return "portal" in threading.current_thread().name
