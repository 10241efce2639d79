"""The JSON API under `/api/v1/`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import anyio.to_thread
from fastapi import APIRouter, Depends, HTTPException, Path, Query
from fastapi.responses import StreamingResponse

from . import ranges, views
from .contention import still_open, transports
from .ranges import Range, RangeError
from .rows import Work
from .schemas import Loops, Now, Sessions, Timeline, Trace, Transports, Verdict, Waits
from .store import Window, window, window_between
from .wiring import Wiring

T = TypeVar("T")

RangeS = Annotated[float, Query(ge=10, le=7 * 86_400, description="How far back, in seconds.")]
DEFAULT_RANGE_S = 900.0
_INSTANT = "Milliseconds since 1970-01-01 UTC; `from` and `to` together replace `range_s`."
MAX_BARS = 2_000
MAX_STALLS = 100


def _chosen(
    since: Annotated[str | None, Query(alias="from", description=_INSTANT)] = None,
    until: Annotated[str | None, Query(alias="to", description=_INSTANT)] = None,
) -> Range | None:
    """Return the range that a link asks for; None for the time up to now."""
    try:
        return ranges.parse(since, until)
    except RangeError as error:
        raise HTTPException(400, str(error)) from error


Chosen = Annotated[Range | None, Depends(_chosen)]


def _window(chosen: Range | None, range_s: float, now: float) -> Window:
    return window(now, range_s) if chosen is None else window_between(*chosen, now)


def router(wiring: Wiring) -> APIRouter:
    """Return the endpoints."""
    routes = APIRouter(prefix="/api/v1")

    async def ask(query: Callable[[], T]) -> T:
        """Run a query of the store in a thread, so that it never holds up the loop."""
        return await anyio.to_thread.run_sync(query, limiter=wiring.queries)

    @routes.get("/now")
    async def now() -> Now:
        """Everything that is true now; the same as the stream sends."""
        return wiring.live.now()

    @routes.get("/verdict")
    async def verdict() -> Verdict:
        """How things stand, in one sentence."""
        return wiring.live.now().verdict

    @routes.get("/waits")
    async def waits() -> Waits:
        """What waits now, the oldest first."""
        snapshot = wiring.live.now()
        return Waits(at=snapshot.at, total=snapshot.waits_total, waits=snapshot.waits, stalls=snapshot.stalls)

    @routes.get("/sessions")
    async def sessions() -> Sessions:
        """Sessions by transport and state."""
        snapshot = wiring.live.now()
        return Sessions(at=snapshot.at, sessions=snapshot.sessions)

    @routes.get("/transports")
    async def contention(chosen: Chosen, range_s: RangeS = DEFAULT_RANGE_S) -> Transports:
        """Contention of the transports side by side."""
        live = wiring.live.now()
        snapshot = views.as_of(live, chosen)
        # How locks are now is no part of a range that stays where it is.
        gauges = wiring.live.lock_gauges() if chosen is None else {}
        span = _window(chosen, range_s, live.at)

        def query() -> Transports:
            found = wiring.store.contention(span)
            busy = [*found.busy, *still_open(snapshot.waits, snapshot.at, span)]
            return transports(found._replace(busy=busy), gauges, span)

        return await ask(query)

    @routes.get("/loops")
    async def loops(chosen: Chosen, range_s: RangeS = DEFAULT_RANGE_S) -> Loops:
        """Loops, their lag, and their latest stalls."""
        live = wiring.live.now()
        snapshot = views.as_of(live, chosen)
        span = _window(chosen, range_s, live.at)

        def query() -> Loops:
            ended = wiring.store.work(span.since * 10**9, span.until * 10**9, [Work.STALL], MAX_STALLS)
            return views.loops(wiring.store.loop_lag(span), ended, snapshot, span)

        return await ask(query)

    @routes.get("/timeline")
    async def timeline(chosen: Chosen, range_s: RangeS = 300.0) -> Timeline:
        """Waits and holds as lanes, one for each session."""
        live = wiring.live.now()
        snapshot = views.as_of(live, chosen)
        span = chosen or Range(live.at - range_s, live.at)
        kinds = [Work.CALL, Work.REQUEST, Work.OPENING, Work.LOCK]

        def query() -> Timeline:
            ended = wiring.store.work(int(span.since * 1e9), int(span.until * 1e9), kinds, MAX_BARS)
            return views.timeline(ended, snapshot, span, truncated=len(ended) == MAX_BARS)

        return await ask(query)

    @routes.get("/traces/{trace_id}")
    async def trace(trace_id: Annotated[str, Path(pattern="^[0-9a-fA-F]{32}$")]) -> Trace:
        """A trace as far as it has been reported."""

        def query() -> Trace | None:
            spans, logs = wiring.store.trace(bytes.fromhex(trace_id))
            return views.trace(trace_id.lower(), spans, logs) if spans or logs else None

        found = await ask(query)
        if found is None:
            raise HTTPException(404, f"no span of trace {trace_id} has been reported")
        return found

    @routes.get("/stream", response_class=StreamingResponse, responses=_STREAM)
    async def stream() -> StreamingResponse:
        """Snapshots as server-sent events named `now`, whenever something arrives and every second."""
        return StreamingResponse(
            wiring.hub.frames(),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return routes


def health(wiring: Wiring) -> APIRouter:
    """Return `/healthz` (the loop answers) and `/readyz` (the store answers, too)."""
    routes = APIRouter()

    @routes.get("/healthz")
    async def healthz() -> dict[str, Any]:
        """Whether the process answers."""
        return {"status": "ok", "time": time.time()}

    @routes.get("/readyz")
    async def readyz() -> dict[str, Any]:
        """Whether the store answers, and how much it holds."""
        try:
            statistics = await anyio.to_thread.run_sync(wiring.store.statistics, limiter=wiring.queries)
        except Exception as error:
            raise HTTPException(503, f"the store does not answer: {error}") from error
        return {"status": "ok", **statistics}

    return routes


_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Server-sent events; `data` is a `Now`."}
}
