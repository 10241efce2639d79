"""Tells a ledger of every client session of the installed `mcp`, whichever framework opened it.

Hooked are the SDK's functions that open a transport, and `ClientSession`: where it is entered, initialised,
asked and left. Sessions of our own managers, which tell of themselves, are left alone.
"""

from __future__ import annotations

import contextvars
import functools
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

from ...parking import current_actor
from ...transports import sdk
from ...vocabulary import Phase
from .askers import Asker
from .hooks import Patches, guarded
from .imports import WhenImported
from .ledger import Ledger, Unmanaged, UnmanagedCall
from .targets import MEMORY, UNKNOWN, of_call

_OPENERS = {
    "mcp.client.stdio": ("stdio_client",),
    "mcp.client.sse": ("sse_client",),
    "mcp.client.streamable_http": ("streamable_http_client", "streamablehttp_client"),
    "mcp.client.websocket": ("websocket_client",),
}
"""The functions that open a transport, by module; not every version has all of them."""

_HANDSHAKES = ("initialize", "server/discover")

_connecting: contextvars.ContextVar[Unmanaged | None] = contextvars.ContextVar(
    "instrumented_sessions_connecting", default=None
)
"""The session whose transport was opened last in this context; a `ClientSession` may take it over."""

_entering: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "instrumented_sessions_entering", default=False
)
"""Whether a transport is being opened: one function of the SDK calls another."""


