"""Tells a ledger of every client session of the installed `mcp`, whichever framework opened it.

Hooked is `ClientSession`: where it is entered, initialised, asked and left. Sessions of our own managers,
which tell of themselves, are left alone.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ...parking import current_actor
from ...transports import sdk
from ...vocabulary import Phase
from .askers import Asker
from .connections import Connections
from .hooks import Patches, guarded
from .imports import WhenImported
from .ledger import Ledger
from .targets import MEMORY, UNKNOWN, Target
from .unmanaged import Unmanaged, UnmanagedCall

_HANDSHAKES = ("initialize", "server/discover")


class EverySession:
    """Tells `ledger` of the sessions that are opened from now on, until `close`."""

    def __init__(self, ledger: Ledger, patches: Patches, imports: WhenImported) -> None:
        self._ledger = ledger
        self._patches = patches
        self._is_open = True
        self._sessions: weakref.WeakKeyDictionary[Any, Unmanaged] = weakref.WeakKeyDictionary()
        self._connections = Connections(ledger, patches, imports, self.tells_of_this)
        for name, make in (
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
        unmanaged = self._connections.of_session(session)
        if unmanaged is None or not unmanaged.is_free:
            unmanaged = self._ledger.begin(_target(session, unmanaged), Asker())
        unmanaged.is_taken = True
        unmanaged.phase = Phase.NEGOTIATE
        self._sessions[session] = unmanaged
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
            guarded("recording an opening", self._opened, unmanaged)
            return answer

        return initialize

    def _adopting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def adopt(session: Any, *args: Any, **kwargs: Any) -> Any:
            answer = original(session, *args, **kwargs)
            unmanaged = self._sessions.get(session)
            if unmanaged is not None:
                guarded("recording an opening", self._opened, unmanaged)
            return answer

        return adopt

    def _opened(self, unmanaged: Unmanaged) -> None:
        self._ledger.opened(unmanaged)
        if unmanaged.kind == UNKNOWN.kind:  # It may use any of those that nobody else uses.
            self._connections.settle()

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


def _target(session: Any, connected: Unmanaged | None) -> Target:
    """Return the target of a session that is not the first over its transport, or whose is not known."""
    if connected is not None:
        return connected.target
    is_direct = type(getattr(session, "_dispatcher", None)).__name__ == "DirectDispatcher"
    return MEMORY if is_direct else UNKNOWN  # In the server's process; or over none of the SDK's transports.
