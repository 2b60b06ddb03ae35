"""Waiting for a job at a terminal."""

from refvideo_mcp.cli.screen import Screen
from refvideo_mcp.jobs import Jobs, progress_message
from refvideo_mcp.ledger import Job

__all__ = ["STEPS_WIDTH", "wait"]

STEPS_WIDTH = len("pictures")
# As long as a job is followed.
LONGEST_WAIT_SECONDS = 2 * 3600.0


async def wait(jobs: Jobs, handle: str, screen: Screen, *, just_look: bool = False) -> Job:
    """Wait until the job has ended and its video is saved, and show how it gets on.

    Raises:
        RefvideoError: as `Jobs.wait` does.
    """
    with screen.waiting("video") as show:

        async def on_progress(job: Job, _: float) -> None:
            show(progress_message(job))

        return await jobs.wait(handle, 0 if just_look else LONGEST_WAIT_SECONDS, on_progress)
