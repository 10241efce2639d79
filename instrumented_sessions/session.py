"""`Session`: the handle that users hold, stable across generations."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from .vocabulary import SessionKey, SessionState

Progress = Callable[[float, float | None, str | None], Any]
"""`progress(progress, total, message)`, plain or async."""

CallBody = Callable[[Any, Any], Awaitable[Any]]
"""What a call does on the portal's loop, with the transport's client adapter and, to tell progress,
an async function or None."""


class Doors(Protocol):
    """What a handle needs of its manager: one way in for threads, one for tasks."""

    def call(self, session: Session, work: CallWork, timeout_s: float | None) -> Any:
        """Make a call and wait for it."""

    async def acall(self, session: Session, work: CallWork, timeout_s: float | None) -> Any:
        """Make a call without blocking the loop."""


class SessionRecord(Protocol):
    """What a handle shows of its record."""

    key: SessionKey
    state: SessionState
    generation: int
    created_at: float
    calls: dict[Any, None]


class CallWork:
    """What one call does: its name for telemetry, and its body."""

    __slots__ = ("body", "method", "progress", "target")

    def __init__(
        self, method: str, target: str | None, body: CallBody, progress: Progress | None = None
    ) -> None:
        self.method = method
        self.target = target
        self.body = body
        self.progress = progress


class Session:
    """One session, for a transport and a conversation; the identical object for all who ask.

    Usable from any thread and any loop. When its connection is lost or drained, the next use opens
    the next generation under this handle. After `manager.close_session` its calls raise
    `SessionClosedError`.

    The blocking doors raise `BlockingCallError` on a thread that is running an event loop. A limit
    (`timeout_s`, default `Settings.call_timeout_s`) covers everything the call does, a reopening
    included; `SessionTimeoutError` says where it was.
    """

    def __init__(self, record: SessionRecord, doors: Doors) -> None:
        self._record = record
        self._doors = doors
        self._transport: Any = None
        self._hit: Callable[[], int] = int

    def __repr__(self) -> str:
        state, calls = self.state.value, self.in_flight
        return f"<Session {state} {self.key} generation {self.generation}, {calls} in flight>"

    @property
    def key(self) -> SessionKey:
        """The transport's id and the conversation."""
        return self._record.key

    @property
    def state(self) -> SessionState:
        """Where it stands now."""
        return self._record.state

    @property
    def generation(self) -> int:
        """How many times it has been opened."""
        return self._record.generation

    @property
    def created_at(self) -> float:
        """When this handle was made, in Unix seconds."""
        return self._record.created_at

    @property
    def in_flight(self) -> int:
        """How many calls run on it now."""
        return len(self._record.calls)

    @property
    def client(self) -> ClientView:
        """What looks like the SDK's `ClientSession`, to be awaited on the caller's own loop."""
        return ClientView(self)

    def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Call a tool and return the SDK's own result; an `isError` result is a result.

        Args:
            name: The tool.
            arguments: Its arguments; never recorded.
            timeout_s: Limit in seconds; default `Settings.call_timeout_s`.
            progress: Told of progress, in a worker thread of ours.

        Raises:
            SessionTimeoutError: The limit passed.
            SessionBrokenError: The session was lost meanwhile.
            BlockingCallError: This thread is running an event loop.
        """
        return self._doors.call(self, _tool_call(name, arguments, progress), timeout_s)

    async def acall_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Call a tool without blocking the loop; as `call_tool`, `progress` runs on this loop."""
        return await self._doors.acall(self, _tool_call(name, arguments, progress), timeout_s)

    def list_tools(self, *, timeout_s: float | None = None) -> Any:
        """Return the server's tools, all pages joined, as the SDK's own result."""
        return self._doors.call(self, _tool_list(), timeout_s)

    async def alist_tools(self, *, timeout_s: float | None = None) -> Any:
        """Return the server's tools without blocking the loop; as `list_tools`."""
        return await self._doors.acall(self, _tool_list(), timeout_s)

    def run(self, fn: Callable[..., Awaitable[Any]], *args: Any, timeout_s: float | None = None) -> Any:
        """Run `await fn(client_session, *args)` on the portal's loop and return its result.

        `fn` gets the SDK's `ClientSession`; it must not block.
        """
        return self._doors.call(self, _run(fn, args), timeout_s)

    async def arun(
        self, fn: Callable[..., Awaitable[Any]], *args: Any, timeout_s: float | None = None
    ) -> Any:
        """Run `await fn(client_session, *args)` on the portal's loop without blocking this one."""
        return await self._doors.acall(self, _run(fn, args), timeout_s)


class ClientView:
    """Looks like the SDK's `ClientSession` on the caller's loop; every coroutine runs on the portal.

    Attributes that are not coroutine functions are read from the current generation's session.
    Entering it, leaving it and `initialize()` do nothing: the manager has done it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def __repr__(self) -> str:
        return f"<ClientView of {self._session!r}>"

    async def __aenter__(self) -> ClientView:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    async def initialize(self) -> Any:
        """Return the result of the handshake; None on a modern session, which has none."""
        return await self._session.arun(_initialize_result)

    async def call_tool(
        self, name: str, arguments: dict[str, Any] | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Call a tool through `acall_tool`; with more arguments, through the SDK's own method."""
        if not args and not kwargs:
            return await self._session.acall_tool(name, arguments)
        return await self._forward("call_tool", (name, arguments, *args), kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        connection = getattr(self._session._record, "connection", None)
        if connection is not None and connection.adapter is not None:
            attribute = getattr(connection.adapter.session, name)
            if not inspect.iscoroutinefunction(attribute):
                return attribute

        async def forward(*args: Any, **kwargs: Any) -> Any:
            return await self._forward(name, args, kwargs)

        return forward

    async def _forward(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        async def call(client_session: Any) -> Any:
            return await getattr(client_session, name)(*args, **kwargs)

        call.__name__ = name
        return await self._session.arun(call)


async def _initialize_result(client_session: Any) -> Any:
    return getattr(client_session, "initialize_result", None)


def _tool_call(name: str, arguments: Mapping[str, Any] | None, progress: Progress | None) -> CallWork:
    if not name or not isinstance(name, str):
        raise ValueError(f"name must be a non-empty string; got {name!r}")
    if arguments is not None and not isinstance(arguments, Mapping):
        raise ValueError(f"arguments must be a mapping or None; got {type(arguments).__name__}")
    if progress is not None and not callable(progress):
        raise ValueError(f"progress must be a function or None; got {progress!r}")
    plain = dict(arguments) if arguments is not None else None

    async def body(client: Any, tell_progress: Any) -> Any:
        return await client.call_tool(name, plain, progress=tell_progress)

    return CallWork("tools/call", name, body, progress)


def _tool_list() -> CallWork:
    return CallWork("tools/list", None, lambda client, _: client.list_tools())


def _run(fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> CallWork:
    if not callable(fn):
        raise ValueError(f"fn must be a function that returns an awaitable; got {fn!r}")
    name = getattr(fn, "__qualname__", None) or type(fn).__name__

    async def body(client: Any, _: Any) -> Any:
        awaitable = fn(client.session, *args)
        if not inspect.isawaitable(awaitable):
            raise TypeError(f"{name} must return an awaitable, such as a coroutine; it gave {awaitable!r}")
        return await awaitable

    return CallWork("run", name, body)
