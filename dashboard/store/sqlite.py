"""The embedded store: SQLite behind one writer thread; several batches share a transaction."""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from ..rows import Batch
from . import read_contention, read_loops, read_spans, retention
from .connections import Database
from .protocol import Contention, LoopLag, StoreBusyError, StoredSpan, StoreError, TraceLog
from .slots import Window
from .write import BatchWriter

WRITER_THREAD_NAME = "instrumented-sessions-dashboard-writer"
MAX_QUEUED_BATCHES = 256
_MAX_ROWS_A_TRANSACTION = 8_192
_RETENTION_INTERVAL_S = 30.0
_CLOSE_LIMIT_S = 10.0

logger = logging.getLogger(__name__)


class _Job(NamedTuple):
    batch: Batch
    received_at: float
    done: Future[int]

    @property
    def rows(self) -> int:
        return len(self.batch.spans) + len(self.batch.points) + len(self.batch.logs)


class SQLiteStore:
    """Keeps everything in one SQLite file; may be used from any thread.

    Args:
        path: The file; None or `:memory:` for one that is gone after `close()`.
        retention_s: How long spans are kept, in seconds. Default one day.
        max_spans: How many spans are kept at most. Default two million, about 1 GB.
        clock: Returns Unix seconds; tells what is old.

    Raises:
        StoreError: The file cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        retention_s: float = 86_400.0,
        max_spans: int = 2_000_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = Database(path)
        self._retention_s = retention_s
        self._max_spans = max_spans
        self._clock = clock
        self._jobs: queue.Queue[_Job | None] = queue.Queue(MAX_QUEUED_BATCHES)
        self._closing = threading.Lock()  # Protects `_closed`, so that no job comes after the last.
        self._closed = False
        self._writer = BatchWriter(self._database.writer)
        self._thread = threading.Thread(target=self._run, name=WRITER_THREAD_NAME, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<SQLiteStore {state} {self._database.path} {self._jobs.qsize()} queued>"

    def submit(self, batch: Batch, received_at: float) -> Future[int]:
        """Queue a batch for the writer; never blocks."""
        job = _Job(batch, received_at, Future())
        with self._closing:
            if self._closed:
                raise StoreError("the store is closed")
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                raise StoreBusyError(f"{MAX_QUEUED_BATCHES} requests wait to be stored; try again") from None
        return job.done

    def trace(self, trace_id: bytes) -> tuple[list[StoredSpan], list[TraceLog]]:
        """Return what is known of a trace, oldest first."""
        with self._database.reader() as connection:
            return read_spans.trace(connection, trace_id)

    def work(self, since_ns: int, until_ns: int, kinds: Sequence[int], limit: int) -> list[StoredSpan]:
        """Return ended work of these kinds that touches a range of time, the latest `limit`."""
        with self._database.reader() as connection:
            return read_spans.work(connection, since_ns, until_ns, kinds, limit)

    def open_reports(self, received_since: float) -> list[StoredSpan]:
        """Return reports of work in progress that arrived since then and whose work has not ended."""
        with self._database.reader() as connection:
            return read_spans.open_reports(connection, received_since)

    def contention(self, window: Window) -> Contention:
        """Return what the transports did in a window."""
        with self._database.reader() as connection:
            return read_contention.contention(connection, window)

    def loop_lag(self, window: Window) -> list[LoopLag]:
        """Return the lag of every loop in a window, by step and in all."""
        with self._database.reader() as connection:
            return read_loops.loop_lag(connection, window)

    def statistics(self) -> dict[str, Any]:
        """Return how much is stored and how much waits to be."""
        with self._database.reader() as connection:
            first, last = connection.execute("SELECT min(id), max(id) FROM spans").fetchone()
        return {"spans": 0 if last is None else last - first + 1, "queued": self._jobs.qsize()}

    def close(self) -> None:
        """Write what is queued, end the writer and close the file; idempotent."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._jobs.put(None)
        self._thread.join(_CLOSE_LIMIT_S)
        self._database.close()

    # The writer's thread.

    def _run(self) -> None:
        next_retention = time.monotonic()
        while True:
            try:
                job = self._jobs.get(timeout=max(0.0, next_retention - time.monotonic()))
            except queue.Empty:
                next_retention = time.monotonic() + (0.0 if self._delete_some() else _RETENTION_INTERVAL_S)
                continue
            if job is None:
                return
            jobs, is_last = self._more(job)
            self._store(jobs)
            if is_last:
                return
            if time.monotonic() > next_retention:  # Also while there is never a quiet moment.
                next_retention = time.monotonic() + (0.05 if self._delete_some() else _RETENTION_INTERVAL_S)

    def _more(self, job: _Job) -> tuple[list[_Job], bool]:
        """Return `job` and what else waits already, as much as one transaction should hold."""
        jobs, rows = [job], job.rows
        while rows < _MAX_ROWS_A_TRANSACTION:
            try:
                another = self._jobs.get_nowait()
            except queue.Empty:
                break
            if another is None:
                return jobs, True
            jobs.append(another)
            rows += another.rows
        return jobs, False

    def _store(self, jobs: list[_Job]) -> None:
        # From here on nobody can cancel them; what was cancelled before is not wanted any more.
        jobs = [job for job in jobs if job.done.running() or job.done.set_running_or_notify_cancel()]
        try:
            left_out = self._transaction(jobs)
        except Exception as error:
            if len(jobs) > 1:  # The fault of one is not the others'.
                for job in jobs:
                    self._store([job])
                return
            logger.exception("a batch could not be stored")
            # A full disk or a lock held by another program may be over soon; other errors are not.
            kind = StoreBusyError if isinstance(error, sqlite3.OperationalError) else StoreError
            for job in jobs:
                job.done.set_exception(kind(f"not stored: {error}"))
            return
        for job, count in zip(jobs, left_out):
            job.done.set_result(count)

    def _transaction(self, jobs: list[_Job]) -> list[int]:
        connection = self._database.writer
        connection.execute("BEGIN IMMEDIATE")
        try:
            left_out = [self._writer.write(job.batch, job.received_at) for job in jobs]
            self._writer.flush()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._writer.forget()
            raise
        return left_out

    def _delete_some(self) -> bool:
        """Delete a chunk of what is old and return whether there is more."""
        now = self._clock()
        connection = self._database.writer
        try:
            connection.execute("BEGIN IMMEDIATE")
            deleted = retention.delete_chunk(connection, now - self._retention_s, self._max_spans)
            if deleted < retention.CHUNK_ROWS:
                retention.delete_rollups(connection, now, now - self._retention_s)
            connection.execute("COMMIT")
        except sqlite3.Error:
            logger.exception("old rows could not be deleted")
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return False
        return deleted >= retention.CHUNK_ROWS
