"""Opening the ledger's database, whatever its URL names."""

import sqlite3
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from refvideo_mcp.errors import ask_user
from refvideo_mcp.ledger.errors import LedgerError
from refvideo_mcp.ledger.postgresql import PostgresDatabase
from refvideo_mcp.ledger.sqlite import SqliteFile

__all__ = ["FAILURES", "Database", "connect"]

FAILURES = (SQLAlchemyError, sqlite3.Error, OSError)

Database = PostgresDatabase | SqliteFile


def connect(where: Path | str, seconds: float) -> Database:
    """A SQLite file or a database by its URL, its tables brought up to date; others are waited for `seconds`.

    Raises:
        Refused: the URL is no database's, its driver is missing, or a newer refvideo-mcp wrote the tables.
    """
    url = URL.create("sqlite", database=str(where)) if isinstance(where, Path) else _url(where)
    if url.get_backend_name() == "sqlite":
        return SqliteFile(url, seconds)
    try:
        return PostgresDatabase(url, seconds)
    except ImportError as error:
        raise LedgerError(
            f"The ledger's database needs the Python package {error.name}, which is not installed.",
            ask_user("install it beside refvideo-mcp."),
        ) from error


def _url(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # they quote the URL, which may hold a password
        url = URL.create("unreadable")
    if url.drivername in ("postgres", "postgresql"):  # as hosters write it; SQLAlchemy would take an older driver
        url = url.set(drivername="postgresql+psycopg")
    file = url.database or ""
    if url.drivername.partition("+")[0] == "postgresql" or (
        url.drivername == "sqlite" and file and not file.startswith((":memory:", "file:"))
    ):
        return url
    raise LedgerError(
        "REFVIDEO_DATABASE_URL is no URL of a PostgreSQL database or of a SQLite file.",
        "It looks like postgresql+psycopg://user:password@host/name or sqlite:////folder/ledger.db.",
    )
