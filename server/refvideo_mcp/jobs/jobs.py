"""One account's jobs: submit, wait, list, collect."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.abc

from refvideo_mcp.errors import Refused, Rejected, UnknownTask, clean
from refvideo_mcp.jobs.callers import Callers
from refvideo_mcp.jobs.copying import save_again
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.draft import Prepared, prepare
from refvideo_mcp.jobs.offer import Offer, offer
from refvideo_mcp.jobs.opening import ANSWER_SECONDS, Opening
from refvideo_mcp.jobs.outcomes import bought, heard, unknown, unreadable
from refvideo_mcp.jobs.rules import Limits, is_recent, seconds_left, twins_of
from refvideo_mcp.jobs.sight import Sight
from refvideo_mcp.jobs.watch import Watch
from refvideo_mcp.jobs.watches import Watches
from refvideo_mcp.ledger import Job
from refvideo_mcp.spec import JobState, ReferenceVideoRequest
from refvideo_mcp.videos import Piece

__all__ = ["Jobs", "Submission"]

READING = "Reading the pictures"
DELIVERED_SECONDS = 10.0
# A process that is killed within that time may not have got its answer out.
ON_ITS_WAY_SECONDS = 1.0
PROGRESS_SECONDS = 5.0
# A call that does not want to wait still gets a fresh look, if the router is quick.
SHORTEST_WAIT_SECONDS = 10.0
FRESH_SECONDS = 2.0
COLLECT_AFTER_SECONDS = 3.0
COLLECT_SECONDS = 2 * 24 * 3600.0
CLOSE_SECONDS = 30.0

Made = TypeVar("Made")
OnProgress = Callable[[Job, float], Awaitable[None]]


@dataclass(frozen=True)
class Submission:
    """What became of a call: the job, whether an earlier call had started it, and what is left of the allowance.

    `sent` are the local files whose contents went where `Jobs.pictures_go_to` says.
    """

    job: Job
    joined: bool
    seconds_left: int | None
    sent: tuple[Path, ...]


class Jobs:
    """Every job of one account, followed in the background while the process runs."""

    def __init__(self, crew: Crew, limits: Limits, tasks: anyio.abc.TaskGroup):
        self._crew = crew
        self._clock = crew.clock
        self._limits = limits
        self._tasks = tasks
        self._watches = Watches(crew, tasks)
        self.permissions = crew.permissions
        self.host = crew.router.host
        bucket = crew.images.bucket
        self.pictures_go_to = f"{self.host} through {bucket.name}" if bucket else self.host
        self._callers = Callers()
        self._opening = Opening(crew, limits, self._callers)

    @classmethod
    @asynccontextmanager
    async def open(cls, crew: Crew, limits: Limits) -> AsyncIterator["Jobs"]:
        """Jobs that are followed until the block ends; a POST on its way then is waited for, 30 s at most."""
        try:
            async with anyio.create_task_group() as tasks:
                jobs = cls(crew, limits, tasks)
                tasks.start_soon(jobs._collect_later)
                try:
                    yield jobs
                finally:
                    with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                        landed = anyio.Event()
                        crew.in_flight.when_landed(landed.set)
                        await landed.wait()
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await crew.router.aclose()
                await anyio.to_thread.run_sync(crew.ledger.close)

    async def submit(
        self,
        request: ReferenceVideoRequest,
        *,
        roots: Sequence[Path] = (),
        key: str | None = None,
        save_to: str | None = None,
        begun: float | None = None,
        release: bool = False,
        buy: bool = True,
        on_opened: Callable[[Job], None] | None = None,
    ) -> Submission:
        """Send one job, at most once, and follow it from then on. Answers within 45 s of `begun` (steady time).

        The job is `submitting` if the router has not answered by then: its POST goes on. `roots` are the client's
        folders. `release`: the user said that an identical job whose answer was lost may be sent again. Without `buy`
        it only joins an earlier job. `on_opened` gets the job as soon as it is remembered, before it is sent.

        Raises:
            Refused: nothing was bought: a picture, the allowance, the ledger. UncertainTwin: only the user may go on.
            Rejected: the router refused; nothing was bought.
            Uncertain: it may have been accepted and billed.
        """
        begun = self._clock.steady() if begun is None else begun
        deadline = begun + ANSWER_SECONDS
        ready = prepare(self._crew, request, roots, key=key, save_to=save_to)
        prepared = await self._opening.in_time(begun, ready, READING)
        draft = prepared.draft
        if release:
            for twin in twins_of(draft, await self.newest(50), self._clock.now()):
                await self._crew.ask(self._crew.ledger.release, twin.id)
        opened = await self._opening.open(prepared, begun, buy=buy)
        job = opened.job
        joined = job.id != draft.id
        if on_opened is not None:
            on_opened(job)
        try:
            if joined:
                watch = self._watches.of(job)
            else:
                watch = self._watches.follow(job, body=opened.body, retry_until=deadline)
                self._tasks.start_soon(self._crew.videos.remember_references, job.id, prepared.pictures)
                self._tasks.start_soon(self.collect)
            await self._until(watch, lambda: watch.job.state != "submitting", deadline)
            answer = bought(watch, self.host)
            in_time = self._clock.steady() - begun <= DELIVERED_SECONDS
            if (answer.task_id and in_time) or (joined and draft.key_given):
                self._callers.answered.add(answer.id)
                self._tasks.start_soon(self._delivered, watch, answer)
        finally:
            self._callers.remove(job.id, begun)
        now_known = [answer, *(k for k in opened.known if k.id != answer.id)]
        sent = () if joined else prepared.sent
        return Submission(answer, joined, seconds_left(now_known, self._limits), sent)

    async def draft(
        self, request: ReferenceVideoRequest, *, roots: Sequence[Path] = (), save_to: str | None = None
    ) -> Prepared:
        """What `submit` would send. Nothing is sent or remembered.

        Raises:
            Refused: a picture or `save_to` cannot be used.
        """
        return await prepare(self._crew, request, roots, save_to=save_to)

    async def save(self, handle: str, to: str | None = None, roots: Sequence[Path] = ()) -> Job:
        """Fetch a finished video once more, by a fresh link, to a new file; `to` is a folder or an .mp4 path.

        Raises:
            Refused: `to` cannot be used, or there is no video yet.
            UnknownTask: neither we nor the router know the job.
            Rejected: the router refuses to tell, or the job failed.
            Unavailable: it could not be fetched or stored.
        """
        destination = await self.permissions.destination(to, roots) if to else None
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
            Rejected: the router refuses to tell, or refused the job.
            Uncertain: the job's submission was never answered.
            Unavailable: the router gave no answer in all that time, or no living link.
        """
        started = self._clock.steady()
        watch, unread = await self._found(handle)
        earlier = watch.trouble
        watch.hurry()
        watch.waiting += 1
        try:

            def fresh() -> bool:
                return seconds == 0 and watch.looked_at is not None and watch.looked_at >= started - FRESH_SECONDS

            def refused() -> bool:
                return isinstance(watch.trouble, Rejected) and watch.trouble is not earlier

            def over() -> bool:
                return watch.over or fresh() or refused() or self._crew.in_flight.ending

            async def report() -> None:
                if on_progress is not None:
                    await on_progress(watch.job, self._clock.steady() - started)

            deadline = started + (seconds or SHORTEST_WAIT_SECONDS)
            await self._until(watch, over, deadline, report)
        finally:
            watch.waiting -= 1
        if isinstance(watch.trouble, UnknownTask):
            raise unreadable(self.host, handle, unread) if unread else await self._unknown(handle)
        job = heard(watch, bought(watch, self.host), started - FRESH_SECONDS, self._clock.now())
        if tell:
            await watch.told(job)
        return job

    async def look(self, handle: str) -> Sight:
        """The job as its watch sees it, at once, for a caller who comes again; one that nobody follows is asked for.

        Raises: as `wait`.
        """
        watch = await self._watches.seen(handle)
        if watch is None:
            job = await self.wait(handle, 0.0)
            watch = self._watches.named(handle)
        else:
            job = bought(watch, self.host)
            await watch.told(job)
        return Sight.of(job, watch, saves=self._crew.saves(job))

    async def piece(self, handle: str, offset: int) -> Piece:
        """Some of a finished job's saved video, from `offset` on.

        Raises:
            Refused: this account has no such video, or it cannot be shown.
        """
        job = await self._crew.ask(self._crew.ledger.find, self._crew.account, handle)
        if job is None or job.state != "succeeded" or not job.saved_to:
            raise Refused(f"No video of job {clean(handle, 80)} is saved here.", "get_task_result tells its state.")
        return await self._crew.videos.piece(job.saved_to, offset)

    async def newest(self, limit: int, states: Sequence[JobState] = ()) -> list[Job]:
        """The account's jobs, newest first."""
        now = self._clock.now()
        found = await self._crew.ask(self._crew.ledger.newest, self._crew.account, limit, states, now)
        return [job.at(now) for job in found]

    async def news(self) -> list[Job]:
        """Videos finished since anyone last looked, each reported once; none while the ledger cannot tell."""
        watched = self._watches.under_way() | self._callers.answered
        try:
            return await self._crew.ask(self._crew.ledger.untold, self._crew.account, watched)
        except Refused:
            return []

    async def uncertain_twin(self, request: ReferenceVideoRequest, roots: Sequence[Path] = ()) -> Job | None:
        """An identical job of the last minutes that may have been bought: only the user may let it be sent again."""
        now = self._clock.now()
        if not any(job.state == "uncertain" and is_recent(job, now) for job in await self.newest(50)):
            return None
        ready = prepare(self._crew, request, roots)
        prepared = await self._opening.in_time(self._clock.steady(), ready, READING)
        return next(iter(twins_of(prepared.draft, await self.newest(50), now)), None)

    async def offer(
        self,
        request: ReferenceVideoRequest,
        roots: Sequence[Path] = (),
        *,
        key: str | None = None,
        begun: float | None = None,
    ) -> Offer:
        """What `submit` would buy now.

        Raises:
            Refused: it would refuse.
        """
        begun = self._clock.steady() if begun is None else begun
        look = offer(self._crew, self._limits, self._callers.busy(begun), request, roots, key)
        return await self._opening.in_time(begun, look, READING)

    async def collect(self) -> None:
        """Follow every unfinished job of the account, newest first, whoever submitted it."""
        since = self._clock.now() - COLLECT_SECONDS
        async with self._opening.alone:  # or a job that is being opened here would look like another process's
            try:
                unfinished = await self._crew.ask(self._crew.ledger.unfinished, self._crew.account, since)
            except Refused:
                return
            for job in unfinished:
                self._watches.pick_up(job.at(self._clock.now()))

    async def _collect_later(self) -> None:
        # Opening the ledger costs imports that the first answers should not wait for.
        await self._clock.sleep(COLLECT_AFTER_SECONDS)
        await self.collect()

    async def _delivered(self, watch: Watch, answer: Job) -> None:
        try:
            await self._clock.sleep(ON_ITS_WAY_SECONDS)
        finally:
            with anyio.CancelScope(shield=True):
                await watch.told(answer)
            self._callers.answered.discard(answer.id)

    async def _until(
        self,
        watch: Watch,
        reached: Callable[[], bool],
        deadline: float,
        report: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        while not reached() and (left := deadline - self._clock.steady()) > 0:
            await self._clock.wait(watch.record.changed, min(left, PROGRESS_SECONDS))
            if report is not None:
                await report()

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
        return unknown(self.host, handle, newest)
