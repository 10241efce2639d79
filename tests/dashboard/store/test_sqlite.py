"""dashboard/store: what is written can be read, counted once, and leaves in time."""

from __future__ import annotations

import math
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from instrumented_sessions_dashboard.rows import Batch, Span, Work
from instrumented_sessions_dashboard.store import SQLiteStore, StoreBusyError, StoreError, sqlite, window
from instrumented_sessions_dashboard.store.connections import Database
from instrumented_sessions_dashboard.store.retention import CHUNK_ROWS, delete_chunk, delete_rollups

from instrumented_sessions.telemetry import catalog
from tests.dashboard.building import T0, batch, counter, gauge, histogram, lock_wait, report_of, span

WINDOW = window(T0 + 100, 900)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    kept = SQLiteStore(tmp_path / "d.db", clock=lambda: T0)
    yield kept
    kept.close()


def put(store: SQLiteStore, *batches: Batch) -> None:
    for each in batches:
        store.submit(each, T0).result(5)


def waits(store: SQLiteStore, source: str = "spans") -> list[tuple[int, float]]:
    return [
        (part.observations, round(part.total_s, 6))
        for part in store.contention(WINDOW).durations
        if part.source == source and part.step == -1 and part.what == "lock"
    ]


def test_trace_is_read_back_as_it_came(store: SQLiteStore) -> None:
    """All of a span's facts survive, oldest span first."""
    first = span("agent run", start=T0, facts={"a": [1, "b"], "ü": "✓"})
    second = span("step", start=T0 + 1, trace_id=first.trace_id, parent_id=first.span_id)
    put(store, batch(second, first, span("another")))
    spans, logs = store.trace(first.trace_id)
    assert [stored.span for stored in spans] == [first, second]
    assert logs == []


def test_batch_sent_twice_counts_once(store: SQLiteStore) -> None:
    """An exporter that did not get the answer sends again."""
    again = batch(lock_wait(2.0), lock_wait(3.0), span("other"))
    put(store, again, again)
    assert waits(store) == [(2, 5.0)]
    assert store.statistics()["spans"] == 3


def test_work_in_progress_is_stored_and_never_measured(store: SQLiteStore) -> None:
    """A report is part of its trace, but no duration."""
    report = report_of(lock_wait(), 15.0)
    put(store, batch(report))
    assert waits(store) == []
    assert [stored.span for stored in store.trace(report.trace_id)[0]] == [report]


def test_open_reports_end_with_their_span(store: SQLiteStore) -> None:
    """What is looked for after a restart is only what has not ended."""
    ended, still_open = lock_wait(), lock_wait()
    reports = [report_of(ended, 1.0), report_of(still_open, 1.0)]
    put(store, batch(*reports, ended))
    assert [stored.span for stored in store.open_reports(T0 - 1)] == [reports[1]]
    assert store.open_reports(T0 + 1) == []


def test_cumulative_and_delta_points_add_up_alike(store: SQLiteStore) -> None:
    """Both temporalities give the same sums."""
    put(store, batch(counter(5, at=T0 + 5)), batch(counter(9, at=T0 + 10)))
    put(store, batch(counter(5, at=T0 + 5, cumulative=False, transport="search")))
    put(store, batch(counter(4, at=T0 + 10, cumulative=False, transport="search")))
    sums: dict[str, float] = {}
    for amount in store.contention(WINDOW).amounts:
        sums[amount.transport] = sums.get(amount.transport, 0) + amount.value
    assert sums == {"weather": 9.0, "search": 9.0}


def test_counts_go_on_after_a_restart_of_the_dashboard(tmp_path: Path) -> None:
    """The last cumulative point is in the database, so nothing is counted twice."""
    for points in ([counter(5, at=T0 + 5)], [counter(9, at=T0 + 10)]):
        store = SQLiteStore(tmp_path / "d.db", clock=lambda: T0)
        put(store, batch(*points))
        total = sum(amount.value for amount in store.contention(WINDOW).amounts)
        store.close()
    assert total == 9.0


