"""`session.client` and `session.run`: where the program's functions run, and what calls are called."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from instrumented_sessions import SessionManager, Settings
from instrumented_sessions.events import CallStarted, LoopStalled
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.transports import InMemoryTransport, sdk
from tests.servers import toolbox

from .wires import LIMIT_S, Door, in_thread, text

caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="nobody")


def memory(**options: Any) -> InMemoryTransport:
    return InMemoryTransport("memory", toolbox.build(), **options)


def started(recorder: Recorder) -> list[tuple[str, str | None]]:
    """What was called, by method and target."""
    return [(event.method, event.target) for event in recorder.of(CallStarted)]


async def on_a_loop(door: Door, function: Callable[[], Awaitable[Any]]) -> Any:
    """Await on the test's loop, or on one that a thread starts."""

    async def main() -> Any:
        return await function()

    return await in_thread(asyncio.run, main()) if door.blocking else await main()


@pytest.mark.scenario("S17")
@pytest.mark.parametrize("way", ["keyword", "position", "async", "send_request"])
async def test_progress_of_the_view_is_told_on_the_callers_loop(
    manager: SessionManager, door: Door, way: str
) -> None:
    """Never on the portal's thread, and with the caller's context variables."""
    session = await door.session(manager, memory())
    seen: list[tuple[int, str, float]] = []
    told = threading.Event()

    def progress(done: float, total: float | None, message: str | None) -> None:
        seen.append((threading.get_ident(), caller.get(), done))
        if done == total:
            told.set()

    async def aprogress(*args: Any) -> None:
        progress(*args)

    async def use() -> None:
        caller.set("me")
        here = threading.get_ident()
        arguments = {"number": 2}
        if way == "position":
            result = await session.client.call_tool("steps", arguments, None, progress)
        elif way == "send_request":
            result = await session.client.send_request(
                a_request("steps", arguments), sdk.types.CallToolResult, progress_callback=progress
            )
        else:
            function = progress if way == "keyword" else aprogress
            result = await session.client.call_tool("steps", arguments, progress_callback=function)
        assert text(result) == "done"
        with anyio.fail_after(LIMIT_S):
            while not told.is_set():
                await anyio.sleep(0.001)
        assert seen == [(here, "me", 1), (here, "me", 2)]

    await on_a_loop(door, use)


def a_request(tool: str, arguments: dict[str, Any]) -> Any:
    """A tool's call as the SDK's `send_request` wants it."""
    params = sdk.types.CallToolRequestParams(name=tool, arguments=arguments)
    if sdk.SDK_GENERATION == 2:
        return sdk.types.CallToolRequest(params=params)
    return sdk.types.ClientRequest(sdk.types.CallToolRequest(method="tools/call", params=params))


async def test_function_of_run_is_called_back_in_its_callers_context(
    manager: SessionManager, door: Door
) -> None:
    """What the server asks during `run`, or during any call of the view, has the caller's variables."""
    seen: list[str] = []

    def roots(context: Any) -> Any:
        seen.append(caller.get())
        return sdk.types.ListRootsResult(roots=[])

    session = await door.session(manager, memory(mode="legacy", list_roots_callback=roots))
    caller.set("me")
    await door.run(session, lambda client: client.call_tool("roots", {}))
    await session.client.call_tool("roots", {}, meta={"trace": "x"})
    assert seen == ["me", "me"]


async def test_call_with_more_arguments_is_a_call_of_its_tool(
    manager: SessionManager, door: Door, recorder: Recorder
) -> None:
    """`meta` and the SDK's own limit reach the SDK, and the call is recorded as every other."""
    session = await door.session(manager, memory())

    async def use() -> None:
        client = session.client
        limit = sdk.timeout(LIMIT_S)
        assert text(await client.call_tool("echo", {"text": "a"}, meta={"trace": "x"})) == "a"
        assert text(await client.call_tool("echo", {"text": "b"}, limit)) == "b"
        assert (
            text(await client.call_tool("echo", arguments={"text": "c"}, read_timeout_seconds=limit)) == "c"
        )
        with pytest.raises(TypeError, match="made_up"):
            await client.call_tool("echo", {"text": "d"}, made_up=1)
        if sdk.SDK_GENERATION == 2:  # Taken by the SDK's session only, not by its `Client`.
            result = await client.call_tool("echo", {"text": "e"}, allow_input_required=True)
            assert text(result) == "e"

    await on_a_loop(door, use)
    assert started(recorder) == [("tools/call", "echo")] * (5 if sdk.SDK_GENERATION == 2 else 4)


