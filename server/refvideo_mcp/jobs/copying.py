"""A finished video, fetched once more because a person asked for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import anyio

from refvideo_mcp.errors import Refused
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.outcomes import failure
from refvideo_mcp.jobs.saving import SAVING_SECONDS
from refvideo_mcp.ledger import Job
from refvideo_mcp.videos import file_name

__all__ = ["save_again"]


async def save_again(crew: Crew, job: Job, destination: Path | None) -> Job:
    """Ask for a fresh link and save the video: to `destination`, else where the job's own was to go.

    The ledger goes on naming an earlier copy that is still there; the job returned names the new one.

    Raises:
        Refused: there is no video yet.
        Rejected: the job failed, or the router refuses to tell.
        Unavailable: it could not be fetched or stored.
    """
    job = await _looked_at(crew, job)
    wanted = destination or (Path(job.save_to) if job.save_to else None)
    name = file_name(job.handle, job.opened_at, job.prompt, job.seconds)
    async with _left_to_us(crew, job):
        file = str(await crew.videos.save(job.videos[0].url, name, wanted))
        with anyio.CancelScope(shield=True), suppress(Refused):
            await crew.ask(
                crew.ledger.update,
                job.id,
                lambda known: known if _is_kept(known) else replace(known, saved_to=file, not_saved=None),
            )
    return replace(job, saved_to=file, not_saved=None)


async def _looked_at(crew: Crew, job: Job) -> Job:
    """The finished job, with a fresh link."""
    if job.task_id is None:
        raise Refused(f"Job {job.key} is {job.at(crew.clock.now()).state}: there is no video to fetch.")
    result = await crew.router.task_result(job.task_id)
    asked_at, known = crew.clock.now(), None
    with suppress(Refused):
        known = await crew.ask(crew.ledger.update, job.id, lambda j: j.after(result, asked_at))
    job = known or job.after(result, asked_at)
    if job.state == "failed":
        raise failure(job, crew.router.host)
    if job.state != "succeeded":
        raise Refused(
            f"Job {job.handle} is {job.state}: there is no video yet.",
            f'get_task_result with task_id "{job.handle}" waits for it.',
        )
    return job


@asynccontextmanager
async def _left_to_us(crew: Crew, job: Job) -> AsyncIterator[None]:
    """Whoever collects the job meanwhile leaves its video to us, unless somebody was at it before."""
    now, ours = crew.clock.now(), False
    with suppress(Refused):
        ours = await crew.ask(crew.ledger.claim, job.id, "saving_until", now, now, now + SAVING_SECONDS)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True), suppress(Refused):
            if ours:
                await crew.ask(crew.ledger.update, job.id, lambda known: replace(known, saving_until=None))


def _is_kept(job: Job) -> bool:
    return job.saved_to is not None and Path(job.saved_to).is_file()
