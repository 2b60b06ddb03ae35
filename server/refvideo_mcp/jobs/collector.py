"""Who follows jobs from their rows on, until they have ended and are saved."""

import logging
from typing import Protocol

from refvideo_mcp.jobs.follow import Follower, is_done
from refvideo_mcp.jobs.row import JobRow
from refvideo_mcp.jobs.services import Background, Services
from refvideo_mcp.ledger import Job, LedgerError

__all__ = ["Collector", "Followers"]

log = logging.getLogger(__name__)

REMEMBERED = 1000
UNANSWERED = frozenset({"submitting", "uncertain"})
COLLECT_AFTER_SECONDS = 3.0
COLLECT_AGAIN_SECONDS = 60.0
COLLECT_SECONDS = 2 * 24 * 3600.0


class Collector(Protocol):
    """What buying needs of whoever follows an account's jobs: in this process, or elsewhere by their rows."""

    def row_of(self, job: Job) -> JobRow:
        """The row of a job, as the ledger has it now; it is followed from now on."""

    def rows(self) -> list[JobRow]:
        """Those that this process follows, or has followed lately."""

    async def write_down(self, job: Job) -> None:
        """Put a job that is followed here into the ledger, should that be another by now."""

    async def collect_soon(self) -> None:
        """Follow every unfinished job of the account, whoever submitted it."""


class Followers:
    """The collector of one account in this process: at most one follower per job, however many wait for it."""

    def __init__(self, services: Services, background: Background, account: str):
        self._services = services
        self._clock = services.clock
        self._background = background
        self._account = account
        self._by_id: dict[str, Follower] = {}
        self._is_collecting_soon = False

    def row_of(self, job: Job) -> JobRow:
        return self.of(job).row

    def rows(self) -> list[JobRow]:
        return [follower.row for follower in self._by_id.values()]

    async def write_down(self, job: Job) -> None:
        if follower := self._by_id.get(job.id):
            await follower.row.change(lambda known: known, news=False)

    def named(self, handle: str) -> Follower | None:
        return next((f for f in self._by_id.values() if handle in (f.job.task_id, f.job.key)), None)

    def settled(self, handle: str, since: float) -> Follower | None:
        """The follower of a finished job that needs nothing more, as the ledger had it after `since` (steady time)."""
        follower = self.named(handle)
        if follower is None or not (follower.over and follower.settled) or follower.row.is_behind:
            return None
        is_finished = follower.job.state in ("succeeded", "failed")  # others may be released at any moment
        return follower if is_finished and follower.row.read_at > since and not follower.link_is_dead else None

    async def that_can_tell(self, handle: str) -> Follower | None:
        """The follower of a job that is under way, or of one that has done what it could, and links live."""
        follower = self.named(handle)
        if follower is None or not follower.row.is_real or follower.link_is_dead:
            return None
        gave_up_saving = follower.job.not_saved is not None
        return follower if not follower.over or gave_up_saving or await is_done(follower.job, self._services) else None

    def under_way(self) -> set[str]:
        """Ids of jobs that someone waits for or that are still followed, if not for a file that may never come."""
        return {f.job.id for f in self._by_id.values() if f.waiting or not (f.over or f.job.not_saved)}

    @property
    def busy(self) -> bool:
        """Whether a job is followed, waited for, or not written down yet."""
        return any(f.waiting or not f.over or f.row.is_behind for f in self._by_id.values())

    def of(self, job: Job, *, known: bool = True) -> Follower:
        """The follower of a job, as the ledger has it now; `known`: it has it."""
        follower = self._by_id.get(job.id)
        if follower is None or follower.over:
            return self._follow(job, known=known)
        if follower.job.state in UNANSWERED and job.state not in UNANSWERED:
            follower.row.read(job)  # the answer, which another process has heard since this one looked
        return follower

    async def collect_soon(self) -> None:
        """Once for all that is bought within seconds: it would hold up the next call."""
        if not self._is_collecting_soon:
            self._is_collecting_soon = True
            await self._clock.sleep(COLLECT_AFTER_SECONDS)
            self._is_collecting_soon = False
            await self.collect()

    async def collect(self) -> bool:
        """Newest first, so that what somebody may wait for has its turn soon; False: the ledger failed."""
        services, since = self._services, self._clock.now() - COLLECT_SECONDS
        try:
            unfinished = await services.ask(services.ledger.unfinished, self._account, since)
        except LedgerError:
            return False
        for job in unfinished:
            self._pick_up(job.at(self._clock.now()))
        return True

    async def collect_later(self) -> None:
        """As a process begins: opening the ledger costs imports that the first answers should not wait for."""
        await self._clock.sleep(COLLECT_AFTER_SECONDS)
        while not await self._collected():
            await self._clock.sleep(COLLECT_AGAIN_SECONDS)

    async def _collected(self) -> bool:
        try:
            return await self.collect()
        except Exception:
            log.exception("unfinished jobs could not be picked up")
            return False

    def _pick_up(self, job: Job) -> None:
        """Follow a job that nobody asked for, if there is something to do that this process has not tried."""
        is_unsaved = job.state == "succeeded" and job.expired_at is None and self._services.saves(job)
        if (is_unsaved or job.may_be_found or not job.ended) and job.id not in self._by_id:
            self._follow(job)

    def _follow(self, job: Job, *, known: bool = True) -> Follower:
        earlier = self._by_id.get(job.id)
        row = earlier.row if earlier else JobRow(job, self._services, known=known)
        row.read(job)
        row.last_error = None
        follower = self._by_id[job.id] = Follower(row, self._services)
        self._background.start_soon(follower.run)
        finished = [job_id for job_id, f in self._by_id.items() if f.over and not f.row.is_behind]
        for job_id in finished[: max(0, len(self._by_id) - REMEMBERED)]:
            del self._by_id[job_id]
        return follower
