"""Follows one job to its end: asks, sees it saved. However many wait for it, the router is asked once."""

import logging
import math
from contextlib import suppress
from dataclasses import dataclass, replace

import anyio

from refvideo_mcp.errors import ReadRefused, Unavailable
from refvideo_mcp.jobs.poll import LOOKS, SAVES, Poller, spread, until_next_look
from refvideo_mcp.jobs.row import JobRow
from refvideo_mcp.jobs.save import Saver
from refvideo_mcp.jobs.services import Services
from refvideo_mcp.ledger import Job

__all__ = ["Follower", "JobStatus", "is_done"]

log = logging.getLogger(__name__)

GIVE_UP_SECONDS = 2 * 3600.0
LINK_LEFT_SECONDS = 60.0
LEDGER_POLL_SECONDS = 1.0
WORTH_WAITING_SECONDS = 30.0
AGAIN_SECONDS = 60.0
BUG = "a fault in this program, which is in its log"


async def is_done(job: Job, services: Services) -> bool:
    """Whether there is nothing left to do for a job: no look, no saving, no fresh link."""
    if job.state != "succeeded":
        return job.ended and not job.may_be_found
    is_kept = job.is_placed and await services.keeps(job)
    lives = job.link_lives(services.clock.now() + LINK_LEFT_SECONDS)
    return (is_kept or not services.saves(job)) and (lives or (is_kept and services.hands_out_files))


