"""One account's jobs: submit, wait, list, collect."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio
import anyio.abc

from refvideo_mcp.errors import (
    UNCERTAIN_ADVICE,
    Refused,
    RefvideoError,
    Rejected,
    Unavailable,
    Uncertain,
    UnknownTask,
    clean,
)
from refvideo_mcp.images import with_images
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.draft import draft_of
from refvideo_mcp.jobs.rules import Limits, decide, is_recent, seconds_left, twins_of
from refvideo_mcp.jobs.watch import Watch, is_kept
from refvideo_mcp.ledger import Draft, Job
from refvideo_mcp.spec import JobState, ReferenceVideoRequest, advice

__all__ = ["Jobs", "Submission"]

ANSWER_SECONDS = 45.0
SUBMIT_SECONDS = 120.0
DELIVERED_SECONDS = 10.0
# A process that is killed within that time may not have got its answer out.
ON_ITS_WAY_SECONDS = 1.0
TOGETHER_SECONDS = 5.0
PROGRESS_SECONDS = 5.0
# A call that does not want to wait still gets a fresh look, if the router is quick.
SHORTEST_WAIT_SECONDS = 10.0
FRESH_SECONDS = 2.0
COLLECT_AFTER_SECONDS = 3.0
COLLECT_SECONDS = 2 * 24 * 3600.0
CLOSE_SECONDS = 30.0
REMEMBERED_WATCHES = 1000

OnProgress = Callable[[Job, float], Awaitable[None]]


@dataclass(frozen=True)
class Submission:
    """What became of a call: the job, whether an earlier call had started it, and what is left of the allowance."""

    job: Job
    joined: bool
    seconds_left: int | None


class Jobs:
    """Every job of one account, followed in the background while the process runs."""

    def __init__(self, crew: Crew, limits: Limits, tasks: anyio.abc.TaskGroup):
        self._crew = crew
        self._clock = crew.clock
        self._limits = limits
        self._tasks = tasks
        self._watches: dict[str, Watch] = {}
        self._callers: dict[str, list[float]] = {}  # job id → steady times at which calls began that still wait for it
        self._answered: set[str] = set()  # job ids whose answer is on its way
        self._opening = anyio.Lock()

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
        key: str | None = None,
        begun: float | None = None,
        release: bool = False,
    ) -> Submission:
        """Send one job, at most once, and follow it from then on. Answers within 45 s of `begun` (steady time).

        The job is `submitting` if the router has not answered by then: its POST goes on. `release`: the user said that
        an identical job whose answer was lost may be sent again.

        Raises:
            Refused: nothing was sent: a picture, the allowance, the ledger. UncertainTwin: only the user may go on.
            Rejected: the router refused; nothing was bought.
            Uncertain: it may have been accepted and billed.
        """
        begun = self._clock.steady() if begun is None else begun
        deadline = begun + ANSWER_SECONDS
        body, draft = await self._prepared(request, key, deadline)
        if release:
            for twin in twins_of(draft, await self.newest(50), self._clock.now()):
                await self._crew.ask(self._crew.ledger.release, twin.id)
        job, known = await self._opened(draft, begun)
        joined = job.id != draft.id
        try:
            if joined:
                watch = self._watching(job)
            else:
                watch = self._follow(job, body=body, retry_until=deadline)
                self._tasks.start_soon(self.collect)
            await self._until(watch, lambda: watch.job.state != "submitting", deadline)
            answer = self._checked(watch)
            in_time = self._clock.steady() - begun <= DELIVERED_SECONDS
            if (answer.task_id and in_time) or (joined and draft.key_given):
                self._answered.add(answer.id)
                self._tasks.start_soon(self._delivered, watch, answer)
        finally:
            self._callers[job.id].remove(begun)
            if not self._callers[job.id]:
                del self._callers[job.id]
        now_known = [answer, *(k for k in known if k.id != answer.id)]
        return Submission(answer, joined, seconds_left(now_known, self._limits))

    async def wait(self, handle: str, seconds: float, on_progress: OnProgress) -> Job:
        """Wait for a job to end and its file to be saved, `seconds` at most; the deadline is not an error.

        `handle` is a task id or a key. `on_progress` gets the job and the seconds waited so far, at every news and at
        least every 5 s.

        Raises:
            UnknownTask: neither we nor the router know it.
            Rejected: the router refuses to tell, or refused the job.
            Uncertain: the job's submission was never answered.
            Unavailable: the router gave no answer in all that time.
        """
        started = self._clock.steady()
        watch = await self._found(handle)
        watch.hurry()
        watch.waiting += 1
        try:

            def fresh() -> bool:
                return seconds == 0 and watch.looked_at is not None and watch.looked_at >= started - FRESH_SECONDS

            async def report() -> None:
                await on_progress(watch.job, self._clock.steady() - started)

            deadline = started + (seconds or SHORTEST_WAIT_SECONDS)
            await self._until(watch, lambda: watch.over or fresh(), deadline, report)
        finally:
            watch.waiting -= 1
        job = self._checked(watch)
        if job.task_id and not job.ended and (watch.looked_at is None or watch.looked_at < started - FRESH_SECONDS):
            raise await self._unanswered(watch)
        await watch.told(job)
        return job

    async def newest(self, limit: int, states: Sequence[JobState] = ()) -> list[Job]:
        """The account's jobs, newest first."""
        now = self._clock.now()
        found = await self._crew.ask(self._crew.ledger.newest, self._crew.account, limit, states, now)
        return [job.at(now) for job in found]

    async def news(self) -> list[Job]:
        """Videos finished since anyone last looked, each reported once; none while the ledger cannot tell."""
        watched = {watch.job.id for watch in self._watches.values() if watch.waiting or not watch.over}
        watched |= self._answered
        try:
            return await self._crew.ask(self._crew.ledger.untold, self._crew.account, watched)
        except Refused:
            return []

    async def uncertain_twin(self, request: ReferenceVideoRequest) -> Job | None:
        """An identical job of the last minutes that may have been bought: only the user may let it be sent again."""
        now = self._clock.now()
        if not any(job.state == "uncertain" and is_recent(job, now) for job in await self.newest(50)):
            return None
        _, draft = await self._prepared(request, None, self._clock.steady() + ANSWER_SECONDS)
        return next(iter(twins_of(draft, await self.newest(50), now)), None)

    async def collect(self) -> None:
        """Follow every unfinished job of the account, newest first, whoever submitted it."""
        since = self._clock.now() - COLLECT_SECONDS
        async with self._opening:  # or a job that is being opened here would look like another process's
            try:
                unfinished = await self._crew.ask(self._crew.ledger.unfinished, self._crew.account, since)
            except Refused:
                return
            for job in (job.at(self._clock.now()) for job in unfinished):
                if job.id not in self._watches and job.state != "uncertain":
                    self._follow(job)

    async def _collect_later(self) -> None:
        # Opening the ledger costs imports that the first answers should not wait for.
        await self._clock.sleep(COLLECT_AFTER_SECONDS)
        await self.collect()

    async def _prepared(
        self, request: ReferenceVideoRequest, key: str | None, deadline: float
    ) -> tuple[dict[str, object], Draft]:
        with anyio.move_on_after(max(0.0, deadline - self._clock.steady())):
            body = (await with_images(request)).body()
            return body, draft_of(self._crew.account, body, tuple(advice(request)), key)
        raise Refused("Reading the pictures took too long.", "Nothing was sent or bought: use smaller or nearer files.")

    async def _opened(self, draft: Draft, begun: float) -> tuple[Job, list[Job]]:
        """The job that this call is from now on, with the account's other jobs of the day."""
        known: list[Job] = []
        # One at a time, or two identical calls would both join the same earlier job.
        async with self._opening:
            steady = self._clock.steady()
            together = {
                job_id
                for job_id, calls in self._callers.items()
                if any(abs(begun - call) <= TOGETHER_SECONDS for call in calls)
            }
            busy = frozenset(together | self._answered)

            def choose(jobs: Sequence[Job]) -> Job | Draft:
                known[:] = jobs
                return decide(draft, jobs, now, self._limits, busy)

            now = self._clock.now()
            if steady - begun > ANSWER_SECONDS - 1:
                raise Refused("This took too long.", "Nothing was sent or bought: call again.")
            job = await self._crew.ask(self._crew.ledger.open, draft, choose, now, now + SUBMIT_SECONDS)
            self._callers.setdefault(job.id, []).append(begun)
            return job, known

    async def _delivered(self, watch: Watch, answer: Job) -> None:
        try:
            await self._clock.sleep(ON_ITS_WAY_SECONDS)
        finally:
            with anyio.CancelScope(shield=True):
                await watch.told(answer)
            self._answered.discard(answer.id)

    async def _until(
        self,
        watch: Watch,
        reached: Callable[[], bool],
        deadline: float,
        report: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        while not reached() and (left := deadline - self._clock.steady()) > 0:
            await self._clock.wait(watch.changed, min(left, PROGRESS_SECONDS))
            if report is not None:
                await report()

    async def _found(self, handle: str) -> Watch:
        account = self._crew.account
        known: Job | None = None
        try:
            known = await self._crew.ask(self._crew.ledger.find, account, handle)
            if known is None and await self._crew.ask(self._crew.ledger.is_foreign, account, handle):
                raise await self._unknown(handle)
        except Refused:
            pass  # a paid job can still be read without the ledger
        now = self._clock.now()
        if known is not None:
            return self._watching(known.at(now))
        watched = next((w for w in self._watches.values() if handle in (w.job.task_id, w.job.key)), None)
        if watched is not None and not isinstance(watched.trouble, UnknownTask):
            return self._watching(watched.job)
        adopted = Job(
            uuid.uuid4().hex, account, state="processing", task_id=handle, opened_at=now, changed_at=now, delivered=True
        )
        return self._follow(adopted, known=False)

    def _watching(self, job: Job) -> Watch:
        """The watch of a job that the ledger knows; a new one where there is something left to do."""
        watch = self._watches.get(job.id)
        if watch is not None and not watch.over:
            return watch
        kept = is_kept(job)
        link_lives = any(video.expires_at > self._clock.now() + 60 for video in job.videos)
        if job.ended and (job.state != "succeeded" or kept or (link_lives and self._crew.videos.folder is None)):
            watch = Watch(job, self._crew)
            watch.over = True
            watch.looked_at = self._clock.steady()
            return watch
        return self._follow(replace(job, saved_to=None, not_saved=None))

    def _follow(
        self, job: Job, *, body: dict[str, object] | None = None, retry_until: float = 0.0, known: bool = True
    ) -> Watch:
        watch = self._watches[job.id] = Watch(job, self._crew, known=known)
        self._tasks.start_soon(watch.run, body, retry_until)
        finished = [job_id for job_id, watch in self._watches.items() if watch.over]
        for job_id in finished[: max(0, len(self._watches) - REMEMBERED_WATCHES)]:
            del self._watches[job_id]
        return watch

    def _checked(self, watch: Watch) -> Job:
        """The watch's job, unless it was never bought or nobody knows: then that error."""
        job = watch.job
        if job.state == "rejected":
            raise watch.trouble or Rejected(
                f"The router refused this job: {job.reason}", "Mend the cause, then submit again."
            )
        if job.state == "uncertain":
            host = self._crew.router.host
            raise Uncertain(f"{job.reason} (Job {job.key}.)", UNCERTAIN_ADVICE.format(host=host))
        return job

    async def _unanswered(self, watch: Watch) -> RefvideoError:
        """Why a wait brought no news at all."""
        job, trouble = watch.job, watch.trouble
        if isinstance(trouble, UnknownTask):
            return await self._unknown(job.handle)
        if isinstance(trouble, Rejected):
            return trouble
        known = f"{job.state}, for {self._clock.now() - job.changed_at:.0f} s" if job.request else "none"
        return Unavailable(
            f"{trouble.happened if trouble else 'The router has not answered.'} "
            f"Last known state of job {job.handle}: {known}.",
            trouble.advice if trouble else "The job is not affected: ask again.",
            reason=trouble.reason if trouble else None,
            task_id=job.task_id,
        )

    async def _unknown(self, handle: str) -> UnknownTask:
        try:
            newest = [job.handle for job in await self.newest(3)]
        except Refused:
            newest = []
        known = f"The newest jobs here: {', '.join(newest)}." if newest else "No job is known here."
        return UnknownTask(
            f"{self._crew.router.host} does not know the task {clean(handle, 80)}.",
            f"{known} A job is visible only to the key that submitted it.",
        )
