"""An auth object, kept off the portal's loop and watched: shows when an opening waits for a person."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any

from ..vocabulary import Phase
from . import sdk, secrets
from .elsewhere import on_loop
from .streams import Link

AUTHORIZE_AFTER_S = 0.1
"""An auth object that has sent nothing for this long, in seconds, is taken to wait for a person."""

_HARMLESS = (sdk.httpx.BasicAuth, sdk.httpx.DigestAuth)  # Pure computation of the HTTP library.


def watched_auth(auth: Any, link: Link) -> Any:
    """Return what the HTTP library is given for a program's auth object; None for None."""
    if auth is None or type(auth) in _HARMLESS or not hasattr(auth, "async_auth_flow"):
        return auth
    return WatchedAuth(auth, link)


class WatchedAuth(sdk.httpx.Auth):  # type: ignore[misc]  # Its type depends on the SDK.
    """Runs an auth object on a loop of its own, and shows `authorize` while it waits.

    It waits for a person, or for another opening that does. Works with any auth object, the SDK's OAuth
    provider included, because between the requests that its flow sends it has nothing else to do that
    takes time. The flow is one task over there, as its locks demand.

    Args:
        inner: The auth object; shared with other sessions, and not changed.
        link: The connection.
    """

    def __init__(self, inner: Any, link: Link) -> None:
        self._inner = inner
        self._link = link

    async def async_auth_flow(self, request: Any) -> AsyncIterator[Any]:
        """Run the flow of the auth object."""
        here = asyncio.get_running_loop()
        given = set(request.headers.items())
        turns: asyncio.Queue[tuple[Any, asyncio.Future[Any]] | None] = asyncio.Queue()

        async def send(outgoing: Any) -> Any:
            turn = outgoing, here.create_future()
            turns.put_nowait(turn)
            return await turn[1]

        async def send_from_there(outgoing: Any) -> Any:
            return await on_loop(here, lambda: send(outgoing), Context())

        there, context = self._link.callbacks.auth_loop(), self._link.callbacks.calls.context()
        flow = here.create_task(
            on_loop(there, lambda: _run(self._inner, request, send_from_there, here), context)
        )
        flow.add_done_callback(lambda _: turns.put_nowait(None))
        try:
            while True:
                with self._thinking():
                    turn = await turns.get()
                if turn is None:
                    flow.result()  # Raises what the auth object has raised.
                    return
                outgoing, answered = turn
                if outgoing is request:  # With what the auth object has added.
                    added = dict(outgoing.headers.items() - given)
                    self._link.secrets.keep_for_now(secrets.in_headers(added))
                answered.set_result((yield outgoing))
        finally:
            flow.cancel()
            await asyncio.wait([flow])  # A moment: the auth object itself is not waited for.

    @contextmanager
    def _thinking(self) -> Iterator[None]:
        if self._link.is_open:
            yield
            return
        probe = self._link.probe
        before = probe.phase

        def authorize() -> None:
            probe.phase = Phase.AUTHORIZE

        timer = asyncio.get_running_loop().call_later(AUTHORIZE_AFTER_S, authorize)
        try:
            yield
        finally:
            timer.cancel()
            probe.phase = before


async def _run(auth: Any, request: Any, send: Callable[[Any], Any], home: asyncio.AbstractEventLoop) -> None:
    """Run a flow on the loop of its auth object; `send` lets the loop `home` send a request."""
    flow = auth.async_auth_flow(request)
    try:
        outgoing = await flow.__anext__()
        while True:
            response = await send(outgoing)
            with _readable(response, home):
                outgoing = await flow.asend(response)
    except StopAsyncIteration:
        return
    finally:
        await flow.aclose()


@contextmanager
def _readable(response: Any, home: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let a response be read on the loop that its connection is on, wherever `aread()` is awaited."""
    aread = response.aread
    response.aread = lambda: on_loop(home, aread, Context())
    try:
        yield
    finally:
        del response.aread
