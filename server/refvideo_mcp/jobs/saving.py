"""Puts a finished job's video on disk, once, however many processes follow the job."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from refvideo_mcp.errors import RefvideoError, Unavailable
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.record import Record
from refvideo_mcp.videos import ExpiredLink, file_name

__all__ = ["LEDGER_POLL_SECONDS", "SAVING_SECONDS", "Saving"]

LEDGER_POLL_SECONDS = 1.0
SAVING_SECONDS = 600.0


class Saving:
    """`renew` asks for a fresh link, and returns why there is none."""

    def __init__(self, record: Record, crew: Crew, renew: Callable[[], Awaitable[RefvideoError | None]]):
        self._record = record
        self._crew = crew
        self._renew = renew

    async def run(self) -> None:
        """Return once the video is on disk, or the job says why it is not."""
        while self._is_wanted():
            async with self._crew.downloads:  # before the claim, which must not lapse in the queue
                mine = await self._record.claim("saving_until", before=0.0, until=SAVING_SECONDS)
                if mine:
                    await self._save()
            if not mine:  # another process is saving it
                await self._crew.clock.sleep(LEDGER_POLL_SECONDS)
                await self._record.reread()

    def _is_wanted(self) -> bool:
        job = self._record.job
        return self._crew.saves(job) and not job.saved_to and not job.not_saved

    async def _save(self) -> None:
        await self._record.reread()  # another process may have saved it just before the claim
        saved: dict[str, Any] = {}
        try:
            if self._is_wanted():
                file = await self._download()
                saved["saved_to"] = str(file)
                strip = await self._crew.videos.strip(self._record.job.id, file)
                saved["preview"] = str(strip) if strip else None
        except ExpiredLink as error:
            saved |= {"not_saved": str(error), "expired_at": self._crew.clock.now()}
        except Unavailable as error:
            saved["not_saved"] = str(error)
        await self._record.change(lambda job: replace(job, saving_until=None, **saved))

    async def _download(self) -> Path:
        """Save the video; a link that turns out to be dead is asked for afresh, once.

        Raises:
            ExpiredLink: the fresh link is dead too.
            Unavailable: it could not be fetched or stored.
        """
        job = self._record.job
        name = file_name(job.handle, job.opened_at, job.prompt, job.seconds)
        destination = Path(job.save_to) if job.save_to else None
        try:
            return await self._crew.videos.save(job.videos[0].url, name, destination)
        except ExpiredLink:
            if trouble := await self._renew():
                raise Unavailable(f"The link is dead, and there is no fresh one yet. {trouble}") from None
            return await self._crew.videos.save(self._record.job.videos[0].url, name, destination)
