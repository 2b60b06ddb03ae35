"""The job store: SQLAlchemy Core over SQLite or PostgreSQL. Every function blocks; callers run it in a thread."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from refvideo_mcp.errors import Refused
from refvideo_mcp.ledger.job import ENDED, OPEN, Day, Draft, Job, LedgerError, Video
from refvideo_mcp.schemas import JobState

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Row, Select

    from refvideo_mcp.ledger.database import Database

__all__ = ["Ledger"]

DAY_SECONDS = 24 * 3600.0
DOUBT_SECONDS = 600.0  # so long at least, whoever decides is shown a job that was first seen uncertain
# A shorter one may be meant for anything; "job-" begins every key of ours.
SHORTEST_BEGINNING = 6
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
IN_VAIN_SECONDS = 1.0  # one call asks several times, and shall not wait each time for a ledger that hangs
UNSENT = "The ledger took too long to remember it, so nothing was sent."

Function = TypeVar("Function", bound=Callable[..., Any])
Decision = TypeVar("Decision")


def _reads(function: Function) -> Function:
    """Mark a function that never waits for those that write."""
    function.reads = True  # type: ignore[attr-defined]
    return function


class Ledger:
    """What was submitted, by whom, and what became of it.

    `where` is a SQLite file or a database URL. Nothing is opened before the first call. Every function raises
    LedgerError when the ledger cannot be read or written, after some 10 s at most; nothing is ever overwritten to mend
    that. A file that is moved or deleted is left for the one at its path, which is made if there is none.
    """

    def __init__(self, where: Path | str, *, shows_path: bool = True):
        self._where = where
        self._shows_path = shows_path
        self._database: Database | None = None
        self._opening = threading.Lock()
        self._in_vain: dict[bool, tuple[float, Exception]] = {}  # when those that read, or write, last waited in vain
        self._unsent: dict[str, str] = {}  # id → account of rows that may appear though their callers gave up

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def busy(self) -> LedgerError:
        """The error for a caller that could not wait until it is its turn."""
        from refvideo_mcp.ledger.database import ledger_error

        return ledger_error(self._where, TimeoutError(), self._shows_path)

    def version(self) -> int:
        """The version of its tables, which are brought up to date by opening it."""
        from sqlalchemy import select

        from refvideo_mcp.ledger.schema import version

        with self._transaction() as connection:
            return int(connection.execute(select(version.c.version)).scalar_one())

    def insert_or_join(
        self,
        draft: Draft,
        decide: Callable[[Day], Job | Draft],
        now: float,
        submit_deadline: float,
        within: float = float("inf"),
        also: Collection[str] = (),
    ) -> Job:
        """Remember a new job before it is sent, or return the one that `decide` finds it to be.

        `decide` gets the account's last 24 hours, and the older jobs whose ids are in `also`. It returns a job to join,
        or the draft to open, or raises to refuse. No other process opens a job of this account in between. A job that
        is not remembered `within` so many seconds is refused: should its row appear all the same, it becomes
        `rejected`.
        """
        from refvideo_mcp.ledger.schema import jobs

        give_up = time.monotonic() + within
        new: Job | None = None
        try:
            with self._transaction(draft.account, within=within) as connection:
                day, lapsed = self._day(connection, draft, now, also)
                for before, job in lapsed:  # seen uncertain for the first time: that stays, though the call be refused
                    _write(connection, before, job)
                chosen: Job | Draft | Refused
                try:
                    chosen = decide(day)
                except Refused as error:
                    chosen = error
                if isinstance(chosen, Draft):
                    taken = {f.name: getattr(chosen, f.name) for f in fields(Draft)}
                    chosen = new = Job(**taken, opened_at=now, changed_at=now, submit_deadline=submit_deadline)
                    connection.execute(jobs.insert(), _values(new))
        except BaseException:
            if new is not None:
                self._unsent[new.id] = new.account
            raise
        if isinstance(chosen, Refused):
            raise chosen
        if new is not None and time.monotonic() > give_up:  # the disk took its time
            self._unsent[new.id] = new.account
            with suppress(LedgerError), self._transaction():
                pass  # rejects it
            raise self.busy()
        return chosen

    @_reads
    def consider(
        self, draft: Draft, decide: Callable[[Day], Decision], now: float, also: Collection[str] = ()
    ) -> Decision:
        """What `decide` says of a job that is not opened."""
        with self._transaction(reads=True) as connection:
            day, _ = self._day(connection, draft, now, also)
            return decide(day)

    def import_job(self, job: Job) -> Job:
        """Remember a job that was submitted elsewhere; the known one, if it is known by now."""
        from refvideo_mcp.ledger.schema import jobs

        with self._transaction(job.account) as connection:
            for known in self._select(connection, jobs.c.task_id == job.task_id):
                if known.account == job.account:
                    return known
            connection.execute(jobs.insert(), _values(job))
            return job

    def update(
        self, job_id: str, change: Callable[[Job], Job], lost: Job | None = None, *, durable: bool = True
    ) -> Job | None:
        """Change one job, and return it as it is then; None if it was forgotten.

        A change that is not `durable` may be taken back by a power cut, though not by the end of this process.
        `change` sees the job as it is now, whatever other processes did to it. A job that cannot have been forgotten
        is given as `lost`, too: where its row is missing, because the ledger is another by now, it is made again.
        """
        from refvideo_mcp.ledger.schema import jobs

        with self._transaction(durable=durable) as connection:
            found = self._select(connection, jobs.c.id == job_id, lock=True)
            if not found:
                if lost is None:
                    return None
                job = change(lost)
                connection.execute(jobs.insert(), _values(job))
                return job
            job = change(found[0])
            _write(connection, found[0], job)
            return job

    def release(self, job_id: str) -> None:
        """Let a job be sent again: it gives up its key. It still counts in the allowance."""
        self.update(job_id, lambda job: replace(job, released=True))

    @_reads
    def get(self, job_id: str) -> Job | None:
        from refvideo_mcp.ledger.schema import jobs

        with self._transaction(reads=True) as connection:
            return next(iter(self._select(connection, jobs.c.id == job_id)), None)

    @_reads
    def find(self, account: str, handle: str) -> Job | None:
        """The account's job with this task id, else the one that holds this key or was the last to give it up.

        Else the only one whose task id or key begins so.
        """
        from refvideo_mcp.ledger.schema import jobs

        with self._transaction(reads=True) as connection:
            mine = jobs.c.account == account
            for so_named in ([jobs.c.task_id == handle], [mine, jobs.c.key == handle]):
                named = self._select(connection, *so_named)
                if found := [job for job in named if job.account == account]:
                    return next((job for job in found if job.holds_key), found[0])
            begun = self._select(connection, mine, _begins(handle), limit=2)
            return begun[0] if len(begun) == 1 else None

    @_reads
    def by_key_or_id(self, name: str) -> list[Job]:
        """Jobs of any account with this key or id, else the only one whose key begins so.

        For the person at this machine, not for agents.
        """
        from sqlalchemy import or_

        from refvideo_mcp.ledger.schema import jobs

        with self._transaction(reads=True) as connection:
            found = self._select(connection, or_(jobs.c.key == name, jobs.c.id == name))
            begun = [] if found else self._select(connection, _begins(name), limit=2)
            return begun if len(begun) == 1 else found

    @_reads
    def belongs_to_other(self, account: str, task_id: str) -> bool:
        """Whether the task is another account's."""
        from refvideo_mcp.ledger.schema import jobs

        with self._transaction(reads=True) as connection:
            return any(job.account != account for job in self._select(connection, jobs.c.task_id == task_id))

    @_reads
    def newest(self, account: str, limit: int, states: Sequence[JobState] = (), now: float = 0.0) -> list[Job]:
        """The account's jobs, newest first; with states, those that are in one of them at `now`."""
        from refvideo_mcp.ledger.schema import jobs

        mine = jobs.c.account == account
        with self._transaction(reads=True) as connection:
            if not states:
                return self._select(connection, mine, limit=limit)
            # One by one: there is an index by which those of one state are found.
            found = [job for s in states for job in self._select(connection, mine, *_is_in(s, now), limit=limit)]
        return sorted(found, key=_newest_first)[:limit]

    @_reads
    def unfinished(self, account: str, since: float) -> list[Job]:
        """Jobs opened after `since` that have not ended, may be found, or have a video that nobody has saved.

        Newest first.
        """
        from sqlalchemy import union_all

        from refvideo_mcp.ledger.schema import jobs

        recent = (jobs.c.account == account, jobs.c.opened_at > since)
        wanted = union_all(
            _ids(*recent, jobs.c.state.in_(OPEN)),
            _ids(*recent, jobs.c.state == "uncertain", jobs.c.task_id.is_not(None)),
            _ids(*recent, jobs.c.state == "succeeded", jobs.c.saved_to.is_(None)),
        )
        with self._transaction(reads=True) as connection:
            return self._select(connection, jobs.c.id.in_(wanted))

    def try_lease(self, job_id: str, column: str, now: float, free_before: float, value: float) -> bool:
        """Set a time column of one job to `value` if it is not later than `free_before`; whether this process won.

        A job without a row is its for whoever asks.
        """
        from sqlalchemy import or_

        from refvideo_mcp.ledger.schema import jobs

        field = jobs.c[column]
        with self._transaction(durable=False) as connection:
            # A later time than ours would be was written by a clock that has since been set back.
            free = or_(field.is_(None), field <= free_before, field > value + CLOCKS_DIFFER_SECONDS)
            done = connection.execute(jobs.update().where(jobs.c.id == job_id, free).values({column: value}))
            return done.rowcount == 1 or connection.execute(_ids(jobs.c.id == job_id)).first() is None

    def pop_unreported(self, account: str, except_ids: set[str]) -> list[Job]:
        """Videos that were finished while nobody asked, each returned once."""
        from refvideo_mcp.ledger.schema import jobs

        unseen = (
            jobs.c.account == account,
            jobs.c.state == "succeeded",
            jobs.c.told.is_(False),
            jobs.c.id.not_in(except_ids),
        )
        with self._transaction(reads=True) as connection:  # most often there are none: nobody is waited for
            if connection.execute(_ids(*unseen).limit(1)).first() is None:
                return []
        with self._transaction(durable=False) as connection:
            found = self._select(connection, *unseen, lock=True)
            connection.execute(jobs.update().where(jobs.c.id.in_([job.id for job in found])).values(told=True))
            return found

    def delete_ended(self, before: float) -> int:
        """Remove ended jobs opened before `before`; how many."""
        from sqlalchemy import and_, or_

        from refvideo_mcp.ledger.schema import jobs

        with self._transaction() as connection:
            ended = or_(*(and_(*_is_in(state, before)) for state in ENDED))
            done = connection.execute(jobs.delete().where(jobs.c.opened_at < before, ended))
            return done.rowcount

    def _day(
        self, connection: "Connection", draft: Draft, now: float, also: Collection[str]
    ) -> tuple[Day, list[tuple[Job, Job]]]:
        """The day of a draft's account, and those of its jobs whose answer is seen to be overdue: before, and now."""
        from refvideo_mcp.ledger.schema import jobs

        since = now - DAY_SECONDS
        that_matter, sum_of_seconds, counted = _of_a_day()
        day = {"account": draft.account, "since": since}
        one = {"key": draft.key, "fingerprint": draft.fingerprint, "doubt": now - DOUBT_SECONDS, "also": [*also]}
        found = self._fetch(connection, that_matter, day | one)
        known = [job.at(now) for job in found]
        older = [job for job in known if job.opened_at <= since]
        spent_before = [(job.opened_at, job.seconds) for job in reversed(older) if job.state != "rejected"]

        def spent() -> list[tuple[float, int]]:
            return [*spent_before, *((at, seconds) for at, seconds in connection.execute(counted, day))]

        def includes(ids: Collection[str]) -> Collection[str]:
            recent = (jobs.c.account == draft.account, jobs.c.opened_at > since)
            of_today = connection.execute(_ids(jobs.c.id.in_(ids), *recent)).scalars() if ids else ()
            return {*of_today, *(job.id for job in older if job.id in ids)}

        seconds = connection.execute(sum_of_seconds, day).scalar_one() + sum(seconds for _, seconds in spent_before)
        lapsed = [(before, job) for before, job in zip(found, known, strict=True) if job is not before]
        return Day(known, int(seconds), spent, includes), lapsed

    def _select(
        self, connection: "Connection", *where: "ColumnElement[bool]", limit: int | None = None, lock: bool = False
    ) -> list[Job]:
        from sqlalchemy import select

        from refvideo_mcp.ledger.schema import jobs

        query = select(jobs).where(*where)
        if limit is not None:  # else sorted here, or SQLite takes the index that sorts for the one that finds
            query = query.order_by(jobs.c.opened_at.desc(), jobs.c.id).limit(limit)
        return self._fetch(connection, query.with_for_update() if lock else query)

    def _fetch(
        self, connection: "Connection", query: "Select[Any]", values: Mapping[str, Any] | None = None
    ) -> list[Job]:
        """The jobs of a query for whole rows, newest first."""
        from refvideo_mcp.ledger.database import ledger_error

        try:
            return sorted(map(_job, connection.execute(query, values)), key=_newest_first)
        except ValueError as error:  # no JSON where there should be: SQLite does not notice every damage
            raise ledger_error(self._where, error, self._shows_path) from error

    def _reject_unsent(self, connection: "Connection", database: "Database") -> list[str]:
        """Mark the rows whose callers gave up: they look like jobs, but nothing was sent. Those that are dealt with."""
        from refvideo_mcp.ledger.schema import jobs

        dealt_with = []
        for job_id, account in list(self._unsent.items()):
            is_settled = database.is_settled(account, connection)  # asked first: a row may appear until then
            found = self._select(connection, jobs.c.id == job_id, jobs.c.state == "submitting", lock=True)
            for job in found:
                _write(connection, job, replace(job, state="rejected", reason=UNSENT))
            if found or is_settled:
                dealt_with.append(job_id)
        return dealt_with

    @contextmanager
    def _transaction(
        self,
        account: str | None = None,
        *,
        reads: bool = False,
        durable: bool = True,
        within: float = float("inf"),
    ) -> Iterator["Connection"]:
        """One transaction; with an account, alone among those that open its jobs. One that `reads` waits for none."""
        import sqlite3

        from sqlalchemy.exc import SQLAlchemyError

        from refvideo_mcp.ledger.database import BUSY_SECONDS, Moved, ledger_error

        reads = reads and not self._unsent
        begun = time.monotonic()
        for kind in {reads or account is not None, True}:  # where even readers wait, all do; who opens a job tries anew
            at, error_then = self._in_vain.get(kind, (0.0, None))
            if error_then and begun - at < IN_VAIN_SECONDS:
                raise ledger_error(self._where, error_then, self._shows_path)
        give_up = begun + min(within, BUSY_SECONDS)
        try:
            with ExitStack() as stack:
                for is_last in (False, True):
                    database = self._connected(give_up - time.monotonic())
                    try:
                        left = give_up - time.monotonic()
                        connection = stack.enter_context(
                            database.transaction(left, reads=reads, durable=durable, alone=account)
                        )
                        break
                    except Moved:
                        self._leave(database)
                        if is_last:
                            raise
                dealt_with = self._reject_unsent(connection, database)
                yield connection
            for job_id in dealt_with:
                self._unsent.pop(job_id, None)
        except (SQLAlchemyError, sqlite3.Error, OSError, Moved) as error:
            if time.monotonic() - begun > IN_VAIN_SECONDS:
                self._in_vain[reads] = time.monotonic(), error
            raise ledger_error(self._where, error, self._shows_path) from error

    def _connected(self, seconds: float) -> "Database":
        from refvideo_mcp.ledger.database import connect

        if not self._opening.acquire(timeout=max(0.0, seconds)):
            raise TimeoutError
        try:
            if self._database is None:
                self._database = connect(self._where, seconds)
            return self._database
        finally:
            self._opening.release()

    def _leave(self, database: "Database") -> None:
        with self._opening:
            if self._database is database:
                self._database = None
                database.leave()


