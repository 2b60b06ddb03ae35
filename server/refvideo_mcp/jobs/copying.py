"""A finished video, fetched once more because a person asked for it."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio

from refvideo_mcp.errors import Refused, Unavailable, wait_for
from refvideo_mcp.jobs.answers import loss
from refvideo_mcp.jobs.claim import claimed
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.outcomes import failure
from refvideo_mcp.jobs.saving import has_expired
from refvideo_mcp.ledger import Job
from refvideo_mcp.videos import NotReached, file_name

__all__ = ["save_again"]


async def save_again(crew: Crew, job: Job, destination: Path | None) -> Job:
    """Ask for a fresh link and save the video: to `destination`, else where the job's own was to go.

    The ledger goes on naming an earlier copy that is still there; the job returned names the new one.

    Raises:
        Refused: there is no video yet.
        JobFailed: so it did.
        ReadRefused: the router refuses to tell.
        Unavailable: it could not be fetched or stored.
    """
    job = await _looked_at(crew, job)
    wanted = destination or (Path(job.save_to) if job.save_to else None)
    name = file_name(job.handle, job.opened_at, job.prompt, job.seconds)
    file: str | None = None
    try:
        while file is None:  # left early where a process that collects the job took it over: its copy is another one
            async with claimed(crew, job.id):
                file = str(await crew.videos.save(job.videos[0].url, name, wanted))
                with anyio.CancelScope(shield=True), suppress(Refused):
                    await crew.ask(crew.ledger.update, job.id, partial(_with_copy, file=file))
    except NotReached as error:
        raise _not_reached(job, error, crew.clock.now()) from error
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
