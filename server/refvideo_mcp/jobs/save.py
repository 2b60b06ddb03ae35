"""Puts a finished job's video on disk, once, however many processes follow the job; or once more, when asked for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from refvideo_mcp.errors import Refused, RefvideoError, Unavailable, wait_for
from refvideo_mcp.jobs.answers import failure, loss
from refvideo_mcp.jobs.poll import Poller
from refvideo_mcp.jobs.row import JobRow
from refvideo_mcp.jobs.services import Services
from refvideo_mcp.ledger import Job, LedgerError, Video
from refvideo_mcp.videos import NotReached, file_name

__all__ = ["Saver", "is_being_saved", "save_again"]

LEDGER_POLL_SECONDS = 1.0
LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0
LISTEN_SECONDS = 1.0
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


class Saver:
    """`note` says who is saving the video now, if any."""

    def __init__(self, row: JobRow, poller: Poller, services: Services):
        self.note = ""
        self._row = row
        self._poller = poller
        self._services = services

    async def run(self) -> bool:
        """Try to save the video, once, or wait for another process that does; whether a later try may bring it.

        The job then says where it is, or why it is not on disk.
        """
        try:
            while self._is_wanted():
                self.note, again = self.note or HERE, None
                async with self._services.downloads, leased(self._services, self._row.job.id) as mine:
                    if mine:
                        self.note = HERE
                        again = await self._save()
                if again is not None or not self._is_wanted():  # as when this process is about to end
                    return bool(again)
                self.note = ELSEWHERE
                await self._services.clock.sleep(LEDGER_POLL_SECONDS)
                await self._row.reread()
            return False
        finally:
            self.note = ""

    def _is_wanted(self) -> bool:
        job = self._row.job
        return self._services.saves(job) and not job.is_placed and not self._services.pending_posts.ending

    async def _save(self) -> bool:
        await self._row.reread()  # another process may have saved it just before the claim
        if not self._is_wanted():
            return False
        if await self._copied():
            return False
        is_fresh = True
        link = self._row.job.videos[0]
        try:
            try:
                file = await self._from(link)
            except NotReached:
                await self._poller.look()
                is_fresh, earlier = self._row.last_error is None, link
                link = self._row.job.videos[0]
                if link.url == earlier.url:
                    raise
                file = await self._from(link)
        except NotReached as error:
            is_lost = is_fresh and has_expired(link, error, self._services.clock.now())
            await self._learn(not_saved=str(error), **({"expired_at": link.first_end} if is_lost else {}))
            return not is_lost
        except Unavailable as error:
            await self._learn(not_saved=str(error))
            return False
        previews = self._services.videos.previews
        strip: Path | None = None
        last: Path | None = None
        try:
            strip = await previews.filmstrip(self._row.job.id, file)
            last = await previews.last_frame(strip) if strip else None
        finally:
            with anyio.CancelScope(shield=True):  # or there would be a file that nobody knows of
                seen = {"preview": str(strip) if strip else None, "last_frame": str(last) if last else None}
                await self._learn(saved_to=str(file), not_saved=None, **seen)
        if self._is_wanted():  # elsewhere, since it was begun
            await self._copied()
        return False

    async def _copied(self) -> bool:
        """Whether the video is where a later call wanted it, or cannot be put there, though there is a file of it."""
        job = self._row.job
        if job.saved_to is None or job.save_to is None or not await self._services.keeps(job):
            return False
        name = file_name(job.handle, job.opened_at, job.prompt, job.seconds)
        try:
            file = await self._services.videos.copy(Path(job.saved_to), name, Path(job.save_to))
        except NotReached:  # it is gone after all, or is no video any more
            return False
        except Unavailable as error:
            await self._learn(not_saved=str(error))
            return True
        with anyio.CancelScope(shield=True):
            await self._learn(saved_to=str(file), not_saved=None)
        return True

    async def _from(self, link: Video) -> Path:
        job = self._row.job
        name = file_name(job.handle, job.opened_at, job.prompt, job.seconds)
        return await self._services.videos.save(link.url, name, Path(job.save_to) if job.save_to else None)

    async def _learn(self, **what: Any) -> None:
        await self._row.change(lambda job: replace(job, **what), durable=True)


async def save_again(services: Services, job: Job, destination: Path | None) -> Job:
    """Ask for a fresh link and save the video: to `destination`, else where the job's own was to go.

    The ledger goes on naming an earlier copy that is still there; the job returned names the new one.

    Raises:
        Refused: there is no video yet.
        JobFailed: so it did.
        ReadRefused: the router refuses to tell.
        Unavailable: it could not be fetched or stored.
    """
    job = await _looked_at(services, job)
    wanted = destination or (Path(job.save_to) if job.save_to else None)
    name = file_name(job.handle, job.opened_at, job.prompt, job.seconds)
    file: str | None = None
    try:
        while file is None:  # left early where a process that collects the job took it over: its copy is another one
            async with leased(services, job.id):
                file = str(await services.videos.save(job.videos[0].url, name, wanted))
                with anyio.CancelScope(shield=True), suppress(LedgerError):
                    await services.ask(services.ledger.update, job.id, partial(_with_copy, file=file))
    except NotReached as error:
        raise _not_reached(job, error, services.clock.now()) from error
    return replace(job, saved_to=file, not_saved=None)


async def _looked_at(services: Services, job: Job) -> Job:
    """The finished job, with a fresh link."""
    if job.task_id is None:
        raise Refused(f"Job {job.key} is {job.at(services.clock.now()).state}: there is no video to fetch.")
    result = await services.router.task_result(job.task_id)
    asked_at, known = services.clock.now(), None
    with suppress(LedgerError):
        known = await services.ask(services.ledger.update, job.id, lambda j: j.after(result, asked_at))
    job = known or job.after(result, asked_at)
    if job.state == "failed":
        raise failure(job, services.router.host)
    if job.state != "succeeded":
        raise Refused(
            f"Job {job.handle} is {job.state}: there is no video yet.",
            wait_for(job.handle) + ".",
        )
    return job


def _not_reached(job: Job, error: NotReached, now: float) -> Unavailable:
    link = job.videos[0]
    if has_expired(link, error, now):
        job = replace(job, expired_at=link.first_end, saved_to=None)
        trouble = Unavailable(f"Job {job.handle} succeeded, but {loss(job)}.", "Only a new job makes it again.")
    else:
        until = f"{datetime.fromtimestamp(link.expires_at, UTC):%H:%M} UTC"
        trouble = Unavailable(
            error.happened,
            "The job is not affected: try again in a few minutes, or elsewhere, or open its link in a browser "
            f"(until {until}), which refvideo-mcp result {job.handle} tells.",
        )
    trouble.job = replace(job, not_saved=error.happened)
    return trouble


def _with_copy(known: Job, file: str) -> Job:
    is_kept = known.saved_to is not None and Path(known.saved_to).is_file()
    return known if is_kept else replace(known, saved_to=file, not_saved=None)


@asynccontextmanager
async def leased(services: Services, job_id: str) -> AsyncIterator[bool]:
    """Whether the job's video is this process's to save while the block runs; where the ledger cannot tell, it is.

    The lease lapses when its holder is killed, and is given back however else the block ends. The block is left where
    it is as soon as another process has taken the lease over (this one was frozen), or this one is to end.
    """
    lease = _Lease(services, job_id)
    with services.pending_posts.saves:
        mine = True
        caught: RefvideoError | None = None
        try:
            mine = await lease.take()
            if not mine:
                yield False
                return
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lease.keep, tasks.cancel_scope)
                try:
                    yield True
                except RefvideoError as error:
                    caught = error  # raised here, it would come out in a group
                tasks.cancel_scope.cancel()
        finally:
            if mine:
                await lease.give_back()
        if caught is not None:
            raise caught


class _Lease:
    """`until` is what this process last wrote; a row that says something else is another's."""

    def __init__(self, services: Services, job_id: str):
        self._services = services
        self._job_id = job_id
        self._until = 0.0

    async def take(self) -> bool:
        now = self._services.clock.now()
        self._until = now + LEASE_SECONDS
        try:
            return await self._services.ask(
                self._services.ledger.try_lease, self._job_id, "saving_until", now, self._until
            )
        except LedgerError:
            return True

    async def keep(self, scope: anyio.CancelScope) -> None:
        """Renew the lease until it is lost or this process is to end; then cancel the scope."""
        is_ours, waited = True, 0.0
        while is_ours and not self._services.pending_posts.ending:
            await self._services.clock.sleep(LISTEN_SECONDS)
            waited += LISTEN_SECONDS
            if waited >= RENEW_SECONDS:
                is_ours, waited = await self._renew(), 0.0
        scope.cancel()

    async def give_back(self) -> None:
        """A process that ends waits for this a second at most."""
        with anyio.CancelScope(shield=True), suppress(LedgerError):
            await self._services.ask_briefly(
                self._services.ledger.update,
                self._job_id,
                lambda row: replace(row, saving_until=None) if row.saving_until == self._until else row,
            )

    async def _renew(self) -> bool:
        """Whether it is still ours; where the ledger cannot tell, it is."""
        until = self._services.clock.now() + LEASE_SECONDS

        def renewed(row: Job) -> Job:
            return replace(row, saving_until=until) if row.saving_until in (None, self._until) else row

        with suppress(LedgerError):
            row = await self._services.ask(self._services.ledger.update, self._job_id, renewed)
            if row is not None and row.saving_until != until:
                return False
            self._until = until
        return True
