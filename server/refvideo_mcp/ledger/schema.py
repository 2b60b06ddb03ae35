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
from refvideo_mcp.ledger.job import LedgerTrouble

__all__ = ["is_current", "jobs", "migrate"]

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
    Index("refvideo_jobs_days", "account", "opened_at"),
    Index("refvideo_jobs_keys", "account", "key"),  # not unique: jobs that gave up their key are found by it too
)

version = Table("refvideo_schema", metadata, Column("version", Integer, primary_key=True))

# A new database gets the tables as they are above, and version len(STEPS) + 1. An older one is brought there: step n
# leads from version n + 1 to n + 2, in SQL of its own, since the tables above change and a released step never does.
STEPS: tuple[Callable[[Connection], None], ...] = ()


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
        raise LedgerTrouble(
            f"The ledger was written by a newer refvideo-mcp (its version is {found}, this one reads {newest}).",
            ask_user("update refvideo-mcp."),
        )
    for step in steps[found - 1 :]:
        step(connection)
    if found < newest:
        connection.execute(version.update().values(version=newest))
