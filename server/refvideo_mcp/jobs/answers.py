"""Jobs in the answer shape of the spec, for every door alike. What to do next is said by the door."""

from datetime import UTC, datetime

from refvideo_mcp.errors import clean
from refvideo_mcp.ledger import Job
from refvideo_mcp.schemas import JobAnswer, VideoAnswer

__all__ = [
    "RELEASED",
    "age_of",
    "answer_of",
    "is_lost",
    "is_unusually_long",
    "loss",
    "name_of",
    "notes_of",
    "opened",
    "progress_message",
    "reason_of",
    "status_in_words",
    "trouble_of",
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
    return None if job.saved_to or is_lost(job) else job.not_saved


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
