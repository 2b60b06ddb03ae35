"""Follows one job to its end: submits, asks, sees it saved. However many wait for it, the router is asked once."""

import logging
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio

from refvideo_mcp.errors import ReadRefused, RefvideoError, SubmitRejected, Unavailable, Uncertain, UnknownTask
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.doubts import Doubts
from refvideo_mcp.jobs.pictures import explained
from refvideo_mcp.jobs.record import Record
from refvideo_mcp.jobs.saving import LEDGER_POLL_SECONDS, Saving
from refvideo_mcp.ledger import Job

__all__ = ["Watch", "is_done"]

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 5.0
FIRST_LOOK_SECONDS = 2.0
SLOWEST_POLL_SECONDS = 10.0
LONGEST_ETA_SECONDS = 30.0
GIVE_UP_SECONDS = 2 * 3600.0
WRITES_BEFORE_LANDING = 5
LINK_LEFT_SECONDS = 60.0
# Between two tries to save a video whose link does not open: at first CDNs lag, later something is in the way.
SAVING_PAUSE_GROWS = 1.5
SLOWEST_SAVING_SECONDS = 300.0
WORTH_WAITING_SECONDS = 30.0
AGAIN_SECONDS = 60.0
BUG = "a fault in this program, which is in its log"


async def is_done(job: Job, crew: Crew) -> bool:
    """Whether there is nothing left to do for a job: no look, no saving, no fresh link."""
    if job.state != "succeeded":
        return job.ended and not job.may_be_found
    is_kept = await crew.keeps(job)
    lives = job.link_lives(crew.clock.now() + LINK_LEFT_SECONDS)
    return (is_kept or not crew.saves(job)) and (lives or (is_kept and crew.hands_out_files))