def _newest_first(job: Job) -> tuple[float, str]:
    return -job.opened_at, job.id


def _is_in(state: JobState, now: float) -> tuple["ColumnElement[bool]", ...]:
    """Whether a job `at(now)` is in a state."""
    from sqlalchemy import and_, or_

    from refvideo_mcp.ledger.schema import jobs

    overdue = jobs.c.submit_deadline < now
    if state == "submitting":
        return jobs.c.state == "submitting", ~overdue
    if state == "uncertain":
        return (or_(jobs.c.state == "uncertain", and_(jobs.c.state == "submitting", overdue)),)
    return (jobs.c.state == state,)


@cache
def _of_a_day() -> tuple["Select[Any]", "Select[Any]", "Select[Any]"]:
    """The jobs that matter to a draft; the seconds of video of its day, as a sum, and one by one.

    Built once: to build them takes ten times as long as to run them.
    """
    from sqlalchemy import bindparam, func, select, union_all

    from refvideo_mcp.ledger.schema import jobs

    mine, recent = jobs.c.account == bindparam("account"), jobs.c.opened_at > bindparam("since")
    that_matter = union_all(
        *(_ids(mine, recent, jobs.c.state == state) for state in ("queued", "processing", "uncertain")),
        # With the sum no index finds the time: SQLite would rather look through the whole day than for the key.
        _ids(mine, jobs.c.opened_at + 0.0 > bindparam("since"), jobs.c.key == bindparam("key")),
        _ids(mine, recent, jobs.c.fingerprint == bindparam("fingerprint"), jobs.c.delivered.is_(False)),
        # Of whatever day, for a machine may have slept for some.
        _ids(mine, jobs.c.state == "submitting"),
        _ids(mine, jobs.c.state == "uncertain", jobs.c.changed_at > bindparam("doubt")),
        _ids(jobs.c.id.in_(bindparam("also", expanding=True))),
    )
    counted = (mine, recent, jobs.c.state != "rejected")
    return (
        select(jobs).where(jobs.c.id.in_(that_matter)),
        select(func.coalesce(func.sum(jobs.c.seconds), 0)).where(*counted),
        select(jobs.c.opened_at, jobs.c.seconds).where(*counted).order_by(jobs.c.opened_at),
    )


