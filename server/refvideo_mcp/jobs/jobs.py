"""One account's jobs: buy, wait, list, collect."""

import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
from anyio.abc import TaskGroup, TaskStatus

from refvideo_mcp.errors import ReadRefused, Refused, SubmitRejected, UnknownTask, clean
from refvideo_mcp.jobs.background import Background
from refvideo_mcp.jobs.buying import Buying
from refvideo_mcp.jobs.callers import Caller, Callers
from refvideo_mcp.jobs.copying import save_again
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.outcomes import bought, heard, unknown, unreadable
from refvideo_mcp.jobs.rules import Limits
from refvideo_mcp.jobs.sight import Sight
from refvideo_mcp.jobs.watch import Watch
from refvideo_mcp.jobs.watches import Watches
from refvideo_mcp.ledger import Job
from refvideo_mcp.schemas import JobState
from refvideo_mcp.videos import Chunk

__all__ = ["Jobs"]

log = logging.getLogger(__name__)

# A call that does not want to wait still gets a fresh look, if the router is quick.
SHORTEST_WAIT_SECONDS = 10.0
FRESH_SECONDS = 2.0
COLLECT_AFTER_SECONDS = 3.0
COLLECT_AGAIN_SECONDS = 60.0
COLLECT_SECONDS = 2 * 24 * 3600.0
CLOSE_SECONDS = 30.0

OnProgress = Callable[[Job, float], Awaitable[None]]


async def _shielded(*, task_status: TaskStatus[TaskGroup]) -> None:
    """Tasks that nothing but their own group cancels: a client that is gone must not break off a POST."""
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            task_status.started(tasks)
            await anyio.sleep_forever()


