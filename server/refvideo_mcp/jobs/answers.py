"""What a call about a job ends with: its answer in the shape of the spec, or the error that agents read.

For every door alike; what to do next with an answer is said by the door.
"""

from collections.abc import Sequence
from copy import copy
from datetime import UTC, datetime

from refvideo_mcp.errors import (
    Advice,
    JobFailed,
    ReadRefused,
    Refused,
    RefvideoError,
    SubmitRejected,
    Unavailable,
    Uncertain,
    UnknownTask,
    clean,
)
from refvideo_mcp.jobs.row import JobRow
from refvideo_mcp.ledger import Job
from refvideo_mcp.router import FINDABLE_ADVICE, UNCERTAIN_ADVICE, remedy
from refvideo_mcp.schemas import JobAnswer, VideoAnswer

__all__ = [
    "age_of",
    "answer_of",
    "bought",
    "failure",
    "heard",
    "is_lost",
    "is_unusually_long",
    "loss",
    "name_of",
    "not_the_account_s",
    "notes_of",
    "opened",
    "progress_message",
    "reason_of",
    "status_in_words",
    "trouble_of",
    "unknown",
    "unlisted",
    "unreadable",
]

UNUSUAL_SECONDS = 15 * 60.0
RELEASED = "Released: the same request may be made again as a new job."


def answer_of(job: Job, next_step: str) -> JobAnswer:
    return JobAnswer(
        **name_of(job),
        state=job.state,
        progress_percent=None if job.ended else job.progress_percent,
        eta_seconds=None if job.ended else job.eta_seconds,
        raw_status=clean(job.raw_status, 80) if job.raw_status else None,
        reason=reason_of(job),
        seed=job.seed,
        preview=job.preview,
        last_frame=job.last_frame,
        videos=_videos(job) or None,
        warnings=notes_of(job) or None,
        next_step=next_step,
    )


def progress_message(job: Job) -> str:
    if not job.key and job.answered_at is None:  # another program's, or nobody's
        return f"asking {job.gateway}"
    if job.state == "succeeded":
        return f"succeeded. {job.not_saved}" if job.not_saved else "succeeded, saving the video"
    percent = f", {job.progress_percent} %" if job.progress_percent and not job.ended else ""
    theirs = f" ({words})" if (words := status_in_words(job)) else ""
    return f"{job.state}{percent}{theirs}"


def status_in_words(job: Job) -> str:
    """What the router says of a job that goes on, where that is no status that we know, and why."""
    if not job.raw_status:
        return ""
    return ": ".join(clean(text, 80) for text in (job.raw_status, job.reason) if text)


def is_lost(job: Job) -> bool:
    """Whether the link died, no fresh one is to be had, and no copy was made."""
    return job.expired_at is not None and not job.saved_to


def loss(job: Job) -> str:
    """How a lost video was lost."""
    died = datetime.fromtimestamp(job.expired_at or 0, UTC)
    return f"its video expired on {died:%Y-%m-%d %H:%M} UTC, before a copy was saved"


def trouble_of(job: Job) -> str | None:
    """Why a video that there is could not be put on disk."""
    return None if job.is_placed or is_lost(job) else job.not_saved


def notes_of(job: Job) -> list[str]:
    """What the user should hear about a job beside its outcome, the most important first."""
    return [*filter(None, [trouble_of(job)]), *job.warnings]


def age_of(job: Job, now: float) -> str:
    """How long ago the job was submitted, or first heard of."""
    seconds = max(0.0, now - job.opened_at)
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def is_unusually_long(job: Job, now: float) -> bool:
    return not job.ended and now - job.opened_at > UNUSUAL_SECONDS


def opened(job: Job) -> datetime:
    """When the job was opened, in local time."""
    return datetime.fromtimestamp(job.opened_at).astimezone()


def name_of(job: Job) -> dict[str, str]:
    """The field that holds what the job can be asked for by."""
    return {"task_id" if job.handle == job.task_id else "idempotency_key": job.handle}


def reason_of(job: Job, limit: int = 300) -> str | None:
    """Why there is no video, in at most so many characters."""
    if is_lost(job):
        return loss(job)
    if job.state == "uncertain" and job.released:
        return clean(f"{RELEASED} {job.reason or ''}", limit)
    return clean(job.reason, limit) if job.reason else None


def _videos(job: Job) -> list[VideoAnswer]:
    if is_lost(job):
        return []
    return [
        VideoAnswer(
            url=video.url,
            expires_at=datetime.fromtimestamp(video.expires_at, UTC).isoformat(timespec="seconds"),
            type=video.type,
            saved_to=job.saved_to if place == 0 else None,
        )
        for place, video in enumerate(job.videos)
    ]


