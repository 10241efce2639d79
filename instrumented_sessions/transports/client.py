"""One way to use what `connect()` yielded: `mcp.Client`, `ClientSession`, or what looks like one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import anyio

from . import sdk
from .calls import calls_of

PAGE_LIMIT = 1000
"""How many pages of a list are read before the server is taken to be going round in circles."""

_SESSIONS_OWN = frozenset({"allow_input_required", "allow_claimed"})
"""Options that only the session's `call_tool` takes: who gives them makes the further rounds himself."""

Progress = Callable[[float, "float | None", "str | None"], Awaitable[None]]
"""The SDK's progress function: progress, total, message. 1.x reads on only when it has returned."""


def session_of(client: Any) -> Any:
    """Return the SDK's `ClientSession` of a client; the client itself when it has none."""
    if isinstance(client, sdk.ClientSession):
        return client
    return getattr(client, "session", client)


class ClientAdapter:
    """The few operations that a session needs, on any client. Use it on the portal loop only.

    On 2.x it goes through `mcp.Client`, so that multi-round input, the response cache and
    negotiation work; callers' deadlines are the manager's, which wraps them around everything.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._calls = calls_of(session_of(client))

    @property
    def session(self) -> Any:
        """The SDK's `ClientSession`; the client itself when it has none."""
        return session_of(self.client)

    @property
    def protocol_version(self) -> str | None:
        """The version that was negotiated; None when the client does not tell."""
        version = getattr(self.session, "protocol_version", None)
        return version if isinstance(version, str) else None

    @property
    def is_modern(self) -> bool:
        """Whether the protocol is one without handshake and `ping`."""
        return self.protocol_version in sdk.MODERN_VERSIONS

    def tracked(self) -> AbstractContextManager[None]:
        """Count what runs within as a call, so that the server's callbacks run in its context."""
        return self._calls.track()

    async def call_tool(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Any:
        """Call a tool and return the SDK's own result.

        Args:
            name: The tool.
            arguments: Its arguments.
            timeout_s: The SDK's own limit in seconds. It does not cover the write and starts anew in
                each round, so it is a second line at most. Default None: no limit.
            progress: An async function that is told of progress.
            options: Further ones of the SDK's own `call_tool`, such as `meta`.
        """
        if timeout_s is not None:
            options["read_timeout_seconds"] = sdk.timeout(timeout_s)
        if progress is not None:
            options["progress_callback"] = progress
        client = self.client if _SESSIONS_OWN.isdisjoint(options) else self.session
        with self.tracked():
            return await client.call_tool(name, arguments, **options)

    async def list_tools(self) -> Any:
        """Return all pages of the server's tools as one `ListToolsResult` of the SDK.

        Raises:
            RuntimeError: The server repeats a cursor, or goes on beyond `PAGE_LIMIT` pages.
        """
        first = await self.client.list_tools()
        field = "next_cursor" if hasattr(first, "next_cursor") else "nextCursor"
        tools = list(first.tools)
        cursor = getattr(first, field, None)
        seen: set[str] = set()
        while cursor:
            if cursor in seen or len(seen) >= PAGE_LIMIT:
                raise RuntimeError(
                    f"the server's tools/list does not end: {len(seen) + 1} pages, then the cursor"
                    f" {'repeats' if cursor in seen else 'still goes on'}"
                )
            seen.add(cursor)
            page = await self._page(cursor)
            tools.extend(page.tools)
            cursor = getattr(page, field, None)
        return first.model_copy(update={"tools": tools, field: None}) if seen else first

    async def _page(self, cursor: str) -> Any:
        if sdk.Client is not None and isinstance(self.client, sdk.Client):
            return await self.client.list_tools(cursor=cursor)
        return await self.client.list_tools(params=sdk.page(cursor))

    async def check(self, timeout_s: float) -> None:
        """Make sure that the server answers: `server/discover` on modern protocols, `ping` on others.

        Raises:
            TimeoutError: It did not answer within `timeout_s` seconds.
            Exception: What the SDK raised.
        """
        with anyio.fail_after(timeout_s):
            if self.is_modern:
                await self.session.send_discover(self.protocol_version)
            else:
                await self.session.send_ping()
