"""The application: puts the parts together."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from . import api, pages
from .guard import Guard
from .ingest import routes as ingest
from .live import Live
from .store import SQLiteStore, Store
from .stream import Hub
from .wiring import Wiring

RESTORED_S = 180.0
"""How far back reports in progress are looked for at the start, in seconds: the longest pause between two
is a minute."""


class Dashboard:
    """The guarded ASGI application; made by `create_app`.

    Attributes:
        hub: The live streams; to end them before the server waits for them.
    """

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self.hub = hub
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._app(scope, receive, send)


def create_app(
    *,
    db: str | os.PathLike[str] | None = None,
    store: Store | None = None,
    host: str = "127.0.0.1",
    token: str | None = None,
    allowed_hosts: Iterable[str] = (),
    clock: Callable[[], float] = time.time,
) -> Dashboard:
    """Return the dashboard as an ASGI application.

    Args:
        db: The database file; None (default) for one that is gone at the end.
        store: Where rows are kept instead of `db`; closed at the end.
        host: The address it will listen on; decides which `Host` headers are ours.
        token: The secret every request must show; needed on any address that others reach.
        allowed_hosts: More names it may be asked for.
        clock: Returns Unix seconds.

    Raises:
        ValueError: `host` can be reached by others and there is no token.
        StoreError: The database cannot be used.
    """
    if not token:
        Guard(_nothing, host=host)  # Says no before a database is made.
    wiring_store = store if store is not None else SQLiteStore(db)
    live = Live(clock)
    wiring = Wiring(wiring_store, live, Hub(live))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        reports = await anyio.to_thread.run_sync(wiring_store.open_reports, clock() - RESTORED_S)
        live.restore(reports)
        try:
            yield
        finally:
            await wiring.hub.close()
            await anyio.to_thread.run_sync(wiring_store.close)

    app = FastAPI(
        title="instrumented-sessions dashboard",
        lifespan=lifespan,
        docs_url=None,  # Those pages load scripts from elsewhere.
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        # Else, in an instrumented process, taking in a span would make spans, and so on for ever.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.include_router(ingest.router(wiring))
    app.include_router(api.router(wiring))
    app.include_router(api.health(wiring))
    app.include_router(pages.router())
    return Dashboard(Guard(app, host=host, token=token, allowed_hosts=allowed_hosts), wiring.hub)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve nothing."""
