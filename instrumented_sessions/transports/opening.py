"""One opening: streams, handshake and an initialised client, on either SDK generation."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from . import sdk
from .base import Options
from .callbacks import Callbacks
from .calls import calls_of
from .client import session_of
from .failures import note_evidence, unwrap
from .generation1 import AnsweringSession
from .streams import Link

logger = logging.getLogger(__name__)

Streams = Callable[[Link], AbstractAsyncContextManager[Any]]
"""Opens a connection: a context manager that yields a stream pair."""


@asynccontextmanager
async def opening(options: Options, streams: Streams) -> AsyncIterator[Any]:
    """Open `streams`, shake hands and yield the client; close everything on every path.

    Raises:
        Exception: Out of the SDK's groups: why there is no session, without secrets (`classify_opening`
            says more about it), or what the block raised. As it came: what ended an open session.
    """
    callbacks = Callbacks(options)
    link = Link(callbacks)
    connect = _connect_2 if sdk.SDK_GENERATION == 2 else _connect_1
    failure: BaseException | None = None
    is_used_up = False
    try:
        with link.scope():
            async with callbacks.running(), connect(options, streams(link), callbacks) as client:
                callbacks.calls = calls_of(session_of(client))
                link.opened()
                try:
                    yield client
                    is_used_up = True
                except Exception as error:
                    failure = error
                    raise
                finally:
                    link.closing()
    except Exception as error:
        link.secrets.scrub(error)
        if is_used_up:
            # Nobody is interested any more. The SDK's tasks stumble over what arrives while it closes.
            logger.debug("%r was not closed cleanly", options, exc_info=True)
        elif not link.is_open:
            failure = link.cause or unwrap(error)
            if link.evidence is not None:
                note_evidence(failure, link.evidence)
        elif failure is None or unwrap(error) is not failure:
            raise
    finally:
        link.secrets.forget()
    if failure is not None:
        raise failure  # Not within `except`, or it would have the group that it comes from as its context.


@asynccontextmanager
async def _connect_2(options: Options, server: Any, callbacks: Callbacks) -> AsyncIterator[Any]:
    client = sdk.Client(
        server,
        mode=options.mode,
        raise_exceptions=getattr(options, "raise_exceptions", False),
        read_timeout_seconds=options.read_timeout_s,
        client_info=options.client_info,
        **callbacks.for_sdk(),
    )
    async with client:
        if options.mode in sdk.MODERN_VERSIONS:
            # A pinned version connects without any traffic: ask, so that an open session has answered.
            await client.session.send_discover(options.mode)
        yield client


@asynccontextmanager
async def _connect_1(
    options: Options, streams: AbstractAsyncContextManager[Any], callbacks: Callbacks
) -> AsyncIterator[Any]:
    async with streams as (read, write):
        session = AnsweringSession(
            read,
            write,
            read_timeout_seconds=sdk.timeout(options.read_timeout_s),
            client_info=options.client_info,
            **callbacks.for_sdk(),
        )
        async with session:
            await session.initialize()
            yield session