def test_histograms_and_gauges_are_summed_up(store: SQLiteStore) -> None:
    """A histogram's buckets add up; a gauge keeps its maximum."""
    put(
        store,
        batch(
            histogram({(0.0, 0.1): 3, (0.5, 1.0): 1}, at=T0 + 5, total_s=1.1),
            gauge(catalog.LOCK_WAITERS, 3, "weather", "opening", at=T0 + 5),
            gauge(catalog.LOCK_WAITERS, 2, "weather", "opening", at=T0 + 5.5),
        ),
        batch(histogram({(0.0, 0.1): 4, (0.5, 1.0): 1}, at=T0 + 10, total_s=1.15)),
    )
    found = store.contention(WINDOW)
    assert waits(store, "metrics") == [(5, 1.15)]
    (whole,) = [part for part in found.durations if part.step == -1]
    assert sorted(whole.buckets) == [(0.0, 0.1, 4), (0.5, 1.0, 1)]
    assert [amount.value for amount in found.amounts if amount.metric == catalog.LOCK_WAITERS.name] == [3.0]


def test_long_wait_is_spread_over_the_time_it_took(store: SQLiteStore) -> None:
    """A wait of forty seconds was one waiter for forty seconds, not a burst at its end."""
    put(store, batch(lock_wait(40.0, start=T0)))
    busy = {stretch.step: stretch.busy_s for stretch in store.contention(WINDOW).busy}
    assert sum(busy.values()) == pytest.approx(40.0)
    assert max(busy.values()) == pytest.approx(WINDOW.step_s)


def test_loop_lag_comes_from_the_histogram_else_from_heartbeats(store: SQLiteStore) -> None:
    """Complete counts are preferred; a loop without them is still shown."""
    lag = histogram(
        {(0.0, 0.001): 99, (0.1, 0.25): 1},
        at=T0 + 5,
        metric=catalog.LOOP_LAG,
        labels=("portal",),
        total_s=0.2,
    )
    beat = {catalog.LOOP_TICKS: 100, catalog.LOOP_LAG_MEAN_S: 0.002, catalog.LOOP_LAG_MAX_S: 0.03}
    put(
        store,
        batch(
            lag,
            span(catalog.SPAN_HEARTBEAT, lasted_s=10, facts={catalog.LOOP: "portal", **beat}),
            span(catalog.SPAN_HEARTBEAT, lasted_s=10, facts={catalog.LOOP: "main", **beat}),
        ),
    )
    whole = {found.loop: found for found in store.loop_lag(WINDOW) if found.step == -1}
    assert (whole["portal"].ticks, len(whole["portal"].buckets)) == (100, 2)
    assert (whole["main"].ticks, whole["main"].max_s) == (100, 0.03)
    assert whole["main"].total_s == pytest.approx(0.2)


def test_work_that_touches_a_range_is_found(store: SQLiteStore) -> None:
    """The latest come first, up to the limit; what began after the range does not."""
    put(store, batch(*(lock_wait(2.0, start=T0 + 10 * i) for i in range(5))))
    since, until = round((T0 + 11) * 1e9), round((T0 + 31) * 1e9)
    found = store.work(since, until, [Work.LOCK], 10)
    assert [stored.span.start_ns / 1e9 - T0 for stored in found] == [30.0, 20.0, 10.0]
    assert len(store.work(since, until, [Work.LOCK], 2)) == 2
    assert store.work(since, until, [Work.CALL], 10) == []


def test_database_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    """The file, and those that SQLite puts beside it, have mode 0600."""
    store = SQLiteStore(tmp_path / "d.db")
    put(store, batch(lock_wait()))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    store.close()
    assert modes["d.db"] == 0o600
    assert set(modes.values()) == {0o600}


def test_database_without_a_file_is_gone_after_close() -> None:
    """`:memory:` leaves nothing behind."""
    database = Database(":memory:")
    assert database.path.exists()
    database.close()
    assert not database.path.parent.exists()


def test_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """Nothing is written into a file that is not ours."""
    path = tmp_path / "theirs.db"
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE t (x)")
    theirs.commit()
    theirs.close()
    with pytest.raises(StoreError, match="another program"):
        SQLiteStore(path)
    (tmp_path / "text").write_text("this is no database, only some text that is long enough")
    with pytest.raises(StoreError, match="cannot use the database"):
        SQLiteStore(tmp_path / "text")


