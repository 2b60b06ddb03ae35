"""Opening the ledger's database, and saying plainly why it cannot be used."""

import errno
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from refvideo_mcp.errors import Advice, ask_user
from refvideo_mcp.ledger.job import LedgerError
from refvideo_mcp.ledger.postgresql import PostgresDatabase
from refvideo_mcp.ledger.sqlite import Moved, SqliteFile

__all__ = ["BUSY_SECONDS", "Database", "Moved", "connect", "ledger_error"]

BUSY_SECONDS = 8.0


Database = PostgresDatabase | SqliteFile


def connect(where: Path | str, seconds: float = BUSY_SECONDS) -> Database:
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


# What is wrong and what to do, by the codes of SQLite, the operating system and PostgreSQL.
_OTHER_PLACE = "or set REFVIDEO_DATABASE_URL."
_LATER = "Try again in a minute."
_REMEDIES: dict[tuple[str, ...], tuple[str, Advice | str]] = {
    ("SQLITE_FULL", "ENOSPC", "EDQUOT", "53100"): ("the disk is full", ask_user("free some space.")),
    ("SQLITE_READONLY", "EROFS", "25006"): ("it is read-only", ask_user(f"make it writable {_OTHER_PLACE}")),
    ("SQLITE_PERM", "EACCES", "EPERM", "42501"): (
        "it may not be opened",
        ask_user(f"mend its permissions {_OTHER_PLACE}"),
    ),
    ("SQLITE_CANTOPEN", "ENOENT", "ENOTDIR", "EEXIST"): (
        "it cannot be opened",
        ask_user(f"check its folder and permissions {_OTHER_PLACE}"),
    ),
    ("SQLITE_BUSY", "SQLITE_LOCKED", "55P03"): ("another program holds it locked", _LATER),
    ("SQLITE_IOERR", "EIO"): ("the disk is full or reports errors", ask_user("check it.")),
    ("SQLITE_CORRUPT", "ValueError"): (
        "it is damaged",
        ask_user("move it away, with its -wal and -shm files (it was left as it is)."),
    ),
    ("SQLITE_NOTADB",): ("the file is no ledger", ask_user("move it away (it was left as it is).")),
    ("TimeoutError", "57014", "57P01", "57P03", "25P03"): ("another program holds it locked, or it hangs", _LATER),
    ("Moved",): ("its file was moved away again and again", _LATER),
    ("",): ("it cannot be reached or refuses the login", ask_user("check REFVIDEO_DATABASE_URL.")),
}


def ledger_error(where: Path | str, error: Exception, shows_path: bool = True) -> LedgerError:
    """The error for a ledger that cannot be used: where it is, what is wrong, what to do."""
    # A URL is not shown: where it was mistyped, a part of the password can pass for the host.
    shown = str(where) if isinstance(where, Path) else "the database of REFVIDEO_DATABASE_URL"
    named = f" ({shown})" if shows_path else ""
    code = _code(error)
    what, advice = next((remedy for codes, remedy in _REMEDIES.items() if code in codes), (f"it answers {code}", ""))
    return LedgerError(f"The job ledger{named} cannot be used: {what}.", advice)


def _code(error: Exception) -> str:
    """What went wrong, in the words of whoever noticed; "" where a database did not even answer."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, OSError) and cause.errno:
        return errno.errorcode.get(cause.errno, type(cause).__name__)
    if name := getattr(cause, "sqlite_errorname", None):
        return "_".join(name.split("_")[:2])  # SQLITE_IOERR_WRITE is an SQLITE_IOERR
    if isinstance(cause, ValueError):  # a row that is not as it was written
        return "ValueError"
    sqlstate = getattr(cause, "sqlstate", type(cause).__name__)
    return sqlstate or ""
