"""One job as this process knows it, and its row in the ledger, which may fail for a while."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import reduce

import anyio

from refvideo_mcp.errors import Refused
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.ledger import Job

__all__ = ["Record"]

log = logging.getLogger(__name__)

DAY_SECONDS = 24 * 3600.0


class Record:
    """`job` is its latest state; `changed` is set, and replaced, at every news of it.

    `known`: the ledger has the job. A task id from elsewhere is not known until the router has answered for it.
    """

    def __init__(self, job: Job, crew: Crew, *, known: bool = True):
        self.job = job
        self.known = known
        self.changed = anyio.Event()
        self._crew = crew
        self._changing = anyio.Lock()
        self._missed: list[Callable[[Job], Job]] = []
        self._logged = ""

    @property
    def is_real(self) -> bool:
        """Whether there is such a job: the ledger knows it, or the router has answered for it."""
        return self.known or self.job.answered_at is not None

    @property
    def is_behind(self) -> bool:
        """Whether the ledger lacks something that this process knows."""
        return bool(self._missed) or (self.is_real and not self.known)

    def tell(self) -> None:
        """Wake those who wait for news."""
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    async def change(self, change: Callable[[Job], Job], *, news: bool = True) -> None:
        """Change the job and remember it; `news` to those who wait for it, or not.

        A ledger that fails now must not stop a job that is paid for: what it missed is written with the next change.
        """
        now = self._crew.clock.now()
        # Jobs that ended a day ago may have been forgotten on purpose. Others are missed where the ledger is another.
        forgotten = self.job.ended and now - self.job.opened_at > DAY_SECONDS
        lost = None if forgotten else self.job

        def dated(job: Job) -> Job:
            changed = change(job)
            return replace(changed, changed_at=now) if changed.state != job.state else changed

        async with self._changing:  # or an older state could overtake a newer one
            changes = (*self._missed, dated)
            try:
                if not self.known:
                    self.job = await self._crew.ask(self._crew.ledger.adopt, self.job)
                    self.known = True
                row: Job | None = await self._crew.ask(
                    self._crew.ledger.update, self.job.id, lambda job: reduce(lambda j, c: c(j), changes, job), lost
                )
                self.job = row or dated(self.job)
                self._missed.clear()
                self._logged = ""
            except Refused as error:
                if self.known:
                    self._missed.append(dated)
                self.job = dated(self.job)
                self._log_missing(error)
        if news:
            self.tell()

    def _log_missing(self, error: Refused) -> None:
        """Say once what is not written down, with all that finds the job again should this process end before."""
        missing = f"task {self.job.task_id or 'unknown'} (idempotency_key {self.job.key or 'none'}) is {self.job.state}"
        if missing != self._logged:
            log.warning("not written down: %s. %s", missing, error.happened)
            self._logged = missing

    async def catch_up(self) -> None:
        """Write what the ledger missed, if it takes it now."""
        if self.is_behind:
            await self.change(lambda job: job, news=False)

    def read(self, row: Job) -> None:
        """Take over the row, as it was just read."""
        self.job = reduce(lambda job, change: change(job), self._missed, row).at(self._crew.clock.now())

    async def reread(self) -> None:
        """Learn what other processes wrote, and what time does to a submission without an answer."""
        row: Job | None = None
        with suppress(Refused):
            row = await self._crew.ask(self._crew.ledger.get, self.job.id)
        if row is None:
            self.job = self.job.at(self._crew.clock.now())
        else:
            self.read(row)
        self.tell()

    async def claim(self, column: str, *, before: float, until: float = 0.0) -> bool:
        """Whether this process is the one to act; where the ledger cannot tell, it is."""
        now = self._crew.clock.now()
        try:
            return await self._crew.ask(self._crew.ledger.claim, self.job.id, column, now, now - before, now + until)
        except Refused:
            return True
