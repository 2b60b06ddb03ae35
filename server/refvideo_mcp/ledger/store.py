"""The job store, on SQLite or PostgreSQL. Every function blocks; callers run it in a thread."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from refvideo_mcp.errors import Refused
from refvideo_mcp.ledger.errors import Damaged, LedgerError, Moved, ledger_error
from refvideo_mcp.ledger.job import Day, Draft, Job
from refvideo_mcp.schemas import JobState

if TYPE_CHECKING:
    from refvideo_mcp.ledger.database import Database
    from refvideo_mcp.ledger.rows import Rows

__all__ = ["Ledger"]

BUSY_SECONDS = 8.0
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
        return self._error(TimeoutError())

    def version(self) -> int:
        """The version of its tables, which are brought up to date by opening it."""
        with self._transaction() as rows:
            return rows.schema_version()

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
        give_up = time.monotonic() + within
        new: Job | None = None
        try:
            with self._transaction(draft.account, within=within) as rows:
                day, lapsed = rows.day(draft, now, also)
                for before, job in lapsed:  # seen uncertain for the first time: that stays, though the call be refused
                    rows.update(before, job)
                chosen: Job | Draft | Refused
                try:
                    chosen = decide(day)
                except Refused as error:
                    chosen = error
                if isinstance(chosen, Draft):
                    taken = {f.name: getattr(chosen, f.name) for f in fields(Draft)}
                    chosen = new = Job(**taken, opened_at=now, changed_at=now, submit_deadline=submit_deadline)
                    rows.insert(new)
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
        with self._transaction(reads=True) as rows:
            day, _ = rows.day(draft, now, also)
            return decide(day)

    def import_job(self, job: Job) -> Job:
        """Remember a job that was submitted elsewhere; the known one, if it is known by now."""
        with self._transaction(job.account) as rows:
            for known in rows.by_task_id(job.task_id) if job.task_id else ():
                if known.account == job.account:
                    return known
            rows.insert(job)
            return job

    def update(
        self, job_id: str, change: Callable[[Job], Job], lost: Job | None = None, *, durable: bool = True
    ) -> Job | None:
        """Change one job, and return it as it is then; None if it was forgotten.

        A change that is not `durable` may be taken back by a power cut, though not by the end of this process.
        `change` sees the job as it is now, whatever other processes did to it. A job that cannot have been forgotten
        is given as `lost`, too: where its row is missing, because the ledger is another by now, it is made again.
        """
        with self._transaction(durable=durable) as rows:
            found = rows.by_id(job_id, to_write=True)
            if found is not None:
                job = change(found)
                rows.update(found, job)
                return job
            if lost is None:
                return None
            job = change(lost)
            rows.insert(job)
            return job

    def release(self, job_id: str) -> None:
        """Let a job be sent again: it gives up its key. It still counts in the allowance."""
        self.update(job_id, lambda job: replace(job, released=True))

    @_reads
    def get(self, job_id: str) -> Job | None:
        with self._transaction(reads=True) as rows:
            return rows.by_id(job_id)

    @_reads
    def find(self, account: str, handle: str) -> Job | None:
        """The account's job with this task id, else the one that holds this key or was the last to give it up.

        Else the only one whose task id or key begins so.
        """
        with self._transaction(reads=True) as rows:
            mine = [job for job in rows.by_task_id(handle) if job.account == account]
            if found := mine or rows.by_key(account, handle):
                return next((job for job in found if job.holds_key), found[0])
            return rows.that_begins(handle, account)

    @_reads
    def by_key_or_id(self, name: str) -> list[Job]:
        """Jobs of any account with this key or id, else the only one whose task id or key begins so.

        For the person at this machine, not for agents.
        """
        with self._transaction(reads=True) as rows:
            if found := rows.by_key_or_id(name):
                return found
            begun = rows.that_begins(name)
            return [begun] if begun else []

    @_reads
    def belongs_to_other(self, account: str, task_id: str) -> bool:
        """Whether the task is another account's."""
        with self._transaction(reads=True) as rows:
            return any(job.account != account for job in rows.by_task_id(task_id))

    @_reads
    def newest(self, account: str, limit: int, states: Sequence[JobState] = (), now: float = 0.0) -> list[Job]:
        """The account's jobs, newest first; with states, those that are in one of them at `now`."""
        with self._transaction(reads=True) as rows:
            return rows.newest(account, limit, states, now)

    @_reads
    def search(
        self,
        account: str,
        limit: int,
        *,
        states: Sequence[JobState] = (),
        words: Sequence[str] = (),
        before: tuple[float, str] | None = None,
        now: float = 0.0,
    ) -> tuple[list[Job], int]:
        """The newest of the account's jobs that match, and how many match in all, 1,000 at the most.

        With `states`, those that are in one of them at `now`; with `words`, those that have each of them somewhere in
        the prompt, a subject's id or the file's name; `before` an `opened_at` and the id there.
        """
        with self._transaction(reads=True) as rows:
            if words:
                return rows.that_have(words, account, limit, states, before, now)
            return rows.newest(account, limit, states, now, before), rows.count(account, states, now, before)

    @_reads
    def unfinished(self, account: str, since: float) -> list[Job]:
        """Jobs opened after `since` that have not ended, may be found, or have a video that nobody has saved.

        Newest first.
        """
        with self._transaction(reads=True) as rows:
            return rows.unfinished(account, since)

    def try_lease(self, job_id: str, column: str, free_before: float, value: float) -> bool:
        """Set a time column of one job to `value` if it is not later than `free_before`; whether this process won.

        A job without a row is its for whoever asks.
        """
        with self._transaction(durable=False) as rows:
            return rows.lease(job_id, column, free_before, value)

    def pop_unreported(self, account: str, except_ids: set[str]) -> list[Job]:
        """Videos that were finished while nobody asked, each returned once."""
        with self._transaction(reads=True) as rows:  # most often there are none: nobody is waited for
            if not rows.has_unreported(account, except_ids):
                return []
        with self._transaction(durable=False) as rows:
            return rows.pop_unreported(account, except_ids)

    def delete_ended(self, before: float) -> int:
        """Remove ended jobs opened before `before`; how many."""
        with self._transaction() as rows:
            return rows.delete_ended(before)

    def _error(self, error: Exception) -> LedgerError:
        return ledger_error(self._where, error, self._shows_path)

    def _reject_unsent(self, rows: "Rows", is_settled: Callable[[str], bool]) -> list[str]:
        """Mark the rows whose callers gave up: they look like jobs, but nothing was sent. Those that are dealt with."""
        dealt_with = []
        for job_id, account in list(self._unsent.items()):
            settled = is_settled(account)  # asked first: a row may appear until then
            job = rows.by_id(job_id, to_write=True)
            if job is not None and job.state == "submitting":
                rows.update(job, replace(job, state="rejected", reason=UNSENT))
            elif not settled:
                continue
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
    ) -> Iterator["Rows"]:
        """One transaction; with an account, alone among those that open its jobs. One that `reads` waits for none."""
        # Not before the first of them, and in its thread: it brings SQLAlchemy, which a server can answer long without.
        from refvideo_mcp.ledger.database import FAILURES, connect
        from refvideo_mcp.ledger.rows import Rows

        reads = reads and not self._unsent
        begun = time.monotonic()
        for kind in {reads or account is not None, True}:  # where even readers wait, all do; who opens a job tries anew
            at, error_then = self._in_vain.get(kind, (0.0, None))
            if error_then and begun - at < IN_VAIN_SECONDS:
                raise self._error(error_then)
        give_up = begun + min(within, BUSY_SECONDS)
        try:
            with ExitStack() as stack:
                for is_last in (False, True):
                    database = self._connected(connect, give_up - time.monotonic())
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
                rows = Rows(connection)
                dealt_with = self._reject_unsent(rows, lambda account: database.is_settled(account, connection))
                yield rows
            for job_id in dealt_with:
                self._unsent.pop(job_id, None)
        except Damaged as error:
            raise self._error(error) from error
        except (*FAILURES, Moved) as error:
            if time.monotonic() - begun > IN_VAIN_SECONDS:
                self._in_vain[reads] = time.monotonic(), error
            raise self._error(error) from error

    def _connected(self, connect: "Callable[[Path | str, float], Database]", seconds: float) -> "Database":
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
