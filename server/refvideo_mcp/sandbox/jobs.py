"""The life of a job: queued, processing, succeeded; or the ending that its rehearsal asks for."""

import math
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from .rehearsals import Rehearsal

_MOST_JOBS = 1000
_QUEUED_PART = 0.2


@dataclass
class Job:
    """`accepted_at` is in seconds since the epoch; `clip_key` is empty for a job that ends without a video."""

    rehearsal: Rehearsal
    seed: int
    accepted_at: float
    clip_key: str = ""
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    polls: int = 0
    links: int = 0


class Jobs:
    """The newest thousand jobs."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    def add(self, job: Job) -> None:
        self._jobs[job.task_id] = job
        while len(self._jobs) > _MOST_JOBS:
            self._jobs.popitem(last=False)

    def get(self, task_id: str) -> Job | None:
        return self._jobs.get(task_id)


def status_of(job: Job, age: float, seconds: float, *, rendered: bool, failure: str | None) -> dict[str, Any]:
    """Status, reason, eta (whole seconds) and progress (percent) of a job `age` seconds after it was accepted."""
    name = job.rehearsal.name
    if age < seconds * _QUEUED_PART:
        return _status("QUEUED", eta=math.ceil(seconds - age))
    if name == "unknown-status":
        return _status("REVIEWING", progress=50)
    if age < seconds or name == "never-ends" or (job.clip_key and not rendered and not failure):
        progress = 99 if age >= seconds else min(99, int(100 * age / seconds))
        return _status("PROCESSING", eta=max(0, math.ceil(seconds - age)), progress=0 if _is_zero(name) else progress)
    if name == "task-failed":
        return _status("FAILED", reason=job.rehearsal.argument or "ILLEGAL_IMAGE_CONTENT")
    if failure:
        return _status("FAILED", reason=f"the sandbox could not render the clip: {failure}")
    return _status("SUCCEED", progress=0 if _is_zero(name) else 100)


def _is_zero(name: str) -> bool:
    return name == "zero-progress"


def _status(status: str, *, reason: str = "", eta: int = 0, progress: int = 0) -> dict[str, Any]:
    return {"status": f"TASK_STATUS_{status}", "reason": reason, "eta": eta, "progress_percent": progress}


def result_body(
    job: Job, status: dict[str, Any], now: float, seconds: float, videos: list[dict[str, str]] | None
) -> dict[str, Any]:
    """The answer to a question for the result."""
    ended = status["status"] in ("TASK_STATUS_SUCCEED", "TASK_STATUS_FAILED")
    started_at = job.accepted_at + seconds * _QUEUED_PART
    body = {
        "extra": {
            "seed": str(job.seed),
            "debug_info": {
                "request_info": "sandbox",
                "submit_time_ms": _milliseconds(job.accepted_at),
                "execute_time_ms": _milliseconds(started_at) if now >= started_at else "",
                "complete_time_ms": _milliseconds(max(now, job.accepted_at + seconds)) if ended else "",
            },
        },
        "task": {"task_id": job.task_id, "task_type": "VIDU_Q2_REFERENCE2VIDEO", **status},
        "images": [],
        "videos": videos,
        "audios": [],
    }
    return {"data": body} if job.rehearsal.name == "wrapped" else body


def _milliseconds(moment: float) -> str:
    return str(round(moment * 1000))
