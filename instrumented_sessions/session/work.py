"""What a call does on the portal's loop, and what it is called."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

Progress = Callable[[float, float | None, str | None], Any]
"""`progress(progress, total, message)`, plain or async."""

CallBody = Callable[[Any, Any], Awaitable[Any]]
"""What a call does on the portal's loop, with the transport's client adapter and, to tell progress,
an async function or None."""

METHODS: Mapping[str, str] = {
    "call_tool": "tools/call",
    "complete": "completion/complete",
    "discover": "server/discover",
    "get_prompt": "prompts/get",
    "list_prompts": "prompts/list",
    "list_resource_templates": "resources/templates/list",
    "list_resources": "resources/list",
    "list_tools": "tools/list",
    "read_resource": "resources/read",
    "send_discover": "server/discover",
    "send_ping": "ping",
    "send_progress_notification": "notifications/progress",
    "send_roots_list_changed": "notifications/roots/list_changed",
    "set_logging_level": "logging/setLevel",
    "subscribe_resource": "resources/subscribe",
    "unsubscribe_resource": "resources/unsubscribe",
}
"""The MCP method that each coroutine method of the SDK's `ClientSession` sends."""

_NAMED = ("tools/call", "prompts/get")
"""Methods whose target is recorded: a name. A resource's URI may hold secrets and is not."""
_KNOWN = frozenset(METHODS.values())


class CallWork:
    """What one call does: its name for telemetry, and its body."""

    __slots__ = ("body", "method", "progress", "target")

    def __init__(
        self, method: str, target: str | None, body: CallBody, progress: Progress | None = None
    ) -> None:
        if progress is not None and not callable(progress):
            raise ValueError(f"progress must be a function or None; got {progress!r}")
        self.method = method
        self.target = target
        self.body = body
        self.progress = progress


def tool_call(
    name: str, arguments: Mapping[str, Any] | None, progress: Progress | None, **options: Any
) -> CallWork:
    """Call a tool; `options` are further ones of the SDK's own `call_tool`."""
    if not name or not isinstance(name, str):
        raise ValueError(f"name must be a non-empty string; got {name!r}")
    if arguments is not None and not isinstance(arguments, Mapping):
        raise ValueError(f"arguments must be a mapping or None; got {type(arguments).__name__}")
    plain = dict(arguments) if arguments is not None else None

    async def body(client: Any, tell_progress: Any) -> Any:
        return await client.call_tool(name, plain, progress=tell_progress, **options)

    return CallWork("tools/call", name, body, progress)


def tool_list() -> CallWork:
    """List the server's tools, all pages joined."""
    return CallWork("tools/list", None, lambda client, _: client.list_tools())


def run(fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> CallWork:
    """Run a function of the program with the SDK's `ClientSession`; recorded by its qualified name."""
    if not callable(fn):
        raise ValueError(f"fn must be a function that returns an awaitable; got {fn!r}")
    name = _qualified_name(fn)

    async def body(client: Any, _: Any) -> Any:
        with client.tracked():
            awaitable = fn(client.session, *args)
            if not inspect.isawaitable(awaitable):
                raise TypeError(
                    f"{name} must return an awaitable, such as a coroutine; it gave {awaitable!r}"
                )
            return await awaitable

    return CallWork("run", name, body)


def forwarded(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> CallWork:
    """Call the method `name` of the SDK's `ClientSession`; recorded by the MCP method that it sends.

    A `progress_callback` among its options runs where a call's `progress` does.
    """
    rest = dict(options)
    progress = rest.pop("progress_callback", None)

    async def body(client: Any, tell_progress: Any) -> Any:
        telling = {} if tell_progress is None else {"progress_callback": tell_progress}
        with client.tracked():
            return await getattr(client.session, name)(*args, **rest, **telling)

    return CallWork(*_recorded_as(name, args, options), body, progress)


def _recorded_as(name: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return method and target; `run` and the function's name for what is no method of the protocol."""
    if name in ("send_request", "send_notification"):
        message = args[0] if args else options.get(name.removeprefix("send_"))
        message = getattr(message, "root", message)  # 1.x wraps it.
        method = getattr(message, "method", None)
        target = getattr(getattr(message, "params", None), "name", None)
    else:
        method = METHODS.get(name)
        target = args[0] if args else options.get("name")
    if method not in _KNOWN:  # Methods are metric labels: the server's own ones could be any number.
        return "run", name
    return method, target if method in _NAMED and isinstance(target, str) else None


def _qualified_name(fn: Any) -> str:
    while isinstance(fn, partial):
        fn = fn.func
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__