def bought(row: JobRow, host: str) -> Job:
    """The row's job.

    Raises:
        SubmitRejected: it was never bought.
        Uncertain: nobody knows whether it was.
    """
    job = row.job
    if job.state == "rejected":
        raise _about(job, row.last_error or _rejected_elsewhere(job))
    if job.state == "uncertain":
        advice = RELEASED if job.released else _doubtful(job).format(host=host, handle=job.handle)
        raise _about(job, Uncertain(f"{job.reason} (Job {job.key}.)", advice, task_id=job.task_id))
    return job


def _doubtful(job: Job) -> Advice:
    return FINDABLE_ADVICE if job.may_be_found else UNCERTAIN_ADVICE


def _rejected_elsewhere(job: Job) -> SubmitRejected:
    return SubmitRejected(f"This job was not bought: {job.reason}", "Mend the cause, then submit again.")


def _about(job: Job, error: RefvideoError) -> RefvideoError:
    told = copy(error)  # one that is raised gets a traceback, and the row's own lives on
    told.job = job
    return told


def failure(job: Job, host: str) -> JobFailed:
    """Why a failed job failed, and what may help."""
    return JobFailed(
        f'Job {job.handle} failed: "{clean(job.reason or "")}".',
        remedy(job.reason or "").format(host=host),
        task_id=job.task_id,
    )


def heard(row: JobRow, job: Job, *, looked: bool, link_is_dead: bool, now: float) -> Job:
    """`job`, as the row has it, for somebody who waits; `looked`: there was news of it meanwhile.

    Raises:
        ReadRefused: the router refuses to tell.
        Unavailable: it was asked and told nothing since, or the video's link is dead.
    """
    if job.task_id is None or (job.ended and not link_is_dead):
        return job
    if isinstance(row.last_error, ReadRefused):
        raise _about(job, row.last_error)
    was_asked = row.last_error or job.asked_in_vain or not row.is_real
    if looked or not (was_asked or link_is_dead):
        return job
    raise _about(job, _unanswered(job, row.last_error, now))


def _unanswered(job: Job, error: RefvideoError | None, now: float) -> Unavailable:
    if job.state == "succeeded":
        died = datetime.fromtimestamp(max((video.expires_at for video in job.videos), default=0.0), UTC)
        known = (
            f"Job {job.handle} succeeded, but its link died at {died:%Y-%m-%d %H:%M} UTC; there is no fresh one yet."
        )
    else:
        state = f"{job.state}, for {now - job.changed_at:.0f} s" if job.answered_at is not None else "none"
        known = f"Last known state of job {job.handle}: {state}."
    return Unavailable(
        f"{error.happened if error else f'{job.gateway} has not answered.'} {known}",
        error.advice if error else "The job is not affected: ask again.",
        reason=error.reason if error else None,
        task_id=job.task_id,
    )


def unknown(host: str, handle: str, newest: Sequence[Job], *, forgets: bool = False) -> UnknownTask:
    """Neither the router nor the ledger knows the task; perhaps one of the newest is meant.

    `forgets`: both ended with the process before.
    """
    known = _newest(newest)
    if forgets:
        return UnknownTask(
            f"This server's own sandbox does not know the task {clean(handle, 80)}.",
            f"{known} Such a sandbox forgets its jobs when its server ends; some clients start one for every call. "
            + Advice("Tell the user: keep", "Keep")
            + " one session open, or run refvideo-mcp sandbox and set MYROUTER_BASE_URL to it.",
        )
    return UnknownTask(
        f"{host} does not know the task {clean(handle, 80)}.",
        f"{known} A job is visible only to the key that submitted it.",
    )


def not_the_account_s(handle: str, newest: Sequence[Job]) -> UnknownTask:
    """Where accounts share a router: one word for no such job and for another's."""
    names = ", ".join(job.handle for job in newest)
    return UnknownTask(
        f"This account has no job {clean(handle, 80)}.",
        f"Its newest jobs: {names}." if names else "It has no jobs yet.",
    )


def unlisted(handle: str, newest: Sequence[Job], host: str) -> UnknownTask:
    """The ledger, which alone was asked, does not know the job."""
    return UnknownTask(
        f"No job {clean(handle, 80)} is listed here.",
        f"{_newest(newest)} " + Advice("get_task_result asks", "refvideo-mcp result asks") + f" {host} for others.",
    )


def _newest(jobs: Sequence[Job]) -> str:
    names = ", ".join(job.handle for job in jobs)
    return f"The newest jobs here: {names}." if names else "No job is known here."


def unreadable(host: str, handle: str, trouble: Refused) -> Unavailable:
    """The router does not know the task, and the ledger, which might, cannot be read."""
    return Unavailable(
        f"{trouble.happened} Without it only {host} could be asked, and that does not know {clean(handle, 80)}.",
        "Jobs are not affected: ask again when the ledger can be read. An idempotency_key is looked up there alone.",
    )