def _ids(*where: "ColumnElement[bool]") -> "Select[Any]":
    from sqlalchemy import select

    from refvideo_mcp.ledger.schema import jobs

    return select(jobs.c.id).where(*where)


def _begins(text: str) -> "ColumnElement[bool]":
    """Whether a job's task id or key begins so: as a list or a memory cuts it off."""
    from sqlalchemy import false, or_

    from refvideo_mcp.ledger.schema import jobs

    if len(text) < SHORTEST_BEGINNING:
        return false()
    return or_(*(column.startswith(text, autoescape=True) for column in (jobs.c.task_id, jobs.c.key)))


def _write(connection: "Connection", before: Job, job: Job) -> None:
    """Write what has changed, and no more: SQLite writes the indexes of all columns that are named."""
    from refvideo_mcp.ledger.schema import jobs

    known = _values(before)
    if changed := {name: value for name, value in _values(job).items() if value != known[name]}:
        connection.execute(jobs.update().where(jobs.c.id == job.id), changed)


def _values(job: Job) -> dict[str, Any]:
    row = dict(vars(job))
    answer = {name: row.pop(name) for name in _ANSWER} | {"videos": [vars(video) for video in job.videos]}
    return row | {"key": job.key or None, "answer": answer}


def _job(row: "Row[Any]") -> Job:
    known = row._asdict()
    answer = known.pop("answer")
    known["key"] = known["key"] or ""
    videos = tuple(Video(**video) for video in answer.get("videos") or ())
    warnings = tuple(answer.get("warnings") or ())
    return Job(**known | {name: answer.get(name) for name in _ANSWER} | {"videos": videos, "warnings": warnings})
