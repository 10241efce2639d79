"""An auth object, watched: shows when an opening waits for a person."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from ..vocabulary import Phase
from . import sdk
from .streams import Link

AUTHORIZE_AFTER_S = 0.1
"""An auth object that has sent nothing for this long, in seconds, is taken to wait for a person."""


class WatchedAuth(sdk.httpx.Auth):  # type: ignore[misc]  # Its type depends on the SDK.
    """Shows `authorize` while an auth object waits for a person, or for another opening that does.

    Works with any auth object, the SDK's OAuth provider included, because between the requests that
    its flow sends it has nothing else to do that takes time.

    Args:
        inner: The auth object; shared with other sessions, and not changed.
        link: The connection.
    """

    def __init__(self, inner: Any, link: Link) -> None:
        self._inner = inner
        self._link = link

    async def async_auth_flow(self, request: Any) -> AsyncIterator[Any]:
        """Run the flow of the auth object."""
        flow = self._inner.async_auth_flow(request)
        try:
            with self._thinking():
                outgoing = await flow.__anext__()
            while True:
                response = yield outgoing
                with self._thinking():
                    outgoing = await flow.asend(response)
        except StopAsyncIteration:
            return
        finally:
            await flow.aclose()

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
