"""Opening the ledger's database, and saying plainly why it cannot be used."""

import errno
import os
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from refvideo_mcp.errors import Refused
from refvideo_mcp.ledger.schema import migrate

__all__ = ["connect", "trouble"]

BUSY_SECONDS = 10
NOTHING = "Nothing was sent: a job that cannot be remembered is not bought."


def connect(where: Path | str) -> Engine:
    """An engine for a SQLite file or a database URL, its tables brought up to date.

    Raises:
        Refused: the URL is no database's, its driver is missing, or a newer refvideo-mcp wrote the tables.
    """
    url = URL.create("sqlite", database=str(where)) if isinstance(where, Path) else _url(where)
    is_file = url.get_backend_name() == "sqlite"
    engine = _sqlite(url) if is_file else _postgresql(url)
    try:
        with engine.begin() as connection:
            if not is_file:  # replicas start together
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7265667669646)")
            migrate(connection)
        if is_file:  # only now: a file that is refused stays as it is
            _switch_to_wal(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _url(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # they quote the URL, which may hold a password
        url = URL.create("unreadable")
    file = url.database or ""
    if url.drivername.partition("+")[0] == "postgresql" or (
        url.drivername == "sqlite" and file and not file.startswith((":memory:", "file:"))
    ):
        return url
    raise Refused(
        "REFVIDEO_DATABASE_URL is no URL of a PostgreSQL database or of a SQLite file.",
        f"It looks like postgresql+psycopg://user:password@host/name or sqlite:////folder/ledger.db. {NOTHING}",
    )


def _postgresql(url: URL) -> Engine:
    try:
        return create_engine(
            url,
            hide_parameters=True,  # they hold prompts and presigned links
            pool_pre_ping=True,
            pool_size=4,
            connect_args={"connect_timeout": BUSY_SECONDS},
        )
    except ImportError as error:
        raise Refused(
            f"The ledger's database needs the Python package {error.name}, which is not installed.",
            f"Ask the user to install it beside refvideo-mcp. {NOTHING}",
        ) from error


def _sqlite(url: URL) -> Engine:
    path = Path(url.database or "")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS}, pool_size=4)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver would start transactions too late
        connection.execute("PRAGMA synchronous=FULL")  # an accepted job must survive a power cut

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # A transaction that reads first and writes later would fail if another process wrote in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _switch_to_wal(engine: Engine) -> None:
    """Keep the file's changes in a log beside it. SQLite does not wait for this switch as it does for a transaction."""
    give_up = time.monotonic() + BUSY_SECONDS
    with closing(engine.raw_connection()) as connection:
        while True:
            try:
                connection.cursor().execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if _code(error) != "SQLITE_BUSY" or time.monotonic() > give_up:
                    raise
            time.sleep(random.uniform(0.005, 0.02))


# What is wrong and what to do, by the codes of SQLite, the operating system and PostgreSQL.
_REMEDIES = {
    ("SQLITE_FULL", "ENOSPC", "EDQUOT", "53100"): "the disk is full; ask the user to free some space",
    ("SQLITE_READONLY", "EROFS", "25006"): (
        "it is read-only; ask the user to make it writable or to set REFVIDEO_DATABASE_URL"
    ),
    ("SQLITE_PERM", "EACCES", "EPERM", "42501"): (
        "it may not be opened; ask the user to mend its permissions or to set REFVIDEO_DATABASE_URL"
    ),
    ("SQLITE_CANTOPEN", "ENOENT", "ENOTDIR", "EEXIST"): (
        "it cannot be opened; ask the user to check its folder and permissions or to set REFVIDEO_DATABASE_URL"
    ),
    ("SQLITE_BUSY", "SQLITE_LOCKED", "55P03"): "another program holds it locked; try again in a minute",
    ("SQLITE_IOERR", "EIO"): "the disk is full or reports errors; ask the user to check it",
    ("SQLITE_CORRUPT", "ValueError"): "it is damaged; ask the user to move it away (it was left as it is)",
    ("SQLITE_NOTADB",): "the file is no ledger; ask the user to move it away (it was left as it is)",
    ("",): "it cannot be reached or refuses the login; ask the user to check REFVIDEO_DATABASE_URL",
}


def trouble(where: Path | str, error: Exception, shows_path: bool = True) -> Refused:
    """The error for a ledger that cannot be used: where it is, what is wrong, what to do."""
    # A URL is not shown: where it was mistyped, a part of the password can pass for the host.
    shown = str(where) if isinstance(where, Path) else "the database of REFVIDEO_DATABASE_URL"
    named = f" ({shown})" if shows_path else ""
    code = _code(error)
    what = next((remedy for codes, remedy in _REMEDIES.items() if code in codes), f"it answers {code}")
    return Refused(f"The job ledger{named} cannot be used: {what}.", NOTHING)


def _code(error: Exception) -> str:
    """What went wrong, in the words of whoever noticed; "" where a database did not even answer."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, OSError):
        return errno.errorcode.get(cause.errno or 0, type(cause).__name__)
    if name := getattr(cause, "sqlite_errorname", None):
        return "_".join(name.split("_")[:2])  # SQLITE_IOERR_WRITE is an SQLITE_IOERR
    if isinstance(cause, ValueError):  # a row that is not as it was written
        return "ValueError"
    sqlstate = getattr(cause, "sqlstate", type(cause).__name__)
    return sqlstate or ""
