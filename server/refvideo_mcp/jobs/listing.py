"""The list of an account's jobs in the answer shape of the spec, for every door alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from refvideo_mcp.errors import clean
from refvideo_mcp.jobs.answers import age_of, is_unusually_long, name_of, opened, reason_of, trouble_of
from refvideo_mcp.jobs.recipe import recipe_of
from refvideo_mcp.jobs.rules import Usage, in_words, seconds_left
from refvideo_mcp.ledger import Job
from refvideo_mcp.schemas import JobList, JobSummary

__all__ = ["Found", "answers_of", "row_note", "took", "usage_in_words"]


@dataclass(frozen=True)
class Found:
    """The newest `jobs` of `total` that were asked for; 1,000 stands for more.

    `is_one`: one was meant, and is to be told of in full.

    `usage` is None where there is no limit, or nobody could tell.
    """

    jobs: Sequence[Job]
    total: int
    now: float
    is_one: bool = False
    usage: Usage | None = None

    @property
    def one(self) -> Job | None:
        return self.jobs[0] if self.is_one else None


def answers_of(found: Found, next_step: str, *, paths: bool = True) -> JobList:
    """Without `paths` no file of this machine is named."""
    return JobList(
        jobs=[_summary(job, found.now) for job in found.jobs],
        total=found.total,
        recipe=recipe_of(found.one, paths=paths) if found.one else None,
        allowance=_allowance(found),
        next_step=next_step,
    )


def usage_in_words(usage: Usage | None) -> str:
    """A sentence; "" where there is no limit."""
    if usage is None:
        return ""
    told = in_words(seconds_left(usage.seconds, usage.limits), usage.limits)
    if not told or usage.frees_at is None:
        return told
    return f"{told.rstrip('.')}; more from {datetime.fromtimestamp(usage.frees_at).astimezone():%Y-%m-%d %H:%M %Z} on."


def row_note(job: Job, now: float, limit: int = 300) -> str | None:
    """Why there is no video, or no file of it, in at most so many characters: what a row of a list says."""
    if is_unusually_long(job, now):
        return f"unusually long: {age_of(job, now)} since it was submitted"
    return reason_of(job, limit) or clean(trouble_of(job) or "", limit) or None


def took(job: Job) -> int:
    """The seconds that a job takes of the allowance of its day."""
    return 0 if job.state == "rejected" else job.seconds


def _summary(job: Job, now: float) -> JobSummary:
    return JobSummary(
        **name_of(job),
        state=job.state,
        submitted_at=opened(job).isoformat(timespec="seconds"),
        prompt=clean(job.prompt, 80) if job.prompt else None,
        saved_to=job.saved_to,
        reason=row_note(job, now, 160),
    )


def _allowance(found: Found) -> dict[str, Any] | None:
    usage = found.usage
    if usage is None:
        return None
    told = {
        "used_seconds": usage.seconds,
        "of_seconds": usage.limits.seconds_per_day,
        "frees_at": usage.frees_at
        and datetime.fromtimestamp(usage.frees_at).astimezone().isoformat(timespec="seconds"),
        "open_jobs": usage.open_jobs,
        "of_open_jobs": usage.limits.open_jobs or None,
        "this_job_took": took(found.one) if found.one else None,
    }
    return {name: value for name, value in told.items() if value is not None}
