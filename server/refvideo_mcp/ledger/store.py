"""The job store: SQLAlchemy Core over SQLite or PostgreSQL. Every function blocks; callers run it in a thread."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refvideo_mcp.errors import Refused
from refvideo_mcp.ledger.job import ENDED, OPEN, Draft, Job, Video
from refvideo_mcp.spec import JobState

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Engine, Row

__all__ = ["Ledger"]

DAY_SECONDS = 24 * 3600.0
CLOCKS_DIFFER_SECONDS = 60.0
_ANSWER = (
    "progress_percent",
    "eta_seconds",
    "raw_status",
    "reason",
    "seed",
    "videos",
    "warnings",
    "preview",
    "expired_at",
)
_COLUMNS = tuple(f.name for f in fields(Job) if f.name not in _ANSWER)


class Ledger:
    """What was submitted, by whom, and what became of it.

    `where` is a SQLite file or a database URL. Nothing is opened before the first call. Every function raises Refused
    when the ledger cannot be read or written; nothing is ever overwritten to mend that.
    """

    def __init__(self, where: Path | str, *, shows_path: bool = True):
        self._where = where
        self._shows_path = shows_path
        self._engine: Engine | None = None
        self._opening = threading.Lock()

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()

    def version(self) -> int:
        """The version of its tables, which are brought up to date by opening it."""
        from sqlalchemy import select

        from refvideo_mcp.ledger.schema import version

        with self._transaction() as connection:
            return int(connection.execute(select(version.c.version)).scalar_one())

    def open(
        self, draft: Draft, decide: Callable[[Sequence[Job]], Job | Draft], now: float, submit_deadline: float
    ) -> Job:
        """Remember a new job before it is sent, or return the one that `decide` finds it to be.

        `decide` gets the account's jobs of the last 24 hours, newest first. It returns a job to join, or the draft to
        open, or raises to refuse. No other process opens a job of this account in between.
        """
        from refvideo_mcp.ledger.schema import jobs

        refusal: Refused | None = None
        with self._transaction(draft.account) as connection:
            recent = jobs.c.opened_at > now - DAY_SECONDS
            found = self._select(connection, jobs.c.account == draft.account, recent)
            known = [job.at(now) for job in found]
            for before, job in zip(found, known, strict=True):
                if job is not before:  # seen uncertain for the first time: that stays, though the call be refused
                    connection.execute(jobs.update().where(jobs.c.id == job.id).values(_values(job)))
            try:
                chosen = decide(known)
            except Refused as error:
                refusal = error
            else:
                if isinstance(chosen, Job):
                    return chosen
                taken = {f.name: getattr(chosen, f.name) for f in fields(Draft)}
                job = Job(**taken, opened_at=now, changed_at=now, submit_deadline=submit_deadline)
                connection.execute(jobs.insert().values(_values(job)))
                return job
        raise refusal

    def adopt(self, job: Job) -> Job:
        """Remember a job that was submitted elsewhere; the known one, if it is known by now."""
        from refvideo_mcp.ledger.schema import jobs

        with self._transaction(job.account) as connection:
            known = self._select(connection, jobs.c.account == job.account, jobs.c.task_id == job.task_id)
            if known:
                return known[0]
            connection.execute(jobs.insert().values(_values(job)))
            return job

    def update(self, job_id: str, change: Callable[[Job], Job]) -> Job | None:
        """Change one job, and return it as it is then; None if it was forgotten.

        `change` sees the job as it is now, whatever other processes did to it.
        """
        from refvideo_mcp.ledger.schema import jobs

        with self._transaction() as connection:
            found = self._select(connection, jobs.c.id == job_id, lock=True)
            if not found:
                return None
            job = change(found[0])
            if job != found[0]:
                connection.execute(jobs.update().where(jobs.c.id == job_id).values(_values(job)))
            return job

    def release(self, job_id: str) -> None:
        """Let a job be sent again: it gives up its key. It still counts in the allowance."""
        self.update(job_id, lambda job: replace(job, released=True))

    def get(self, job_id: str) -> Job | None:
        from refvideo_mcp.ledger.schema import jobs

        with self._transaction() as connection:
            return next(iter(self._select(connection, jobs.c.id == job_id)), None)

    def find(self, account: str, handle: str) -> Job | None:
        """The account's job with this task id, else the one that holds this key or was the last to give it up."""
        from refvideo_mcp.ledger.schema import jobs

        with self._transaction() as connection:
            for column in (jobs.c.task_id, jobs.c.key):
                if found := self._select(connection, jobs.c.account == account, column == handle):
                    return next((job for job in found if job.holds_key), found[0])
            return None

    def named(self, name: str) -> list[Job]:
        """Jobs of any account with this key or id: for the person at this machine, not for agents."""
        from sqlalchemy import or_

        from refvideo_mcp.ledger.schema import jobs

        with self._transaction() as connection:
            return self._select(connection, or_(jobs.c.key == name, jobs.c.id == name))

    def is_foreign(self, account: str, task_id: str) -> bool:
        """Whether the task is another account's."""
        from refvideo_mcp.ledger.schema import jobs

        with self._transaction() as connection:
            return bool(self._select(connection, jobs.c.task_id == task_id, jobs.c.account != account, limit=1))

    def newest(self, account: str, limit: int, states: Sequence[JobState] = (), now: float = 0.0) -> list[Job]:
        """The account's jobs, newest first; with states, those that are in one of them at `now`."""
        from refvideo_mcp.ledger.schema import jobs

        wanted = [jobs.c.account == account] + ([_state_at(now).in_(states)] if states else [])
        with self._transaction() as connection:
            return self._select(connection, *wanted, limit=limit)

    def unfinished(self, account: str, since: float) -> list[Job]:
        """Jobs opened after `since` that have not ended, may be found, or have a video that nobody has saved.

        Newest first.
        """
        from sqlalchemy import and_, or_

        from refvideo_mcp.ledger.schema import jobs

        unsaved = and_(jobs.c.state == "succeeded", jobs.c.saved_to.is_(None))
        may_be_found = and_(jobs.c.state == "uncertain", jobs.c.task_id.is_not(None))
        open_or_unsaved = or_(jobs.c.state.in_(OPEN), unsaved, may_be_found)
        with self._transaction() as connection:
            return self._select(connection, jobs.c.account == account, jobs.c.opened_at > since, open_or_unsaved)

    def claim(self, job_id: str, column: str, now: float, free_before: float, value: float) -> bool:
        """Set a time column of one job to `value` if it is not later than `free_before`; whether this process won.

        A job without a row is its for whoever asks.
        """
        from sqlalchemy import or_

        from refvideo_mcp.ledger.schema import jobs

        field = jobs.c[column]
        with self._transaction() as connection:
            # A later time than ours would be was written by a clock that has since been set back.
            free = or_(field.is_(None), field <= free_before, field > value + CLOCKS_DIFFER_SECONDS)
            done = connection.execute(jobs.update().where(jobs.c.id == job_id, free).values({column: value}))
            return done.rowcount == 1 or not self._select(connection, jobs.c.id == job_id)

    def untold(self, account: str, except_ids: set[str]) -> list[Job]:
        """Videos that were finished while nobody asked, each returned once."""
        from refvideo_mcp.ledger.schema import jobs

        unseen = (jobs.c.account == account, jobs.c.state == "succeeded", jobs.c.told.is_(False))
        with self._transaction() as connection:
            found = self._select(connection, *unseen, jobs.c.id.not_in(except_ids), lock=True)
            if found:
                connection.execute(jobs.update().where(jobs.c.id.in_([job.id for job in found])).values(told=True))
            return found

    def forget(self, before: float) -> int:
        """Remove ended jobs opened before `before`; how many."""
        from refvideo_mcp.ledger.schema import jobs

        with self._transaction() as connection:
            done = connection.execute(jobs.delete().where(jobs.c.opened_at < before, _state_at(before).in_(ENDED)))
            return done.rowcount

    def _select(
        self, connection: "Connection", *where: "ColumnElement[bool]", limit: int | None = None, lock: bool = False
    ) -> list[Job]:
        from sqlalchemy import select

        from refvideo_mcp.ledger.database import trouble
        from refvideo_mcp.ledger.schema import jobs

        query = select(jobs).where(*where).order_by(jobs.c.opened_at.desc(), jobs.c.id).limit(limit)
        try:
            return [_job(row) for row in connection.execute(query.with_for_update() if lock else query)]
        except ValueError as error:  # no JSON where there should be: SQLite does not notice every damage
            raise trouble(self._where, error, self._shows_path) from error

    @contextmanager
    def _transaction(self, account: str | None = None) -> Iterator["Connection"]:
        """One transaction; with an account, alone among those that open its jobs."""
        import sqlite3

        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        from refvideo_mcp.ledger.database import connect, trouble

        try:
            with self._opening:
                if self._engine is None:
                    self._engine = connect(self._where)
            with self._engine.begin() as connection:
                if account is not None and connection.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:account))"), {"account": account})
                yield connection
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise trouble(self._where, error, self._shows_path) from error


def _state_at(now: float) -> "ColumnElement[str]":
    """The state of `Job.at(now)`."""
    from sqlalchemy import and_, case

    from refvideo_mcp.ledger.schema import jobs

    lapsed = and_(jobs.c.state == "submitting", jobs.c.submit_deadline < now)
    return case((lapsed, "uncertain"), else_=jobs.c.state)


def _values(job: Job) -> dict[str, Any]:
    row = asdict(job)
    answer = {name: row.pop(name) for name in _ANSWER}
    return row | {"key": job.key or None, "answer": answer}


def _job(row: "Row[Any]") -> Job:
    known = {name: row._mapping[name] for name in _COLUMNS}
    answer = {name: row.answer.get(name) for name in _ANSWER}
    job = Job(**known | answer)
    return replace(
        job,
        key=job.key or "",
        videos=tuple(Video(**video) for video in answer["videos"] or ()),
        warnings=tuple(answer["warnings"] or ()),
    )
