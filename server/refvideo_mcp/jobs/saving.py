"""Puts a finished job's video on disk, once, however many processes follow the job."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from refvideo_mcp.errors import RefvideoError, Unavailable
from refvideo_mcp.jobs.claim import claimed
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.record import Record
from refvideo_mcp.ledger import Job, Video
from refvideo_mcp.videos import NotReached, file_name

__all__ = ["LEDGER_POLL_SECONDS", "Saving", "has_expired", "is_being_saved"]

LEDGER_POLL_SECONDS = 1.0
HERE = "It is being saved just now."
ELSEWHERE = "Another window is saving it just now."


def is_being_saved(job: Job) -> bool:
    """Whether the video is not on disk only because the call that asked did not wait so long."""
    return job.not_saved in (HERE, ELSEWHERE)


def has_expired(video: Video, error: NotReached, now: float) -> bool:
    """Whether a link that the router has just named once more is dead: refused by its host, and past its stated life.

    Before that end a refusal says nothing of the sort: CDNs lag by minutes, and filters refuse what is there.
    """
    return error.status is not None and video.first_end <= now


class Saving:
    """`renew` asks for a fresh link, and returns why there is none. `note` says who is saving the video now, if any."""

    def __init__(self, record: Record, crew: Crew, renew: Callable[[], Awaitable[RefvideoError | None]]):
        self.note = ""
        self._record = record
        self._crew = crew
        self._renew = renew

    async def run(self) -> bool:
        """Try to save the video, once, or wait for another process that does; whether a later try may bring it.

        The job then says where it is, or why it is not on disk.
        """
        try:
            while self._is_wanted():
                self.note, again = self.note or HERE, None
                async with self._crew.downloads, claimed(self._crew, self._record.job.id) as mine:
                    if mine:
                        self.note = HERE
                        again = await self._save()
                if again is not None:
                    return again
                self.note = ELSEWHERE
                await self._crew.clock.sleep(LEDGER_POLL_SECONDS)
                await self._record.reread()
            return False
        finally:
            self.note = ""

    def _is_wanted(self) -> bool:
        job = self._record.job
        return self._crew.saves(job) and not job.saved_to and not self._crew.in_flight.ending

    async def _save(self) -> bool:
        await self._record.reread()  # another process may have saved it just before the claim
        if not self._is_wanted():
            return False
        trouble: RefvideoError | None = None
        link = self._record.job.videos[0]
        try:
            try:
                file = await self._from(link)
            except NotReached:
                trouble, earlier = await self._renew(), link
                link = self._record.job.videos[0]
                if link.url == earlier.url:
                    raise
                file = await self._from(link)
        except NotReached as error:
            is_lost = trouble is None and has_expired(link, error, self._crew.clock.now())
            await self._learn(not_saved=str(error), **({"expired_at": link.first_end} if is_lost else {}))
            return not is_lost
        except Unavailable as error:
            await self._learn(not_saved=str(error))
            return False
        strip: Path | None = None
        try:
            strip = await self._crew.videos.previews.filmstrip(self._record.job.id, file)
        finally:
            with anyio.CancelScope(shield=True):  # or there would be a file that nobody knows of
                await self._learn(saved_to=str(file), not_saved=None, preview=str(strip) if strip else None)
        return False

    async def _from(self, link: Video) -> Path:
        job = self._record.job
        name = file_name(job.handle, job.opened_at, job.prompt, job.seconds)
        return await self._crew.videos.save(link.url, name, Path(job.save_to) if job.save_to else None)

    async def _learn(self, **what: Any) -> None:
        await self._record.change(lambda job: replace(job, **what))