class Follower:
    """Begins with a row, whoever posts or posted the job. `waiting` is how many calls wait for it."""

    def __init__(self, row: JobRow, services: Services):
        self.row = row
        self.over = False
        self.settled = False  # nothing was left to do when it began
        self.waiting = 0
        self.pause = LOOKS.first  # between the last look and the next
        self.save_pause = SAVES.first  # between two tries to save the video
        self.save_tried_at: float | None = None  # steady time of the last try that was in vain
        self.poller = Poller(row, services)
        self.saver = Saver(row, self.poller, services)
        self._services = services
        self._clock = services.clock
        self._hurry = anyio.Event()

    @property
    def job(self) -> Job:
        return self.row.job

    @property
    def link_is_dead(self) -> bool:
        """Whether the job's video is nowhere that a caller could get it from now, though it may come back."""
        job = self.job
        here = job.expired_at is not None or (job.saved_to and self._services.hands_out_files)
        return job.state == "succeeded" and not here and not job.link_lives(self._clock.now())

    @property
    def saves_soon(self) -> bool:
        """Whether the video's file is worth waiting for: somebody is saving it, or tries again within half a minute."""
        is_wanted = self.job.state == "succeeded" and self._services.saves(self.job) and not self.job.is_placed
        return is_wanted and not self.over and self.save_pause <= WORTH_WAITING_SECONDS

    def hurry(self) -> None:
        """Someone wants to know now: look at once, unless the last look was a moment ago."""
        self._hurry.set()

    async def run(self) -> None:
        """Follow the job until it has ended and is saved. Gives up after two hours; `row.last_error` then says why."""
        started = self._clock.steady()
        try:
            while True:
                try:
                    await self._follow()
                    break
                except Exception:
                    log.exception("following job %s broke off", self.job.handle)
                # A bug. It must not end the other followers, nor answer at once whoever waits: they would ask again.
                await self._broke_off()
                if self._clock.steady() - started > GIVE_UP_SECONDS:
                    break
                await self._rest(AGAIN_SECONDS, at_least=LOOKS.slowest)
                self.row.last_error = self.save_tried_at = None
        finally:
            self.over = True
            self.row.tell()
        while self.row.is_behind:  # nobody asks any longer, and the next process has only the ledger
            await self._clock.sleep(LOOKS.slowest)
            try:
                await self.row.catch_up()
            except Exception:
                log.exception("writing down job %s broke off", self.job.handle)

    async def _follow(self) -> None:
        await self._until_submitted()
        if self.job.state == "uncertain":
            # The ten minutes in which nothing identical is sent count from when somebody first saw the doubt.
            now = self._clock.now()
            await self.row.change(lambda job: job.at(now))
        looked_at = None
        while looked_at is not self.job:  # which a call may want elsewhere while the disk is asked for its file
            looked_at = self.job
            self.settled = self.row.known and await is_done(looked_at, self._services)
        if not self.settled:
            await self._finish()

    async def _broke_off(self) -> None:
        happened, advice = (
            f"Following this job broke off: {BUG}.",
            "It is tried again by itself: ask again in a minute.",
        )
        self.row.last_error = Unavailable(happened, advice)
        if self.job.state == "succeeded" and not self.job.saved_to:
            self.save_tried_at, self.save_pause = self._clock.steady(), AGAIN_SECONDS
            with suppress(Exception):
                await self.row.change(lambda job: replace(job, not_saved=f"The video could not be saved: {BUG}."))
        self.row.tell()

    async def _until_submitted(self) -> None:
        """What became of another process's POST, or that there will be no answer, shows in the ledger.

        There will be none when it was watched for as long as it may last, though the clock be set back since.
        """
        give_up = self._clock.steady() + self.job.submit_deadline - self.job.opened_at
        while self.job.state == "submitting":
            if self.row.posting:
                await self.row.changed.wait()
                continue
            await self._clock.sleep(LEDGER_POLL_SECONDS)
            if not self.row.posting:
                await self.poller.reread()
                if self._clock.steady() > give_up:
                    await self.row.change(lambda job: job.at(math.inf))

    async def _finish(self) -> None:
        is_kept = await self._services.keeps(self.job)
        if self.job.state == "succeeded" and not is_kept:
            # A copy that is gone, or could not be made, is made again.
            await self.row.change(lambda job: replace(job, saved_to=None, not_saved=None))
        needs_link = not (is_kept and self._services.hands_out_files)
        if not self.job.ended or (needs_link and not self.job.link_lives(self._clock.now() + LINK_LEFT_SECONDS)):
            await self._until_ended()
        if self.job.state == "succeeded" and not self.row.last_error:
            await self._until_saved()

    async def _until_saved(self) -> None:
        """Save the video; one that cannot be fetched yet is tried on with growing pauses, for two hours."""
        started, pause = self._clock.steady(), SAVES.first
        while await self.saver.run() and (now := self._clock.steady()) - started < GIVE_UP_SECONDS:
            self.save_tried_at = now
            self.pause = self.save_pause = spread(pause)
            self.row.tell()
            await self._rest(self.save_pause)
            pause = SAVES.after(pause)

    async def _until_ended(self) -> None:
        """Ask until the job has ended; if it had already, until there is a fresh link or nobody wants one."""
        if self.job.task_id is None:
            return
        started = self._clock.steady()
        pause = LOOKS.first
        if self.job.state == "queued":
            since = max(0.0, self._clock.now() - self.job.changed_at)  # negative where the clock was set back
            await self._rest(LOOKS.first - since)
        rested = LOOKS.first
        while self._clock.steady() - started < GIVE_UP_SECONDS:
            await self.poller.look(0.0 if self.job.ended else rested * 0.8)
            error = self.row.last_error
            if self.job.ended and not (error and (self.waiting or self._services.saves(self.job))):
                return
            if isinstance(error, ReadRefused):
                if not self.row.is_real:
                    return
                pause = LOOKS.slowest  # who waits is told; the job goes on, and refusals may pass
            asked_for = getattr(error, "retry_after", None) or 0.0
            self.pause = until_next_look(pause, asked_for, 0 if error else self.job.eta_seconds or 0)
            rested = await self._rest(self.pause, at_least=max(LOOKS.first, asked_for))
            pause = LOOKS.after(pause)

    async def _rest(self, seconds: float, at_least: float = LOOKS.first) -> float:
        """Wait for the next look, and return how long; a hurry cuts it to the shortest decent pause."""
        started = self._clock.steady()
        decent = min(seconds, at_least)
        await self._clock.sleep(max(0.0, decent))
        if seconds > decent:
            await self._clock.wait(self._hurry, seconds - decent)
        self._hurry = anyio.Event()
        return self._clock.steady() - started


@dataclass(frozen=True)
class JobStatus:
    """How a job stands, for a caller who does not wait but comes again.

    `over`: it has ended, and its file is there or not worth waiting for. `next_look_seconds` is the present pause
    between two looks; `last_error` says why the last one brought nothing.
    """

    job: Job
    over: bool
    next_look_seconds: float
    last_error: str

    @classmethod
    def of(cls, job: Job, follower: Follower | None) -> "JobStatus":
        """What `follower` shows of `job` (None: nobody follows it)."""
        return cls(
            job,
            over=job.ended and not (follower and follower.saves_soon),
            next_look_seconds=follower.pause if follower else LOOKS.first,
            last_error=str(follower.row.last_error or "") if follower else "",
        )
