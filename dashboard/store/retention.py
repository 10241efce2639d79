"""Old rows leave in small steps, so that nothing that arrives has to wait long."""

from __future__ import annotations

import sqlite3

from . import slots

CHUNK_ROWS = 5_000

_OLDEST = """
DELETE FROM {table} WHERE id IN (SELECT id FROM (SELECT id, received_at FROM {table} ORDER BY id LIMIT ?)
WHERE received_at < ?)
"""
_ROLLUPS = ("durations", "occupancy", "amounts", "bucket_counts")
_AHEAD_S = 86_400


def delete_chunk(connection: sqlite3.Connection, before: float, max_spans: int) -> int:
    """Delete some of what arrived before `before` (Unix seconds), or is beyond `max_spans` spans.

    Returns:
        How many rows went; when it is less than `CHUNK_ROWS`, nothing old is left.
    """
    deleted = 0
    for table in ("spans", "logs"):
        deleted += connection.execute(_OLDEST.format(table=table), (CHUNK_ROWS, before)).rowcount
    first, last = connection.execute(
        "SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM spans"
    ).fetchone()
    excess = min(last - first + 1 - max_spans, CHUNK_ROWS)
    if excess > 0:
        deleted += connection.execute("DELETE FROM spans WHERE id < ?", (first + excess,)).rowcount
    return deleted


def delete_rollups(connection: sqlite3.Connection, now: float, before: float) -> None:
    """Delete sums of time before `before` (Unix seconds), fine ones also when older than `slots.FINE_KEPT_S`.

    Sums of a day ahead come from a sender whose clock is wrong, and would never grow old.
    """
    for width_s, oldest in ((slots.FINE_S, max(before, now - slots.FINE_KEPT_S)), (slots.COARSE_S, before)):
        for table in _ROLLUPS:
            connection.execute(
                f"DELETE FROM {table} WHERE width_s = ? AND (slot < ? OR slot > ?)",
                (width_s, oldest // width_s, (now + _AHEAD_S) // width_s),
            )