@contextmanager
def held_up(path: Path) -> Iterator[None]:
    """Keep the store's writer waiting for the time of the block."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_one_bad_batch_does_not_spoil_its_neighbours(store: SQLiteStore, tmp_path: Path) -> None:
    """Batches share a transaction; when one cannot be stored, the others are stored without it."""
    bad = span("bad")._replace(start_ns=2**70)  # No 64-bit integer; the parser never lets it through.
    with held_up(tmp_path / "d.db"):
        futures = [store.submit(batch(row), T0) for row in (lock_wait(), lock_wait(), bad, lock_wait())]
    assert isinstance(futures[2].exception(10), StoreError)
    assert [future.result(10) for future in futures if future is not futures[2]] == [0, 0, 0]
    assert waits(store) == [(3, 3.0)]


def test_batch_that_nobody_waits_for_any_more_does_not_stop_the_writer(
    store: SQLiteStore, tmp_path: Path
) -> None:
    """A server that shuts down cancels its requests; the writer goes on with the others."""
    with held_up(tmp_path / "d.db"):
        futures = [store.submit(batch(lock_wait()), T0) for _ in range(3)]
        assert futures[-1].cancel()
    assert [future.result(10) for future in futures[:-1]] == [0, 0]
    put(store, batch(lock_wait()))
    assert waits(store) == [(3, 3.0)]


def test_database_that_stays_locked_is_a_passing_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender is told to try again, and the writer goes on when it can."""
    monkeypatch.setattr("instrumented_sessions_dashboard.store.connections._BUSY_TIMEOUT_S", 0.05)
    store = SQLiteStore(tmp_path / "d.db", clock=lambda: T0)
    put(store, batch(lock_wait()))
    with held_up(tmp_path / "d.db"):
        assert isinstance(store.submit(batch(lock_wait()), T0).exception(10), StoreBusyError)
    put(store, batch(lock_wait()))
    assert waits(store) == [(2, 2.0)]
    store.close()


def test_full_queue_refuses_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the writer can take is refused, not piled up."""
    monkeypatch.setattr(sqlite, "MAX_QUEUED_BATCHES", 1)
    store = SQLiteStore(tmp_path / "d.db", clock=lambda: T0)
    futures = []
    with held_up(tmp_path / "d.db"), pytest.raises(StoreBusyError, match="try again"):
        while True:  # The writer takes one or two out of the queue before it waits.
            futures.append(store.submit(batch(span("x")), T0))
    for future in futures:
        future.result(10)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.submit(batch(span("x")), T0)


def test_series_without_bound_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that makes up label values fills neither memory nor disk."""
    monkeypatch.setattr("instrumented_sessions_dashboard.store.write.MAX_SERIES", 2)
    store = SQLiteStore(tmp_path / "d.db", clock=lambda: T0)
    points = [counter(1, at=T0 + 1, transport=f"t{i}") for i in range(5)]
    assert store.submit(batch(*points), T0).result(5) == 3
    store.close()


def rows(store: SQLiteStore, table: str) -> int:
    with store._database.reader() as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_old_rows_leave_in_chunks(store: SQLiteStore) -> None:
    """What is older than the limit goes, a chunk at a time; what is younger stays."""
    old: list[Span] = [span("old") for _ in range(CHUNK_ROWS + 10)]
    store.submit(batch(*old), T0 - 100).result(20)
    put(store, batch(span("new")))
    connection = store._database.writer
    assert delete_chunk(connection, T0 - 50, 10**9) == CHUNK_ROWS
    assert delete_chunk(connection, T0 - 50, 10**9) == 10
    assert delete_chunk(connection, T0 - 50, 10**9) == 0
    assert rows(store, "spans") == 1


def test_more_spans_than_the_limit_leave_oldest_first(store: SQLiteStore) -> None:
    """The number of spans is bounded whatever their age."""
    put(store, batch(*(span(f"s{i}") for i in range(10))))
    assert delete_chunk(store._database.writer, 0, 4) == 6
    assert rows(store, "spans") == 4


def test_old_sums_leave_fine_ones_first(store: SQLiteStore) -> None:
    """Fine sums are for the last hours; sums of the far future come from a wrong clock."""
    put(store, batch(lock_wait(), lock_wait(start=T0 + 10 * 86_400)))
    delete_rollups(store._database.writer, T0 + 7 * 3600, T0 - 86_400)
    with store._database.reader() as connection:
        assert connection.execute("SELECT DISTINCT width_s FROM durations").fetchall() == [(300,)]
    assert rows(store, "durations") == 1


def test_window_covers_now_in_about_sixty_steps() -> None:
    """Steps are whole rollup slots, so nothing is cut in two."""
    for range_s in (10, 300, 900, 3_600, 21_600, 86_400, 604_800):
        span_of = window(T0 + 123.4, range_s)
        assert span_of.step_s % span_of.width_s == 0
        assert span_of.since <= T0 + 123.4 - range_s + span_of.step_s
        assert span_of.until > T0 + 123.4
        assert span_of.steps <= 61
        assert math.isclose(span_of.until - span_of.since, span_of.steps * span_of.step_s)