class EverySession:
    """Tells `ledger` of the sessions that are opened from now on, until `close`."""

    def __init__(self, ledger: Ledger, patches: Patches, imports: WhenImported) -> None:
        self._ledger = ledger
        self._patches = patches
        self._is_open = True
        self._sessions: weakref.WeakKeyDictionary[Any, Unmanaged] = weakref.WeakKeyDictionary()
        # By id, as some streams take no weak reference; an entry lives as long as its transport.
        self._streams: dict[int, tuple[Any, Unmanaged]] = {}
        for module in _OPENERS:
            imports.call(module, self._hook_openers)
        for name, make in (
            ("__init__", self._constructing),
            ("__aenter__", self._entering),
            ("__aexit__", self._leaving),
            ("initialize", self._initializing),
            ("send_request", self._requesting),
        ):
            patches.replace(sdk.ClientSession, name, make)
        if hasattr(sdk.ClientSession, "adopt"):  # 2.x, which may open a session without `initialize`.
            patches.replace(sdk.ClientSession, "adopt", self._adopting)

    def close(self) -> None:
        """Tell of no more; the patches are their owner's to undo."""
        self._is_open = False

    def tells_of_this(self) -> bool:
        """Return whether what opens now is recorded; a manager's own openings are not."""
        return self._is_open and current_actor() is None

    # -- transports

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
        if not self.tells_of_this():
            return None
        return _Connection(connection, self, lambda: self._begin(of_call(opener, args, kwargs)))

    def _begin(self, target: Any) -> Unmanaged:
        return self._ledger.begin(target, Asker())

    def connected(self, session: Unmanaged, streams: Any) -> None:
        """Note that a transport is open, and which streams are its."""
        session.phase = Phase.NEGOTIATE
        _connecting.set(session)
        self._streams[id(streams[0])] = (streams[0], session)

    def gave_up(self, session: Unmanaged, streams: Any, error: BaseException | None) -> None:
        """Note that a transport was left, after its session or without one; it may have no streams yet."""
        if streams is not None:
            self._streams.pop(id(streams[0]), None)
        self._ledger.ended(session, error)

    # -- sessions

    def _constructing(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def init(session: Any, *args: Any, **kwargs: Any) -> None:
            original(session, *args, **kwargs)
            guarded("recognising a session", self._recognise, session, args, kwargs)

        return init

    def _recognise(self, session: Any, args: Any, kwargs: Any) -> None:
        """Take over what is known from the session's transport."""
        if not self.tells_of_this():
            return
        stream = args[0] if args else kwargs.get("read_stream")
        _, known = self._streams.get(id(stream), (None, None))
        if stream is None:  # 2.x's client passes it on within something else.
            known = _connecting.get()
        if known is not None and not known.is_taken:  # Else a copy of the context that took it.
            known.is_taken = True
            self._sessions[session] = known

    def _entering(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def aenter(session: Any, *args: Any, **kwargs: Any) -> Any:
            unmanaged = guarded("recording an opening", self._entered, session)
            try:
                return await original(session, *args, **kwargs)
            except BaseException as error:
                if unmanaged is not None:
                    guarded("recording a failed opening", self._ledger.ended, unmanaged, error)
                raise

        return aenter

    def _entered(self, session: Any) -> Unmanaged | None:
        if not self.tells_of_this():
            return None
        unmanaged = self._sessions.get(session)
        if unmanaged is None:  # Over a transport that is not the SDK's, or in the server's process.
            dispatcher = type(getattr(session, "_dispatcher", None)).__name__
            unmanaged = self._begin(MEMORY if dispatcher == "DirectDispatcher" else UNKNOWN)
            self._sessions[session] = unmanaged
        unmanaged.phase = Phase.NEGOTIATE
        return unmanaged

    def _leaving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def aexit(session: Any, *exc_info: Any) -> Any:
            try:
                return await original(session, *exc_info)
            finally:
                unmanaged = self._sessions.get(session)
                if unmanaged is not None:
                    error = exc_info[1] if len(exc_info) > 1 else None
                    guarded("recording an end", self._ledger.ended, unmanaged, error)

        return aexit

    def _initializing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def initialize(session: Any, *args: Any, **kwargs: Any) -> Any:
            unmanaged = self._sessions.get(session)
            if unmanaged is None:
                return await original(session, *args, **kwargs)
            with self._scope("an opening's scope", self._ledger.opening_scope, unmanaged):
                try:
                    answer = await original(session, *args, **kwargs)
                except BaseException as error:
                    guarded("recording a failed opening", self._ledger.failed, unmanaged, error)
                    raise
            guarded("recording an opening", self._ledger.opened, unmanaged)
            return answer

        return initialize

    def _adopting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def adopt(session: Any, *args: Any, **kwargs: Any) -> Any:
            answer = original(session, *args, **kwargs)
            unmanaged = self._sessions.get(session)
            if unmanaged is not None:
                guarded("recording an opening", self._ledger.opened, unmanaged)
            return answer

        return adopt

    def _requesting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def send_request(session: Any, *args: Any, **kwargs: Any) -> Any:
            call = guarded("recording a call", self._call, session, args, kwargs)
            if call is None:
                return await original(session, *args, **kwargs)
            with self._scope("a call's scope", self._ledger.call_scope, call):
                try:
                    result = await original(session, *args, **kwargs)
                except BaseException as error:
                    guarded("recording a call's end", self._ledger.end_call, call, error=error)
                    raise
                guarded("recording a call's end", self._ledger.end_call, call, result)
                return result

        return send_request

    def _call(self, session: Any, args: Any, kwargs: Any) -> UnmanagedCall | None:
        unmanaged = self._sessions.get(session)
        if unmanaged is None or not self._is_open:
            return None
        request = args[0] if args else kwargs["request"]
        request = getattr(request, "root", request)  # 1.x wraps it.
        method = str(request.method)
        if method in _HANDSHAKES:
            return None  # They are the opening.
        params = getattr(request, "params", None)
        target = getattr(params, "name", None)
        return self._ledger.begin_call(
            unmanaged, method, target if isinstance(target, str) else None, Asker()
        )

    def _scope(
        self, what: str, scope: Callable[[Any], AbstractContextManager[object]], of: object
    ) -> AbstractContextManager[object]:
        return guarded(what, scope, of) or nullcontext()


class _Connection:
    """A transport's context manager that tells when it is entered and left."""

    def __init__(self, connection: Any, sessions: EverySession, begin: Callable[[], Unmanaged]) -> None:
        self._connection = connection
        self._sessions = sessions
        self._begin = begin
        self._session: Unmanaged | None = None
        self._streams: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def __aenter__(self) -> Any:
        session = None if _entering.get() else guarded("recording an opening", self._begin)
        token = _entering.set(True)
        try:
            streams = await self._connection.__aenter__()
        except BaseException as error:
            if session is not None:
                guarded("recording a failed opening", self._sessions.gave_up, session, None, error)
            raise
        finally:
            _entering.reset(token)
        self._session, self._streams = session, streams
        if session is not None:
            guarded("recording a connection", self._sessions.connected, session, streams)
        return streams

    async def __aexit__(self, *exc_info: Any) -> Any:
        try:
            return await self._connection.__aexit__(*exc_info)
        finally:
            if self._session is not None:
                error = exc_info[1] if len(exc_info) > 1 else None
                guarded("recording an end", self._sessions.gave_up, self._session, self._streams, error)
