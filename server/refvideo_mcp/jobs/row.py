"""One job as this process knows it, and its row in the ledger, which may fail for a while."""

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import reduce

import anyio

from refvideo_mcp.errors import RefvideoError
from refvideo_mcp.jobs.services import Services
from refvideo_mcp.ledger import Job, LedgerError

__all__ = ["JobRow"]

log = logging.getLogger(__name__)

DAY_SECONDS = 24 * 3600.0
PROGRESS_SECONDS = 5.0


class JobRow:
    """`job` is its latest state; `changed` is set, and replaced, at every news of it.

    `known`: the ledger has the job. A task id from elsewhere is not known until the router has answered for it.
    `posting`: its POST is open in this process, or about to be. `last_error`: why the last request about it brought
    nothing; None if it brought something.
    """

    def __init__(self, job: Job, services: Services, *, known: bool = True):
        self.job = job
        self.known = known
        self.changed = anyio.Event()
        self.posting = False
        self._last_error: RefvideoError | None = None
        self.read_at = -math.inf  # steady time
        self._services = services
        self._clock = services.clock
        self._changing = anyio.Lock()
        self._missed: list[Callable[[Job], Job]] = []
        self._logged = ""

    @property
    def last_error(self) -> RefvideoError | None:
        return self._last_error

    @last_error.setter
    def last_error(self, error: RefvideoError | None) -> None:
        # A copy has no traceback, which would keep what was sent, pictures and all, for as long as the row is kept.
        self._last_error = copy(error)

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

    async def until(
        self, reached: Callable[[], bool], deadline: float, report: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Wait until `deadline` (steady time) at most; `report` is called at every news, and at least every 5 s."""
        while not reached() and (left := deadline - self._clock.steady()) > 0:
            await self._clock.wait(self.changed, min(left, PROGRESS_SECONDS))
            if report is not None:
                await report()

    async def change(
        self, change: Callable[[Job], Job], *, news: bool = True, durable: bool = False, passing: bool = False
    ) -> None:
        """Change the job and remember it; `news` to those who wait for it, or not. `durable`: a power cut keeps it.

        A ledger that fails now must not stop a job that is paid for: what it missed is written with the next change.
        Not so what is `passing`, unless the job has ended: written late it would hide what other processes learned.
        """
        now = self._clock.now()
        # Jobs that ended a day ago may have been forgotten on purpose. Others are missed where the ledger is another.
        forgotten = self.job.ended and now - self.job.opened_at > DAY_SECONDS
        lost = None if forgotten else self.job

        def dated(job: Job) -> Job:
            changed = change(job)
            if changed.state == "succeeded" and not changed.told:
                self._services.news_read.pop(changed.account, None)
            return replace(changed, changed_at=now) if changed.state != job.state else changed

        async with self._changing:  # or an older state could overtake a newer one
            changes = (*self._missed, dated)
            ledger = self._services.ledger
            try:
                if not self.known:
                    self.job = await self._services.ask(ledger.import_job, self.job)
                    self.known = True
                row: Job | None = await self._services.ask(
                    ledger.update,
                    self.job.id,
                    lambda job: reduce(lambda j, c: c(j), changes, job),
                    lost,
                    durable=durable or bool(self._missed),
                )
                self.job = row or dated(self.job)
                self._missed.clear()
                self._logged = ""
            except LedgerError as error:
                self.job = dated(self.job)
                if self.known and not (passing and not self.job.ended):
                    self._missed.append(dated)
                self._log_missing(error)
        if news:
            self.tell()

    async def id_delivered(self) -> None:
        """Remember that a caller knows the job's id or key."""
        await self.change(lambda job: replace(job, delivered=True), news=False)

    def is_news(self, answer: Job) -> bool:
        """Whether whoever gets `answer` learns what no caller was told so far."""
        return not self.job.delivered or (answer.ended and not self.job.told)

    async def answered(self, answer: Job) -> None:
        """Remember that a caller knows the job by now, and how it ended, if it had when `answer` was given."""
        if self.is_news(answer):
            await self.change(lambda job: replace(job, delivered=True, told=job.told or answer.ended), news=False)

    def _log_missing(self, error: LedgerError) -> None:
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
        self.read_at = self._clock.steady()
        self.job = reduce(lambda job, change: change(job), self._missed, row).at(self._clock.now())

    async def reread(self) -> None:
        """Learn what other processes wrote, and what time does to a submission without an answer."""
        row: Job | None = None
        with suppress(LedgerError):
            row = await self._services.ask(self._services.ledger.get, self.job.id)
        if row is None:
            self.job = self.job.at(self._clock.now())
        else:
            self.read(row)
        self.tell()

    async def may_ask(self, gap: float) -> bool:
        """Whether no process asked the router within the last `gap` seconds. Where the ledger cannot tell, it may."""
        now = self._clock.now()
        try:
            return await self._services.ask(
                self._services.ledger.try_lease, self.job.id, "last_asked_at", now - gap, now
            )
        except LedgerError:
            return True
