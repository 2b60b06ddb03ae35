"""Follows one job to its end: submits, asks, remembers, saves. However many wait for it, the router is asked once."""

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import anyio

from refvideo_mcp.errors import Refused, RefvideoError, Rejected, Unavailable, Uncertain, UnknownTask
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.pictures import explained
from refvideo_mcp.ledger import Job
from refvideo_mcp.videos import ExpiredLink, file_name

__all__ = ["Watch", "is_kept"]

log = logging.getLogger(__name__)

FIRST_LOOK_SECONDS = 2.0
SLOWEST_POLL_SECONDS = 10.0
LONGEST_ETA_SECONDS = 30.0
GIVE_UP_SECONDS = 2 * 3600.0
LEDGER_POLL_SECONDS = 1.0
SAVING_SECONDS = 600.0


def is_kept(job: Job) -> bool:
    """Whether the job's video is on this disk."""
    return job.saved_to is not None and Path(job.saved_to).is_file()


class Watch:
    """One job being followed. `job` is its latest state; `changed` is set, and replaced, at every news of it."""

    def __init__(self, job: Job, crew: Crew, *, known: bool = True):
        self.job = job
        self.changed = anyio.Event()
        self.looked_at: float | None = None  # steady time of the last answer from the router, ours or another process's
        self.trouble: RefvideoError | None = None  # why the last request brought nothing
        self.over = False
        self.pause = FIRST_LOOK_SECONDS  # between the last look and the next
        self.waiting = 0
        self._crew = crew
        self._clock = crew.clock
        self._known = known  # whether the ledger has the job; a task id from elsewhere is adopted once it answers
        self._hurry = anyio.Event()
        self._changing = anyio.Lock()
        self._unwritten: list[Callable[[Job], Job]] = []

    def hurry(self) -> None:
        """Someone wants to know now: look at once, unless the last look was a moment ago."""
        self._hurry.set()

    async def run(self, body: dict[str, Any] | None = None, retry_until: float = 0.0) -> None:
        """Follow the job until it has ended and is saved; with a body, submit it first.

        A rate limit at submission is waited out until `retry_until` (steady time). Gives up after two hours, or when
        the router refuses to answer; `trouble` then says why.
        """
        try:
            if body is not None:
                with self._crew.in_flight:
                    await self._submit(body, retry_until)
            else:
                await self._until_submitted()
            if self.job.state == "succeeded":  # a copy that is gone, or could not be made, is made again
                await self.change(lambda job: job if is_kept(job) else replace(job, saved_to=None, not_saved=None))
            await self._until_ended()
            if self.job.state == "succeeded" and not self.trouble:
                await self._until_saved()
        except Exception:
            # All watches share a task group: a bug in one must not end the others, whose answers would be lost.
            log.exception("job %s is not followed any longer", self.job.handle)
        finally:
            self.over = True
            self._tell()

    async def _submit(self, body: dict[str, Any], retry_until: float) -> None:
        try:
            task_id = await self._post(body, retry_until)
        except Uncertain as error:
            self.trouble, happened = error, error.happened
            await self.change(lambda job: replace(job, state="uncertain", reason=happened))
        except Rejected as error:
            self.trouble, happened = explained(error, body), error.happened
            await self.change(lambda job: replace(job, state="rejected", reason=happened))
        else:
            await self.change(lambda job: replace(job, state="queued", task_id=task_id))

    async def _post(self, body: dict[str, Any], retry_until: float) -> str:
        pause = 1.0
        while True:
            try:
                return await self._crew.router.submit(body, self.job.submit_deadline - self._clock.now())
            except Rejected as error:
                wait = max(error.retry_after or 0.0, pause * random.uniform(0.8, 1.2))
                if error.retry_after is None or self._clock.steady() + wait > retry_until:
                    raise
            await self._clock.sleep(wait)
            pause *= 2

    async def _until_submitted(self) -> None:
        """Another process holds the POST: its answer, or that there will be none, shows in the ledger."""
        while self.job.state == "submitting":
            await self._clock.sleep(LEDGER_POLL_SECONDS)
            await self._reread()

    async def _until_ended(self) -> None:
        started = self._clock.steady()
        pause = FIRST_LOOK_SECONDS
        if self.job.task_id is None:
            return
        if self.job.state == "queued":
            await self._rest(FIRST_LOOK_SECONDS - (self._clock.now() - self.job.changed_at))
        rested = FIRST_LOOK_SECONDS
        while self._clock.steady() - started < GIVE_UP_SECONDS:
            # A finished job is looked at again, at once, for a living link.
            await self._look(rested * 0.8 if self.job.state != "succeeded" else 0.0)
            if self.job.ended or isinstance(self.trouble, Rejected):
                return
            asked_for = getattr(self.trouble, "retry_after", None) or 0.0
            eta = 0 if self.trouble else min(self.job.eta_seconds or 0, LONGEST_ETA_SECONDS)
            self.pause = max(pause * random.uniform(0.9, 1.1), asked_for, eta)
            rested = await self._rest(self.pause, at_least=max(FIRST_LOOK_SECONDS, asked_for))
            pause = min(pause * 1.3, SLOWEST_POLL_SECONDS)

    async def _look(self, gap: float) -> None:
        """Ask the router, unless another process did so within the last `gap` seconds: then read what it learned."""
        if self.job.task_id is None:
            return
        try:
            if gap and self._known and not await self._claim("last_asked_at", before=gap):
                await self._reread()
                return
            async with self._crew.requests:
                result = await self._crew.router.task_result(self.job.task_id)
        except UnknownTask as error:
            # A job that we know exists: this router may just have lost sight of it, or wants another key.
            self.trouble = _out_of_sight(error) if self._known else error
            self._tell()
        except (Rejected, Unavailable) as error:
            self.trouble = error
            self._tell()
        else:
            self.trouble = None
            self.looked_at = self._clock.steady()
            asked_at = self._clock.now()
            if not self._known:
                self.job = await self._adopted()
            await self.change(lambda known: known.after(result, asked_at))

    async def _rest(self, seconds: float, at_least: float = FIRST_LOOK_SECONDS) -> float:
        """Wait for the next look, and return how long; a hurry cuts it to the shortest decent pause."""
        started = self._clock.steady()
        decent = min(seconds, at_least)
        await self._clock.sleep(max(0.0, decent))
        if seconds > decent:
            await self._clock.wait(self._hurry, seconds - decent)
        self._hurry = anyio.Event()
        return self._clock.steady() - started

    async def _until_saved(self) -> None:
        wanted = self._crew.saves(self.job)
        while wanted and not self.job.saved_to and not self.job.not_saved:
            if await self._claim("saving_until", before=0.0, until=SAVING_SECONDS):
                await self._save()
            else:  # another process is saving it
                await self._clock.sleep(LEDGER_POLL_SECONDS)
                await self._reread()

    async def _save(self) -> None:
        saved: dict[str, Any] = {}
        try:
            async with self._crew.downloads:
                file = await self._download()
                saved["saved_to"] = str(file)
                strip = await self._crew.videos.strip(self.job.id, file)
                saved["preview"] = str(strip) if strip else None
        except ExpiredLink as error:
            saved |= {"not_saved": str(error), "expired_at": self._clock.now()}
        except Unavailable as error:
            saved["not_saved"] = str(error)
        await self.change(lambda job: replace(job, saving_until=None, **saved))

    async def _download(self) -> Path:
        """Save the video; a link that turns out to be dead is asked for afresh, once.

        Raises:
            ExpiredLink: the fresh link is dead too.
            Unavailable: it could not be fetched or stored.
        """
        name = file_name(self.job.handle, self.job.opened_at, self.job.prompt, self.job.seconds)
        destination = Path(self.job.save_to) if self.job.save_to else None
        try:
            return await self._crew.videos.save(self.job.videos[0].url, name, destination)
        except ExpiredLink:
            await self._look(0.0)
            if self.trouble:
                raise Unavailable(f"The link is dead, and there is no fresh one yet. {self.trouble}") from None
            return await self._crew.videos.save(self.job.videos[0].url, name, destination)

    async def _claim(self, column: str, *, before: float, until: float = 0.0) -> bool:
        """Whether this process is the one to act; where the ledger cannot tell, it is."""
        now = self._clock.now()
        try:
            return await self._crew.ask(self._crew.ledger.claim, self.job.id, column, now, now - before, now + until)
        except Refused:
            return True

    async def _adopted(self) -> Job:
        self._known = True
        try:
            return await self._crew.ask(self._crew.ledger.adopt, self.job)
        except Refused:
            return self.job

    async def _reread(self) -> None:
        try:
            job = await self._crew.ask(self._crew.ledger.get, self.job.id)
        except Refused:
            job = None
        if job is not None:
            self.looked_at = self._clock.steady()
        self.job = (job or self.job).at(self._clock.now())
        self._tell()

    async def told(self, answer: Job) -> None:
        """Remember that a caller knows the job by now, and how it ended, if it had when `answer` was given."""
        if not self.job.delivered or (answer.ended and not self.job.told):
            await self.change(lambda job: replace(job, delivered=True, told=job.told or answer.ended), news=False)

    async def change(self, change: Callable[[Job], Job], *, news: bool = True) -> None:
        """Change the job and remember it; `news` to those who wait for it, or not.

        A ledger that fails now must not stop a job that is paid for: what it missed is written with the next change.
        """
        now = self._clock.now()

        def dated(job: Job) -> Job:
            changed = change(job)
            return replace(changed, changed_at=now) if changed.state != job.state else changed

        async with self._changing:  # or an older state could overtake a newer one
            changes = (*self._unwritten, dated)
            try:
                known: Job | None = await self._crew.ask(
                    self._crew.ledger.update, self.job.id, lambda job: reduce(lambda j, c: c(j), changes, job)
                )
                self.job = known or dated(self.job)
                self._unwritten.clear()
            except Refused as error:
                log.warning("job %s: %s", self.job.handle, error.happened)
                self._unwritten.append(dated)
                self.job = dated(self.job)
        if news:
            self._tell()

    def _tell(self) -> None:
        changed, self.changed = self.changed, anyio.Event()
        changed.set()


def _out_of_sight(error: UnknownTask) -> Unavailable:
    return Unavailable(
        error.happened, "Was it submitted with another key? The job itself may go on.", task_id=error.task_id
    )
