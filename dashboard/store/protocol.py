"""What the dashboard asks of a store; the embedded one is SQLite, a distributed one can take its place."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

from ..rows import Batch, Span
from .slots import Window


class StoreError(Exception):
    """The store cannot do what was asked; the message says why and what to do."""


class StoreBusyError(StoreError):
    """The store cannot keep up at the moment; the same request may work a little later."""


class StoredSpan(NamedTuple):
    """A span as it was stored."""

    span: Span
    received_at: float


class TraceLog(NamedTuple):
    """A log record that belongs to a trace."""

    span_id: bytes | None
    time_ns: int
    severity: int
    event: str
    body: str


class Durations(NamedTuple):
    """How long things took, summed up: of one transport, kind of work and set of words."""

    source: str
    """`spans`: exact to 1 %. `metrics`: complete, as exact as the histogram's buckets."""
    transport: str
    what: str
    """`request`, `opening`, `lock`, `call` or `hold`."""
    lock: str
    granularity: str
    outcome: str
    step: int
    """Which step of the window; -1 for all of it."""
    observations: int
    total_s: float
    max_s: float | None
    buckets: tuple[tuple[float, float, int], ...]


class Amount(NamedTuple):
    """What a counter grew by, or a gauge's maximum, in one step."""

    metric: str
    transport: str
    labels: tuple[str, ...]
    """The other label values, in the catalog's order."""
    step: int
    value: float


class Busy(NamedTuple):
    """Seconds that were spent in one step, by kind of work."""

    transport: str
    what: str
    step: int
    busy_s: float


class Contention(NamedTuple):
    """Everything about the transports in one window."""

    durations: Sequence[Durations]
    amounts: Sequence[Amount]
    busy: Sequence[Busy]
    kinds: dict[str, str]
    """The kind of each transport."""


class LoopLag(NamedTuple):
    """A loop's lag and stalls in one window."""

    service: str
    instance: str
    loop: str
    step: int
    """Which step of the window; -1 for all of it."""
    ticks: int
    total_s: float
    max_s: float | None
    buckets: tuple[tuple[float, float, int], ...]


class Store(Protocol):
    """Keeps what arrives. Everything but `submit` blocks: call it from a worker thread."""

    def submit(self, batch: Batch, received_at: float) -> Future[int]:
        """Queue a batch; the future gives the number of points not taken, once the rest is safe.

        Raises:
            StoreBusyError: Too much waits already.
            StoreError: The store is closed.
        """
        ...

    def trace(self, trace_id: bytes) -> tuple[list[StoredSpan], list[TraceLog]]:
        """Return what is known of a trace, oldest first."""
        ...

    def contention(self, window: Window) -> Contention:
        """Return what the transports did in a window."""
        ...

    def loop_lag(self, window: Window) -> list[LoopLag]:
        """Return the lag of every loop in a window, by step and in all."""
        ...

    def work(self, since_ns: int, until_ns: int, kinds: Sequence[int], limit: int) -> list[StoredSpan]:
        """Return ended work of these kinds that touches a range of time, the latest `limit`."""
        ...

    def open_reports(self, received_since: float) -> list[StoredSpan]:
        """Return reports of work in progress that arrived since then and whose work has not ended."""
        ...

    def statistics(self) -> dict[str, Any]:
        """Return sizes and counts for `/readyz`."""
        ...

    def close(self) -> None:
        """Write what is queued and let go; idempotent."""
        ...
