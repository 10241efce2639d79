"""Opens the database: one connection writes, a few read, and they do not wait for each other (WAL)."""

from __future__ import annotations

import os
import queue
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .protocol import StoreError

APPLICATION_ID = 0x1_5E55_10D & 0x7FFFFFFF
SCHEMA_VERSION = 1
READERS = 4

_SCHEMA = Path(__file__).with_name("schema.sql")
_BUSY_TIMEOUT_S = 5.0


class Database:
    """A database file and its connections.

    Args:
        path: The file; made with mode 0600 when it is not there. None or `:memory:`: a file in a
            private temporary directory, gone when the database is closed.

    Raises:
        StoreError: The file cannot be used; says why.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        if path is None or os.fspath(path) == ":memory:":
            self._directory = tempfile.TemporaryDirectory(prefix="instrumented-sessions-")
            path = Path(self._directory.name) / "dashboard.db"
        self.path = Path(path)
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        try:
            # Made here so that nobody else can ever read it; SQLite's other files inherit the mode.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self.writer = self._open_writer()
            for _ in range(READERS):
                self._readers.put(self._open_reader())
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise StoreError(f"cannot use the database {self.path}: {error}") from error
        except StoreError:
            self.close()
            raise

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """Lend a read-only connection; waits while all are lent. One snapshot for all its queries."""
        connection = self._readers.get()
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.rollback()
            self._readers.put(connection)

    def close(self) -> None:
        """Close all connections that are not lent, and remove the file if it is temporary."""
        while not self._readers.empty():
            self._readers.get_nowait().close()
        if hasattr(self, "writer"):
            self.writer.close()
        if self._directory is not None:
            self._directory.cleanup()

    def _open_writer(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            ours = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
            is_empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if not ours and not is_empty:
                raise StoreError(
                    f"{self.path} is a database of another program; choose another file with --db"
                )
            if ours and version != SCHEMA_VERSION:
                raise StoreError(
                    f"{self.path} was written by another version (schema {version}, this one reads"
                    f" {SCHEMA_VERSION}); choose another file with --db, or delete it"
                )
            connection.execute("PRAGMA journal_mode = WAL")
            # A crash of the machine may lose the last moments, never the database.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cache_size = -32768")
            if is_empty:
                connection.executescript(
                    f"BEGIN; {_SCHEMA.read_text(encoding='utf-8')} PRAGMA application_id = {APPLICATION_ID};"
                    f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_reader(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA query_only = ON")
        return connection
