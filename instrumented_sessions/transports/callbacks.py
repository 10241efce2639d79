"""Client callbacks, kept off the portal loop: one that blocks delays other callbacks only."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any

import anyio

from . import sdk
from .base import CALLBACKS, Callback, Options
from .callback_loop import CallbackLoop
from .calls import Calls
from .elsewhere import in_thread, on_loop

logger = logging.getLogger(__name__)

NOTICE_LIMIT = 1000
"""How many notifications may wait for slow callbacks of a session; more are dropped, with a warning."""

_NOTICES = frozenset({"logging_callback", "message_handler"})  # Nobody waits for what they return.
_INTERNAL_ERROR = -32603


class Callbacks:
    """The callbacks of one session.

    Async functions run on `callback_loop`, else on a loop of ours; plain ones in a thread of ours.
    Notifications are passed on one after the other, requests at once. Each runs in the context of the
    call that it belongs to, see `Calls.context`.
    """

    def __init__(self, options: Options) -> None:
        self.calls = Calls()
        """The calls on the session; replaced once there is one."""
        self._options = options
        self._loop = CallbackLoop()
        self._auth_loop = CallbackLoop(getattr(options, "auth", None), "instrumented-sessions-auth")
        self._send, self._receive = anyio.create_memory_object_stream[Any](NOTICE_LIMIT)
        self._dropped = 0

    def for_sdk(self) -> dict[str, Callable[..., Awaitable[Any]]]:
        """Return what the SDK is given, by its parameters' names; only what the program has set."""
        given: dict[str, Callable[..., Awaitable[Any]]] = {}
        for name in CALLBACKS:
            callback = getattr(self._options, name)
            if callback is not None:
                given[name] = (
                    self._notice(name, callback) if name in _NOTICES else self._request(name, callback)
                )
        return given

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Pass notifications on within this block."""
        try:
            if any(getattr(self._options, name) is not None for name in _NOTICES):
                async with anyio.create_task_group() as group:
                    group.start_soon(self._pass_on, name="instrumented-sessions notices")
                    try:
                        yield
                    finally:
                        group.cancel_scope.cancel()
            else:
                yield
        finally:
            self._send.close()
            self._receive.close()
            self._loop.close()
            self._auth_loop.close()

    def _request(self, name: str, callback: Callback) -> Callable[..., Awaitable[Any]]:
        async def answer(*args: Any) -> Any:
            try:
                return await self.run(callback, args, self.calls.context())
            except Exception:
                logger.exception("%s of transport %r raised", name, getattr(self._options, "id", None))
                return sdk.types.ErrorData(code=_INTERNAL_ERROR, message=f"the client's {name} failed")

        return answer

    def _notice(self, name: str, callback: Callback) -> Callable[..., Awaitable[None]]:
        async def tell(*args: Any) -> None:
            try:
                self._send.send_nowait((name, callback, args, self.calls.context()))
            except anyio.WouldBlock:
                self._dropped += 1
                if self._dropped == 1:
                    logger.warning("%s is too slow: notifications are dropped", name)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                pass  # The session is being closed.

        return tell

    async def _pass_on(self) -> None:
        async for name, callback, args, context in self._receive:
            try:
                await self.run(callback, args, context)
            except Exception:
                logger.exception("%s of transport %r raised", name, getattr(self._options, "id", None))

    async def run(self, callback: Callback, args: tuple[Any, ...], context: Context) -> Any:
        """Run a function of the program where it belongs and return its result.

        Cancelling this cancels an async one.
        """
        if not _is_async(callback):
            result = await in_thread(lambda: context.run(callback, *args))
            if not inspect.isawaitable(result):
                return result
            awaitable = result  # A plain function that returns a coroutine.
            return await on_loop(self._callback_loop(), lambda: awaitable, context)
        return await on_loop(self._callback_loop(), lambda: callback(*args), context)

    def auth_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that runs the transport's auth object.

        It has one of its own, because every request of its sessions needs it: neither a callback that
        blocks nor the consent that another auth object waits for must hold them up.
        """
        return self._options.callback_loop or self._auth_loop.get()

    def _callback_loop(self) -> asyncio.AbstractEventLoop:
        return self._options.callback_loop or self._loop.get()


def _is_async(callback: Callback) -> bool:
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(
        getattr(callback, "__call__", None)  # noqa: B004  # Not whether it can be called, but how.
    )
