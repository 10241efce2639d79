"""`ClientView`: what frameworks that want the SDK's `ClientSession` are given."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from .work import METHODS, CallWork, Progress, forwarded, tool_call

if TYPE_CHECKING:
    from .handle import Session


class ClientView:
    """Looks like the SDK's `ClientSession` on the caller's loop; every coroutine runs on the portal.

    A `progress_callback` runs on the caller's loop, in its context. Attributes that are not coroutine
    functions are read from the current generation's session. Entering it, leaving it and
    `initialize()` do nothing: the manager has done it. Calls have `Settings.call_timeout_s` as limit.
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
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        read_timeout_seconds: Any = None,
        progress_callback: Progress | None = None,
        **options: Any,
    ) -> Any:
        """Call a tool as `acall_tool` does, with the SDK's own arguments."""
        if read_timeout_seconds is not None:
            options["read_timeout_seconds"] = read_timeout_seconds
        return await self._call(tool_call(name, arguments, progress_callback, **options))

    async def send_request(
        self,
        request: Any,
        result_type: Any,
        request_read_timeout_seconds: Any = None,
        metadata: Any = None,
        progress_callback: Progress | None = None,
    ) -> Any:
        """Send a request of any kind, with the SDK's own arguments."""
        args = (request, result_type, request_read_timeout_seconds, metadata)
        return await self._call(forwarded("send_request", args, {"progress_callback": progress_callback}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        connection = getattr(self._session._record, "connection", None)
        if connection is not None and connection.adapter is not None:
            attribute = getattr(connection.adapter.session, name)
            # The SDK wraps what is deprecated in a function that is not async itself.
            if name not in METHODS and not inspect.iscoroutinefunction(inspect.unwrap(attribute)):
                return attribute

        async def forward(*args: Any, **options: Any) -> Any:
            return await self._call(forwarded(name, args, options))

        return forward

    async def _call(self, work: CallWork) -> Any:
        return await self._session._doors.acall(self._session, work, None)


async def _initialize_result(client_session: Any) -> Any:
    return getattr(client_session, "initialize_result", None)
