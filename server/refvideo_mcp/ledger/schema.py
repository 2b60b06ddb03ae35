"""The ledger's tables, and how an older file becomes a newer one."""

from collections.abc import Callable, Sequence

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    inspect,
    select,
)

from refvideo_mcp.errors import ask_user
from refvideo_mcp.ledger.errors import LedgerError

__all__ = ["STEPS", "is_current", "jobs", "migrate"]

metadata = MetaData()

jobs = Table(
    "refvideo_jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account", String(255), nullable=False),
    Column("key", String(128)),  # NULL for a job that another program submitted
    Column("key_given", Boolean, nullable=False, default=False),
    Column("state", String(16), nullable=False),
    Column("task_id", String(255), index=True),
    Column("request", JSON(none_as_null=True)),
    Column("fingerprint", String(64), nullable=False, default=""),
    Column("pictures", String(64), nullable=False, default=""),
    Column("seconds", Integer, nullable=False, default=0),
    Column("opened_at", Double, nullable=False),
    Column("submit_deadline", Double, nullable=False, default=0),
    Column("changed_at", Double, nullable=False),
    Column("last_asked_at", Double),
    Column("answered_at", Double),
    Column("saving_until", Double),
    Column("delivered", Boolean, nullable=False, default=False),
    Column("told", Boolean, nullable=False, default=False),
    Column("released", Boolean, nullable=False, default=False),
    Column("save_to", Text),
    Column("saved_to", Text),
    Column("not_saved", Text),
    Column("answer", JSON, nullable=False),  # what the router last said, and our warnings
    # An account may have tens of thousands of jobs in a day; no call reads more than it has to.
    Index("refvideo_jobs_usage", "account", "opened_at", "state", "seconds"),
    Index("refvideo_jobs_keys", "account", "key"),  # not unique: jobs that gave up their key are found by it too
    Index("refvideo_jobs_requests", "account", "fingerprint", "opened_at"),
    Index("refvideo_jobs_states", "account", "state", "opened_at"),
    Index("refvideo_jobs_news", "account", "told", "state"),
    Index("refvideo_jobs_unsaved", "account", "state", "saved_to", "opened_at"),
)

version = Table("refvideo_schema", metadata, Column("version", Integer, primary_key=True))


def _index_what_is_asked_for(connection: Connection) -> None:
    for statement in (
        "DROP INDEX IF EXISTS refvideo_jobs_days",
        "CREATE INDEX refvideo_jobs_usage ON refvideo_jobs (account, opened_at, state, seconds)",
        "CREATE INDEX refvideo_jobs_requests ON refvideo_jobs (account, fingerprint, opened_at)",
        "CREATE INDEX refvideo_jobs_states ON refvideo_jobs (account, state, opened_at)",
        "CREATE INDEX refvideo_jobs_news ON refvideo_jobs (account, told, state)",
        "CREATE INDEX refvideo_jobs_unsaved ON refvideo_jobs (account, state, saved_to, opened_at)",
    ):
        connection.exec_driver_sql(statement)


# A new database gets the tables as they are above, and version len(STEPS) + 1. An older one is brought there: step n
# leads from version n + 1 to n + 2, in SQL of its own, since the tables above change and a released step never does.
STEPS: tuple[Callable[[Connection], None], ...] = (_index_what_is_asked_for,)


def is_current(connection: Connection) -> bool:
    """Whether there is nothing for `migrate` to do, found out without writing."""
    if not inspect(connection).has_table(version.name):
        return False
    return bool(connection.execute(select(version.c.version)).scalar_one() == len(STEPS) + 1)


def migrate(connection: Connection, steps: Sequence[Callable[[Connection], None]] = STEPS) -> None:
    """Bring the tables to this version, one step at a time.

    Raises:
        Refused: a newer refvideo-mcp wrote them.
    """
    newest = len(steps) + 1
    if not inspect(connection).has_table(version.name):
        metadata.create_all(connection)
        connection.execute(version.insert().values(version=newest))
        return
    found = connection.execute(select(version.c.version)).scalar_one()
    if found > newest:
        raise LedgerError(
            f"The ledger was written by a newer refvideo-mcp (its version is {found}, this one reads {newest}).",
            ask_user("update refvideo-mcp."),
        )
    for step in steps[found - 1 :]:
        step(connection)
    if found < newest:
        connection.execute(version.update().values(version=newest))