class Watch:
    """One job being followed."""

    def __init__(self, record: Record, crew: Crew):
        self.record = record
        self.looked_at: float | None = None  # steady time of the last look that brought news, ours or another process's
        self.trouble: RefvideoError | None = None  # why the last request brought nothing
        self.over = False
        self.pause = FIRST_LOOK_SECONDS  # between the last look and the next
        self.waiting = 0
        self.posting = False  # its POST is open, or about to be
        self.saving = Saving(record, crew, self._renewed)
        self.save_pause = FIRST_LOOK_SECONDS  # between two tries to save the video
        self.save_tried_at: float | None = None  # steady time of the last try that was in vain
        self._crew = crew
        self._clock = crew.clock
        self._hurry = anyio.Event()
        self._doubts = Doubts()

    @property
    def job(self) -> Job:
        return self.record.job

    @property
    def link_is_dead(self) -> bool:
        """Whether the job's video is nowhere that a caller could get it from now, though it may come back."""
        job = self.job
        here = job.expired_at is not None or (job.saved_to and self._crew.hands_out_files)
        return job.state == "succeeded" and not here and not job.link_lives(self._clock.now())

    @property
    def saves_soon(self) -> bool:
        """Whether the video's file is worth waiting for: somebody is saving it, or tries again within half a minute."""
        is_wanted = self.job.state == "succeeded" and self._crew.saves(self.job) and not self.job.saved_to
        return is_wanted and not self.over and self.save_pause <= WORTH_WAITING_SECONDS

    def hurry(self) -> None:
        """Someone wants to know now: look at once, unless the last look was a moment ago."""
        self._hurry.set()

    async def until(
        self, reached: Callable[[], bool], deadline: float, report: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Wait until `deadline` (steady time) at most; `report` is called at every news, and at least every 5 s."""
        while not reached() and (left := deadline - self._clock.steady()) > 0:
            await self._clock.wait(self.record.changed, min(left, PROGRESS_SECONDS))
            if report is not None:
                await report()

    async def delivered(self) -> None:
        """Remember that a caller knows the job's id or key."""
        await self.record.change(lambda job: replace(job, delivered=True), news=False)

    async def told(self, answer: Job) -> None:
        """Remember that a caller knows the job by now, and how it ended, if it had when `answer` was given."""
        if not self.job.delivered or (answer.ended and not self.job.told):
            await self.record.change(
                lambda job: replace(job, delivered=True, told=job.told or answer.ended), news=False
            )

    async def run(self, body: dict[str, Any] | None = None, retry_until: float = 0.0) -> None:
        """Follow the job until it has ended and is saved; with a body, submit it first.

        A rate limit at submission is waited out until `retry_until` (steady time). Gives up after two hours; `trouble`
        then says why.
        """
        started = self._clock.steady()
        try:
            while True:
                try:
                    await self._follow(body, retry_until)
                    break
                except Exception:
                    log.exception("following job %s broke off", self.job.handle)
                # A bug. It must not end the other watches, nor answer at once whoever waits: they would ask again.
                body, self.posting = None, False
                await self._broke_off()
                if self._clock.steady() - started > GIVE_UP_SECONDS:
                    break
                await self._rest(AGAIN_SECONDS, at_least=SLOWEST_POLL_SECONDS)
        finally:
            self.over = True
            self.record.tell()
        while self.record.is_behind:  # nobody asks any longer, and the next process has only the ledger
            await self._clock.sleep(SLOWEST_POLL_SECONDS)
            try:
                await self.record.catch_up()
            except Exception:
                log.exception("writing down job %s broke off", self.job.handle)

    async def _follow(self, body: dict[str, Any] | None, retry_until: float) -> None:
        self.trouble = self.save_tried_at = None
        if body is not None:
            with self._crew.in_flight:
                await self._submit(body, retry_until)
                self.posting = False
                await self._write_down()
        else:
            await self._until_submitted()
            await self._see_lapse()
        if not await is_done(self.job, self._crew):
            await self._finish()

    async def _broke_off(self) -> None:
        happened, advice = (
            f"Following this job broke off: {BUG}.",
            "It is tried again by itself: ask again in a minute.",
        )
        self.trouble = Unavailable(happened, advice)
        if self.job.state == "succeeded" and not self.job.saved_to:
            self.save_tried_at, self.save_pause = self._clock.steady(), AGAIN_SECONDS
            with suppress(Exception):
                await self.record.change(lambda job: replace(job, not_saved=f"The video could not be saved: {BUG}."))
        self.record.tell()

    async def _submit(self, body: dict[str, Any], retry_until: float) -> None:
        try:
            task_id = await self._post(body, retry_until)
        except SubmitRejected as error:
            self.trouble, happened = explained(error, body), error.happened
            await self.record.change(lambda job: replace(job, state="rejected", reason=happened))
        except Uncertain as error:
            await self._doubt(error.happened, error.task_id)
        except Exception:
            # A bug; but the request may have left, and a row that stayed `submitting` would promise an answer.
            log.exception("the submission of job %s broke off", self.job.handle)
            await self._doubt("The submission broke off. The job may have been accepted and billed all the same.")
        else:
            now = self._clock.now()
            await self.record.change(lambda job: replace(job, state="queued", task_id=task_id, answered_at=now))

    async def _doubt(self, reason: str, task_id: str | None = None) -> None:
        await self.record.change(lambda job: replace(job, state="uncertain", reason=reason, task_id=task_id))

    async def _post(self, body: dict[str, Any], retry_until: float) -> str:
        pause = 1.0
        while True:
            try:
                return await self._crew.router.submit(body, self.job.submit_deadline - self._clock.now())
            except SubmitRejected as error:
                wait = max(error.retry_after or 0.0, pause * random.uniform(0.8, 1.2))
                too_late = self._clock.steady() + wait > retry_until
                if error.retry_after is None or too_late or not await self._waited(wait):
                    raise
            pause *= 2

    async def _waited(self, seconds: float) -> bool:
        """Whether so much time passed; a process that is to end sends nothing more."""
        until = self._clock.steady() + seconds
        while not self._crew.in_flight.ending and (left := until - self._clock.steady()) > 0:
            await self._clock.sleep(min(left, LEDGER_POLL_SECONDS))
        return not self._crew.in_flight.ending

    async def _write_down(self) -> None:
        """A process that is to end waits for its POSTs: what came of this one must be on disk by then, if it can."""
        for _ in range(WRITES_BEFORE_LANDING):
            if not self.record.is_behind:
                return
            await self._clock.sleep(LEDGER_POLL_SECONDS)
            await self.record.catch_up()

    async def _until_submitted(self) -> None:
        """Another process holds the POST: its answer, or that there will be none, shows in the ledger.

        There will be none when it was watched for as long as it may last, though the clock be set back since.
        """
        give_up = self._clock.steady() + self.job.submit_deadline - self.job.opened_at
        while self.job.state == "submitting":
            await self._clock.sleep(LEDGER_POLL_SECONDS)
            await self._reread()
            if self._clock.steady() > give_up:
                await self.record.change(lambda job: job.at(math.inf))

    async def _see_lapse(self) -> None:
        """The ten minutes in which nothing identical is sent count from when somebody first saw the doubt."""
        if self.job.state == "uncertain":
            now = self._clock.now()
            await self.record.change(lambda job: job.at(now))

    async def _finish(self) -> None:
        if self.job.state == "succeeded" and not await self._crew.keeps(self.job):
            # A copy that is gone, or could not be made, is made again.
            await self.record.change(lambda job: replace(job, saved_to=None, not_saved=None))
        if not self.job.ended or not self.job.link_lives(self._clock.now() + LINK_LEFT_SECONDS):
            await self._until_told()
        if self.job.state == "succeeded" and not self.trouble:
            await self._until_saved()

    async def _until_saved(self) -> None:
        """Save the video; one that cannot be fetched yet is tried on with growing pauses, for two hours."""
        started, pause = self._clock.steady(), FIRST_LOOK_SECONDS
        while await self.saving.run() and (now := self._clock.steady()) - started < GIVE_UP_SECONDS:
            self.save_tried_at = now
            self.pause = self.save_pause = pause * random.uniform(0.9, 1.1)
            self.record.tell()
            await self._rest(self.save_pause)
            pause = min(pause * SAVING_PAUSE_GROWS, SLOWEST_SAVING_SECONDS)

    async def _until_told(self) -> None:
        """Ask until the job has ended; if it had already, until there is a fresh link or nobody wants one."""
        if self.job.task_id is None:
            return
        started = self._clock.steady()
        pause = FIRST_LOOK_SECONDS
        if self.job.state == "queued":
            since = max(0.0, self._clock.now() - self.job.changed_at)  # negative where the clock was set back
            await self._rest(FIRST_LOOK_SECONDS - since)
        rested = FIRST_LOOK_SECONDS
        while self._clock.steady() - started < GIVE_UP_SECONDS:
            await self._look(0.0 if self.job.ended else rested * 0.8)
            if self.job.ended and not (self.trouble and (self.waiting or self._crew.saves(self.job))):
                return
            if isinstance(self.trouble, ReadRefused):
                if not self.record.is_real:
                    return
                pause = SLOWEST_POLL_SECONDS  # who waits is told; the job goes on, and refusals may pass
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
            if gap and self.record.known and not await self.record.claim("last_asked_at", before=gap):
                await self._reread()
                return
            async with self._crew.requests:
                result = await self._crew.router.task_result(self.job.task_id)
        except UnknownTask as error:
            # A job that we know exists: this router may just have lost sight of it, or wants another key.
            self.trouble = _out_of_sight(error) if self.record.is_real else error
        except (ReadRefused, Unavailable) as error:
            self.trouble = error
        else:
            self.trouble, self.looked_at = None, self._clock.steady()
            asked_at, settled = self._clock.now(), self._doubts.are_settled(result, self._clock.steady())
            await self.record.change(lambda known: known.after(result, asked_at, settled=settled))
            return
        await self.record.catch_up()
        self.record.tell()

    async def _reread(self) -> None:
        """Learn from the ledger; another process that was answered since has heard for us."""
        answered_at = self.job.answered_at
        await self.record.reread()
        if self.job.answered_at != answered_at:
            self.trouble, self.looked_at = None, self._clock.steady()

    async def _renewed(self) -> RefvideoError | None:
        await self._look(0.0)
        return self.trouble

    async def _rest(self, seconds: float, at_least: float = FIRST_LOOK_SECONDS) -> float:
        """Wait for the next look, and return how long; a hurry cuts it to the shortest decent pause."""
        started = self._clock.steady()
        decent = min(seconds, at_least)
        await self._clock.sleep(max(0.0, decent))
        if seconds > decent:
            await self._clock.wait(self._hurry, seconds - decent)
        self._hurry = anyio.Event()
        return self._clock.steady() - started


def _out_of_sight(error: UnknownTask) -> Unavailable:
    return Unavailable(
        error.happened, "Was it submitted with another key? The job itself may go on.", task_id=error.task_id
    )
