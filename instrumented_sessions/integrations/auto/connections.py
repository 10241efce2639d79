"""Tells a ledger of every transport that the program opens, and knows which session uses which.

A program may put streams of its own between a transport and its session, to log or to filter. Then the
session is known by what was connected in its context. Where that may be several, it is not guessed: the
session gets no transport, and the openings of those that may be its end when it has opened.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ...vocabulary import Phase
from .askers import Asker
from .hooks import Patches, guarded
from .imports import WhenImported
from .ledger import Ledger
from .targets import Target, of_call
from .unmanaged import Unmanaged

_OPENERS = {
    "mcp.client.stdio": ("stdio_client",),
    "mcp.client.sse": ("sse_client",),
    "mcp.client.streamable_http": ("streamable_http_client", "streamablehttp_client"),
    "mcp.client.websocket": ("websocket_client",),
}
"""The functions that open a transport, by module; not every version has all of them."""

_connected: contextvars.ContextVar[tuple[Unmanaged, ...]] = contextvars.ContextVar(
    "instrumented_sessions_connected", default=()
)
"""What was connected in this context, the last one last; a `ClientSession` may take it over."""

_entering: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "instrumented_sessions_entering", default=False
)
"""Whether a transport is being opened: one function of the SDK calls another."""


class Connections:
    """Tells `ledger` of the transports that are opened from now on.

    Args:
        ledger: What is told.
        patches: What is replaced in the SDK; its owner's to undo.
        imports: Waits for the SDK's modules.
        tells_of_this: Whether what opens now is recorded.
    """

    def __init__(
        self, ledger: Ledger, patches: Patches, imports: WhenImported, tells_of_this: Callable[[], bool]
    ) -> None:
        self._ledger = ledger
        self._patches = patches
        self._tells_of_this = tells_of_this
        # By id, as some streams take no weak reference; an entry lives as long as its transport.
        self._streams: dict[int, tuple[Any, Unmanaged]] = {}
        for module in _OPENERS:
            imports.call(module, self._hook_openers)

    def of_session(self, session: Any) -> Unmanaged | None:
        """Return what a `ClientSession` is connected by, if known; another session may use it already."""
        source = getattr(session, "_dispatcher", session)  # 2.x keeps its streams there.
        streams = [getattr(source, name, None) for name in ("_read_stream", "_write_stream")]
        if streams == [None, None]:
            return None  # Its server is in this process.
        for stream in streams:  # One of them may be the program's own.
            _, known = self._streams.get(id(stream), (None, None))
            if known is not None:
                return known
        free = [connected for connected in _connected.get() if connected.is_free]
        return free[0] if len(free) == 1 else None

    def settle(self) -> None:
        """End the openings of what no session is known to use; one of unknown transport has opened."""
        for _, connected in list(self._streams.values()):
            if connected.is_free:
                self._ledger.opened(connected)

    def connected(self, connected: Unmanaged, streams: Any) -> None:
        """Note that a transport is open, and which streams are its."""
        connected.phase = Phase.NEGOTIATE
        _connected.set((*(other for other in _connected.get() if other.is_free), connected))
        for stream in streams[:2]:
            self._streams[id(stream)] = (stream, connected)

    def gave_up(self, connected: Unmanaged, streams: Any, error: BaseException | None) -> None:
        """Note that a transport was left, after its session or without one; it may have no streams yet."""
        for stream in streams[:2] if streams is not None else ():
            self._streams.pop(id(stream), None)
        self._ledger.ended(connected, error)

    def _hook_openers(self, module: ModuleType) -> None:
        for name in _OPENERS[module.__name__]:
            opener = getattr(module, name, None)
            if opener is not None:
                self._patches.replace_everywhere(opener, self._opening)

    def _opening(self, opener: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(opener)
        def opener_watched(*args: Any, **kwargs: Any) -> Any:
            connection = opener(*args, **kwargs)
            watched = guarded(
                "watching a transport", self._watched, connection, opener.__name__, args, kwargs
            )
            return connection if watched is None else watched

        return opener_watched

    def _watched(self, connection: Any, opener: str, args: Any, kwargs: Any) -> _Connection | None:
        if not self._tells_of_this():
            return None
        return _Connection(connection, self, lambda: self._begin(of_call(opener, args, kwargs)))

    def _begin(self, target: Target) -> Unmanaged:
        return self._ledger.begin(target, Asker())


class _Connection:
    """A transport's context manager that tells when it is entered and left."""

    def __init__(self, connection: Any, connections: Connections, begin: Callable[[], Unmanaged]) -> None:
        self._connection = connection
        self._connections = connections
        self._begin = begin
        self._begun: Unmanaged | None = None
        self._streams: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def __aenter__(self) -> Any:
        begun = None if _entering.get() else guarded("recording an opening", self._begin)
        token = _entering.set(True)
        try:
            streams = await self._connection.__aenter__()
        except BaseException as error:
            if begun is not None:
                guarded("recording a failed opening", self._connections.gave_up, begun, None, error)
            raise
        finally:
            _entering.reset(token)
        self._begun, self._streams = begun, streams
        if begun is not None:
            guarded("recording a connection", self._connections.connected, begun, streams)
        return streams

    async def __aexit__(self, *exc_info: Any) -> Any:
        try:
            return await self._connection.__aexit__(*exc_info)
        finally:
            if self._begun is not None:
                error = exc_info[1] if len(exc_info) > 1 else None
                guarded("recording an end", self._connections.gave_up, self._begun, self._streams, error)
