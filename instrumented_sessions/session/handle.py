"""`Session`: the handle that users hold, stable across generations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from ..vocabulary import SessionKey, SessionState
from .view import ClientView
from .work import CallWork, Progress, run, tool_call, tool_list


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
        return self._doors.call(self, tool_call(name, arguments, progress), timeout_s)

    async def acall_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Call a tool without blocking the loop; as `call_tool`, `progress` runs on this loop."""
        return await self._doors.acall(self, tool_call(name, arguments, progress), timeout_s)

    def list_tools(self, *, timeout_s: float | None = None) -> Any:
        """Return the server's tools, all pages joined, as the SDK's own result."""
        return self._doors.call(self, tool_list(), timeout_s)

    async def alist_tools(self, *, timeout_s: float | None = None) -> Any:
        """Return the server's tools without blocking the loop; as `list_tools`."""
        return await self._doors.acall(self, tool_list(), timeout_s)

    def run(self, fn: Callable[..., Awaitable[Any]], *args: Any, timeout_s: float | None = None) -> Any:
        """Run `await fn(client_session, *args)` on the portal's loop and return its result.

        `fn` gets the SDK's `ClientSession`; it must not block.
        """
        return self._doors.call(self, run(fn, args), timeout_s)

    async def arun(
        self, fn: Callable[..., Awaitable[Any]], *args: Any, timeout_s: float | None = None
    ) -> Any:
        """Run `await fn(client_session, *args)` on the portal's loop without blocking this one."""
        return await self._doors.acall(self, run(fn, args), timeout_s)
