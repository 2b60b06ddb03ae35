"""The ledger as a SQLite file: readers wait for nobody, and the file may be moved away under it."""

import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL

from refvideo_mcp.ledger.errors import Moved
from refvideo_mcp.ledger.schema import is_current, migrate

__all__ = ["SqliteFile"]

# As many as ask at once: a connection that is not kept costs an fsync when it is closed.
CONNECTIONS = 8


class SqliteFile:
    """An open file. It takes transactions until it is `Moved`; then it must be left, and opened anew."""

    def __init__(self, url: URL, seconds: float):
        """Open the file, or make it, and bring its tables up to date; `seconds` is how long to wait for others."""
        self._path = Path(url.database or "")
        self._log_paths = [self._path.with_name(self._path.name + suffix) for suffix in ("-wal", "-shm")]
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        left_behind = self._logs()
        if not self._path.exists():
            _remove(left_behind)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        self._file = _identity(self._path)
        self._writing = threading.Lock()
        self._engine = create_engine(url, hide_parameters=True, pool_size=CONNECTIONS)
        event.listen(self._engine, "connect", self._prepare)
        event.listen(self._engine, "begin", _begin)
        try:
            with self.transaction(seconds, reads=True) as connection:
                current = is_current(connection)
            if not current:
                with self.transaction(seconds) as connection:
                    migrate(connection)
            self._switch_to_wal(seconds)  # only now: a file that is refused stays as it is
        except BaseException:
            self.close()
            raise
        self._own_logs = self._logs()

    @contextmanager
    def transaction(
        self, seconds: float, *, reads: bool = False, durable: bool = True, alone: str | None = None
    ) -> Iterator[Connection]:
        """A transaction that waits for other writers for `seconds` at most; one that only reads waits for none.

        What is not `durable` survives the end of this process, but perhaps not a power cut. Every writer is alone,
        whatever `alone` says.

        Raises:
            TimeoutError: another thread writes. Moved: nothing was read or written.
        """
        give_up = time.monotonic() + seconds
        with nullcontext() if reads else self._turn(seconds), self._engine.connect() as opened:
            connection = opened.execution_options(reads=reads)
            left = max(0.0, give_up - time.monotonic())
            synchronous = "FULL" if durable else "NORMAL"
            connection.connection.cursor().executescript(
                f"PRAGMA busy_timeout={int(left * 1000)}; PRAGMA synchronous={synchronous}"
            )
            with connection.begin():
                if _identity(self._path) != self._file:  # here, after others have been waited for
                    raise Moved
                yield connection

    @contextmanager
    def _turn(self, seconds: float) -> Iterator[None]:
        # SQLite itself would sleep up to 0.1 s between two tries to be the one that writes.
        if not self._writing.acquire(timeout=max(0.0, seconds)):
            raise TimeoutError
        try:
            yield
        finally:
            self._writing.release()

    def is_settled(self, account: str, connection: Connection) -> bool:
        """Whether no transaction that was `alone` with the account's jobs is left open: a writer's is the only one."""
        return True

    def leave(self) -> None:
        """Close a file that was moved. What its log still holds is put into it first, wherever it is now.

        A log that stays behind at the path would be taken for the next file's: SQLite finds it by its name.
        """
        with closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            with suppress(sqlite3.Error):
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            # Other processes that had this file open wait here, and then find logs that are not their own.
            cursor.execute("BEGIN IMMEDIATE")
            _remove(self._own_logs)
            cursor.execute("ROLLBACK")
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    def _prepare(self, connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver would start transactions too late
        if _identity(self._path) != self._file:
            raise Moved

    def _switch_to_wal(self, seconds: float) -> None:
        """Keep the file's changes in a log beside it. SQLite does not wait for this switch as it does otherwise."""
        give_up = time.monotonic() + seconds
        with closing(self._engine.raw_connection()) as connection:
            while True:
                try:
                    connection.cursor().execute("PRAGMA journal_mode=WAL")
                    connection.cursor().execute("SELECT * FROM sqlite_master").fetchall()  # which makes the log
                    return
                except sqlite3.OperationalError as error:
                    if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > give_up:
                        raise
                time.sleep(random.uniform(0.005, 0.02))

    def _logs(self) -> dict[Path, tuple[int, int] | None]:
        return {path: _identity(path) for path in self._log_paths}


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later would fail if another process wrote in between.
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _remove(files: dict[Path, tuple[int, int] | None]) -> None:
    """Remove those that are still the same."""
    for path, identity in files.items():
        if identity is not None and _identity(path) == identity:
            path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of the same name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
