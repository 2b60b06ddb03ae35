"""The life of a job: queued, processing, succeeded; or the ending that its scenario asks for."""

import math
import uuid
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .scenarios import Scenario

T = TypeVar("T")

_QUEUED_PART = 0.2


class Newest(dict[str, T]):
    """Forgets all but the newest thousand of its entries."""

    def __setitem__(self, key: str, value: T) -> None:
        super().__setitem__(key, value)
        while len(self) > 1000:
            del self[next(iter(self))]


@dataclass
class FakeJob:
    """`accepted_at` is in seconds since the epoch; `film_key` is empty for a job that ends without a video.

    `links` has the query of each link that was given, and when it expires.
    """

    scenario: Scenario
    seed: int
    accepted_at: float
    film_key: str = ""
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    polls: int = 0
    links: Newest[int] = field(default_factory=Newest)


def status_of(job: FakeJob, age: float, seconds: float, *, rendered: bool, failure: str | None) -> dict[str, Any]:
    """Status, reason, eta (whole seconds) and progress (percent) of a job `age` seconds after it was accepted."""
    name = job.scenario.name
    if age < seconds * _QUEUED_PART:
        return _status("QUEUED", eta=math.ceil(seconds - age))
    if name == "unknown-status":
        return _status("REVIEWING", progress=50)
    if age < seconds or name == "never-ends" or (job.film_key and not rendered and not failure):
        progress = 99 if age >= seconds else min(99, int(100 * age / seconds))
        eta = max(0, math.ceil(seconds - age))
        return _status("PROCESSING", eta=eta, progress=0 if name == "zero-progress" else progress)
    if name == "task-failed":
        return _status("FAILED", reason=job.scenario.argument or "ILLEGAL_IMAGE_CONTENT")
    if failure:
        return _status("FAILED", reason=f"the sandbox could not render the clip: {failure}")
    return _status("SUCCEED", progress=0 if name == "zero-progress" else 100)


def _status(status: str, *, reason: str = "", eta: int = 0, progress: int = 0) -> dict[str, Any]:
    return {"status": f"TASK_STATUS_{status}", "reason": reason, "eta": eta, "progress_percent": progress}


def result_body(
    job: FakeJob, status: dict[str, Any], now: float, seconds: float, videos: list[dict[str, str]] | None
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
    return {"data": body} if job.scenario.name == "wrapped" else body


def _milliseconds(moment: float) -> str:
    return str(round(moment * 1000))