class Jobs:
    """Every job of one account, followed in the background while the process runs. `buying` starts new ones."""

    def __init__(self, crew: Crew, limits: Limits, background: Background):
        self._crew = crew
        self._clock = crew.clock
        self._background = background
        self._watches = Watches(crew, background)
        self.consent = crew.consent
        self.host = crew.router.host
        self._callers = Callers()
        self.buying = Buying(crew, limits, self._callers, self._watches, background, self.collect)

    @classmethod
    @asynccontextmanager
    async def open(cls, crew: Crew, limits: Limits) -> AsyncIterator["Jobs"]:
        """Jobs that are followed until the block ends; a POST on its way then is waited for, 30 s at most."""
        try:
            async with anyio.create_task_group() as beside:
                tasks = await beside.start(_shielded)
                background = Background(tasks)
                jobs = cls(crew, limits, background)
                background.start_soon(jobs._collect_later)
                try:
                    yield jobs
                finally:
                    try:
                        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                            landed = anyio.Event()
                            crew.in_flight.when_landed(landed.set)
                            await landed.wait()
                    finally:  # a second Ctrl-C knows no shield
                        tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await crew.router.aclose()
                await anyio.to_thread.run_sync(crew.ledger.close)

    async def save(self, handle: str, to: str | None = None, roots: Sequence[Path] = ()) -> Job:
        """Fetch a finished video once more, by a fresh link, to a new file; `to` is a folder or an .mp4 path.

        Raises:
            Refused: `to` cannot be used, or there is no video yet.
            UnknownTask: neither we nor the router know the job.
            ReadRefused: the router refuses to tell.
            JobFailed: so it did.
            Unavailable: it could not be fetched or stored.
        """
        destination = await self.consent.destination(to, roots) if to else None
        known, _ = await self._known(handle)
        return await save_again(self._crew, known or self._adopted(handle), destination)

    async def wait(
        self, handle: str, seconds: float, on_progress: OnProgress | None = None, *, tell: bool = True
    ) -> Job:
        """Wait for a job to end and its file to be saved, `seconds` at most; the deadline is not an error.

        `handle` is a task id or a key. `on_progress` gets the job and the seconds waited so far, at every news and at
        least every 5 s. Without `tell` the job stays news: whoever asks now is not the agent.

        Raises:
            UnknownTask: neither we nor the router know it.
            SubmitRejected: the router refused the job.
            ReadRefused: the router refuses to tell.
            Uncertain: the job's submission was never answered.
            Unavailable: the router gave no answer in all that time, or no living link.
        """
        started = self._clock.steady()
        watch, unread = await self._found(handle)
        if tell and watch.record.known and not watch.job.delivered:  # its id or key came back, whatever comes of this
            self._background.start_soon(watch.delivered)
        earlier = watch.trouble
        watch.hurry()
        watch.waiting += 1
        try:

            def fresh() -> bool:
                return seconds == 0 and watch.looked_at is not None and watch.looked_at >= started - FRESH_SECONDS

            def refused() -> bool:
                return isinstance(watch.trouble, SubmitRejected | ReadRefused) and watch.trouble is not earlier

            def in_vain() -> bool:
                tried = watch.save_tried_at
                next_try = (tried or 0.0) + watch.save_pause
                return tried is not None and tried >= started and (next_try > deadline or not watch.saves_soon)

            def over() -> bool:
                return watch.over or fresh() or refused() or in_vain() or self._crew.in_flight.ending

            async def report() -> None:
                if on_progress is not None:
                    await on_progress(watch.job, self._clock.steady() - started)

            deadline = started + (seconds or SHORTEST_WAIT_SECONDS)
            await watch.until(over, deadline, report)
        finally:
            watch.waiting -= 1
        if isinstance(watch.trouble, UnknownTask):
            raise unreadable(self.host, handle, unread) if unread else await self._unknown(handle)
        job = heard(watch, bought(watch, self.host), started - FRESH_SECONDS, self._clock.now())
        if watch.saving.note and not (job.saved_to or job.not_saved):
            job = replace(job, not_saved=watch.saving.note)
        if tell:  # beside the answer, which must not wait for a busy ledger
            caller = Caller(started)
            self._callers.answer(job, caller)
            self._background.start_soon(self._callers.told, watch, job, caller)
        return job

    async def look(self, handle: str, *, tell: bool = True) -> Sight:
        """The job as its watch sees it, at once, for a caller who comes again; one that nobody follows is asked for.

        Without `tell` the job stays news: the caller may not get to know of it.

        Raises: as `wait`.
        """
        watch = await self._watches.seen(handle)
        if watch is None:
            job = await self.wait(handle, 0.0, tell=tell)
            watch = self._watches.named(handle)
        else:
            job = bought(watch, self.host)
            if tell:
                await watch.told(job)
        return Sight.of(job, watch)

    async def piece(self, handle: str, offset: int) -> Chunk:
        """Some of a finished job's saved video, from `offset` on.

        Raises:
            Refused: this account has no such video, or it cannot be shown.
        """
        job = await self._crew.ask(self._crew.ledger.find, self._crew.account, handle)
        if job is None or job.state != "succeeded" or not job.saved_to:
            raise Refused(f"No video of job {clean(handle, 80)} is saved here.", "Its result tells how it stands.")
        return await self._crew.videos.chunk(job.saved_to, offset)

    async def newest(self, limit: int, states: Sequence[JobState] = ()) -> list[Job]:
        """The account's jobs, newest first."""
        now = self._clock.now()
        found = await self._crew.ask(self._crew.ledger.newest, self._crew.account, limit, states, now)
        return [job.at(now) for job in found]

    async def news(self) -> list[Job]:
        """Videos finished since anyone last looked, each reported once; none while the ledger cannot tell."""
        watched = self._watches.under_way() | self._callers.concerned
        try:
            found = await self._crew.ask_briefly(self._crew.ledger.untold, self._crew.account, watched)
        except Refused:
            return []
        return found or []

    async def collect(self) -> bool:
        """Follow every unfinished job of the account, newest first, whoever submitted it; False: the ledger failed."""
        since = self._clock.now() - COLLECT_SECONDS
        async with self.buying.opening.alone:  # or a job that is being opened here would look like another process's
            try:
                unfinished = await self._crew.ask(self._crew.ledger.unfinished, self._crew.account, since)
            except Refused:
                return False
            for job in unfinished:
                self._watches.pick_up(job.at(self._clock.now()))
        return True

    async def _collect_later(self) -> None:
        # Opening the ledger costs imports that the first answers should not wait for.
        await self._clock.sleep(COLLECT_AFTER_SECONDS)
        while not await self._collected():
            await self._clock.sleep(COLLECT_AGAIN_SECONDS)

    async def _collected(self) -> bool:
        try:
            return await self.collect()
        except Exception:
            log.exception("unfinished jobs could not be picked up")
            return False

    async def _known(self, handle: str) -> tuple[Job | None, Refused | None]:
        """What the ledger knows of a job, or why it cannot be read: a paid job can still be asked for without it."""
        account = self._crew.account
        try:
            known = await self._crew.ask(self._crew.ledger.find, account, handle)
            if known is None and await self._crew.ask(self._crew.ledger.is_foreign, account, handle):
                raise await self._unknown(handle)
        except Refused as error:
            return None, error
        return known, None

    async def _found(self, handle: str) -> tuple[Watch, Refused | None]:
        """The watch of a job, and why the ledger could not be asked for it."""
        known, unread = await self._known(handle)
        if known is not None:
            return self._watches.of(known.at(self._clock.now())), None
        watched = self._watches.named(handle)
        if watched is not None and not isinstance(watched.trouble, UnknownTask):
            return self._watches.of(watched.job), unread
        return self._watches.follow(self._adopted(handle), known=False), unread

    def _adopted(self, task_id: str) -> Job:
        """A job that another program submitted."""
        account, now = self._crew.account, self._clock.now()
        return Job(
            uuid.uuid4().hex,
            account,
            state="processing",
            task_id=task_id,
            opened_at=now,
            changed_at=now,
            delivered=True,
        )

    async def _unknown(self, handle: str) -> UnknownTask:
        try:
            newest = await self.newest(3)
        except Refused:
            newest = []
        return unknown(self.host, handle, newest, forgets=self._crew.forgets)
