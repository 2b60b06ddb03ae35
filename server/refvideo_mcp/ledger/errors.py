"""Why the ledger cannot be used, and what to do about it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refvideo_mcp.errors import Advice, Refused, ask_user

__all__ = ["Damaged", "LedgerError", "Moved", "before_buying", "ledger_error"]

NOTHING = "Nothing was sent: a job that cannot be remembered is not bought."


class LedgerError(Refused):
    """The ledger cannot be used."""


class Moved(Exception):
    """The file that is open is not the one at its path any longer, or there is none."""


class Damaged(Exception):
    """A row is not as it was written."""


@contextmanager
def before_buying() -> Iterator[None]:
    """Say of a ledger that cannot be used what that means for whoever wants a new job."""
    try:
        yield
    except LedgerError as error:
        raise Refused(error.happened, (error.advice + f" {NOTHING}")) from error


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
    ("SQLITE_CORRUPT", "Damaged"): (
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
    sqlstate = getattr(cause, "sqlstate", type(cause).__name__)
    return sqlstate or ""
