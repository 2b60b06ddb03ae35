"""When a call ends without a job to show: the errors that agents read."""

from collections.abc import Sequence

from refvideo_mcp.errors import (
    REASONS,
    UNCERTAIN_ADVICE,
    RefvideoError,
    Rejected,
    Unavailable,
    Uncertain,
    UnknownTask,
    clean,
)
from refvideo_mcp.jobs.watch import Watch
from refvideo_mcp.ledger import Job

__all__ = ["bought", "failure", "unanswered", "unknown"]


def bought(watch: Watch, host: str) -> Job:
    """The watch's job.

    Raises:
        Rejected: it was never bought.
        Uncertain: nobody knows whether it was.
    """
    job = watch.job
    if job.state == "rejected":
        raise watch.trouble or Rejected(
            f"The router refused this job: {job.reason}", "Mend the cause, then submit again."
        )
    if job.state == "uncertain":
        raise Uncertain(f"{job.reason} (Job {job.key}.)", UNCERTAIN_ADVICE.format(host=host))
    return job


def failure(job: Job, host: str) -> Rejected:
    """Why a failed job failed, and what to change."""
    return Rejected(
        f'Job {job.handle} failed: "{clean(job.reason or "")}".',
        REASONS.get(job.reason or "", REASONS["TASK_FAILED"]).format(host=host),
        task_id=job.task_id,
    )


def unanswered(watch: Watch, now: float) -> RefvideoError:
    """Why a wait for a known job brought no news at all."""
    job, trouble = watch.job, watch.trouble
    if isinstance(trouble, Rejected):
        return trouble
    known = f"{job.state}, for {now - job.changed_at:.0f} s" if job.request else "none"
    return Unavailable(
        f"{trouble.happened if trouble else 'The router has not answered.'} "
        f"Last known state of job {job.handle}: {known}.",
        trouble.advice if trouble else "The job is not affected: ask again.",
        reason=trouble.reason if trouble else None,
        task_id=job.task_id,
    )


def unknown(host: str, handle: str, newest: Sequence[Job]) -> UnknownTask:
    """Neither the router nor the ledger knows the task; perhaps one of the newest is meant."""
    names = ", ".join(job.handle for job in newest)
    known = f"The newest jobs here: {names}." if names else "No job is known here."
    return UnknownTask(
        f"{host} does not know the task {clean(handle, 80)}.",
        f"{known} A job is visible only to the key that submitted it.",
    )