_URI = "file:///secret"
_CALLS: dict[str, tuple[tuple[Any, ...], str, str | None]] = {
    "list_tools": ((), "tools/list", None),
    "list_prompts": ((), "prompts/list", None),
    "list_resources": ((), "resources/list", None),
    "list_resource_templates": ((), "resources/templates/list", None),
    "get_prompt": (("greet", {"who": "x"}), "prompts/get", "greet"),
    "read_resource": ((_URI,), "resources/read", None),
    "subscribe_resource": ((_URI,), "resources/subscribe", None),
    "unsubscribe_resource": ((_URI,), "resources/unsubscribe", None),
    "set_logging_level": (("info",), "logging/setLevel", None),
    "send_ping": ((), "ping", None),
    "send_roots_list_changed": ((), "notifications/roots/list_changed", None),
    "send_progress_notification": (("token", 0.5), "notifications/progress", None),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
async def test_every_method_of_the_view_is_recorded_by_its_mcp_name(
    manager: SessionManager, door: Door, recorder: Recorder
) -> None:
    """Whether the server answers or refuses, what the SDK deprecates included; a URI is not recorded."""
    session = await door.session(manager, memory(mode="legacy"))

    async def use() -> None:
        for name, (arguments, _method, _target) in _CALLS.items():
            with anyio.fail_after(LIMIT_S):
                try:
                    await getattr(session.client, name)(*arguments)
                except sdk.MCPError:
                    pass  # This server has no such thing.

    await on_a_loop(door, use)
    assert started(recorder) == [(method, target) for _, method, target in _CALLS.values()]


async def test_request_is_recorded_by_the_method_it_has(
    manager: SessionManager, door: Door, recorder: Recorder
) -> None:
    """`send_request` with a tool's call is a call of that tool."""
    session = await door.session(manager, memory())
    request = a_request("echo", {"text": "x"})

    async def use() -> None:
        await session.client.send_request(request, sdk.types.CallToolResult)

    await on_a_loop(door, use)
    assert started(recorder) == [("tools/call", "echo")]


async def test_run_is_recorded_by_the_functions_qualified_name(
    manager: SessionManager, door: Door, recorder: Recorder
) -> None:
    """Also behind `functools.partial`, and for an object that is called."""
    session = await door.session(manager, memory())

    class Lister:
        def __call__(self, client: Any) -> Any:
            return client.list_tools()

        async def count(self, client: Any, plus: int) -> int:
            return len((await client.list_tools()).tools) + plus

    for function in (Lister(), partial(Lister().count, plus=1)):
        await door.run(session, function)
    here = f"{test_run_is_recorded_by_the_functions_qualified_name.__qualname__}.<locals>.Lister"
    assert started(recorder) == [("run", here), ("run", f"{here}.count")]


async def test_attribute_that_the_sdk_does_not_have_is_no_method_of_the_view(manager: SessionManager) -> None:
    """A framework that looks whether there is such a method is told the truth."""
    session = await manager.asession(memory())
    assert not hasattr(session.client, "made_up")
    assert callable(session.client.list_tools)


@pytest.mark.blocks_the_loop("a handler that blocks the portal is what it is about")
async def test_blocking_handler_of_a_server_in_memory_is_named(door: Door, recorder: Recorder) -> None:
    """Its async handlers share the portal's loop; the stall report names the handler's line."""
    release = threading.Event()
    server = toolbox.build()

    async def forgetful() -> str:
        release.wait(LIMIT_S * 2)
        return "done"

    server.add_tool(forgetful, structured_output=False)
    settings = Settings(stall_threshold_s=0.1, heartbeat_interval_s=0.05)
    async with SessionManager(settings, observers=[recorder]) as manager:
        session = await door.session(manager, InMemoryTransport("memory", server))
        calling = asyncio.create_task(door.call_tool(session, "forgetful", {}))
        try:
            with anyio.fail_after(LIMIT_S):
                while "forgetful" not in _culprits(recorder):
                    await anyio.sleep(0.01)
        finally:
            release.set()
        assert text(await calling) == "done"


def _culprits(recorder: Recorder) -> list[str]:
    """The functions that reports of stalls of the portal name."""
    reports = [event.report for event in recorder.of(LoopStalled)]
    return [
        report.culprit.function.rpartition(".")[2]
        for report in reports
        if report.loop == "portal" and report.culprit is not None
    ]
