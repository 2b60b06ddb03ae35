"""What the router answers, read tolerantly."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict

from refvideo_mcp.errors import is_invisible

__all__ = ["JobState", "TaskResult", "TaskVideo"]

JobState = Literal["submitting", "queued", "processing", "succeeded", "failed", "rejected", "uncertain"]

# How long a presigned link lives where the answer does not say: the sibling gateways' documented default.
LINK_SECONDS = 3600
# Servers and browsers take no longer ones.
LONGEST_LINK = 8000
# No link lives longer than that: such a number is in milliseconds, or a date.
LONGEST_LINK_SECONDS = 30 * 24 * 3600

_PREFIX = "TASK_STATUS_"
# The router's own words, and what others of its family say instead, without the prefix.
_STATES: dict[str, JobState] = {
    "QUEUED": "queued",
    "PENDING": "queued",
    "PROCESSING": "processing",
    "RUNNING": "processing",
    "IN_PROGRESS": "processing",
    "SUCCEED": "succeeded",
    "SUCCEEDED": "succeeded",
    "SUCCESS": "succeeded",
    "COMPLETED": "succeeded",
    "FAILED": "failed",
}
_SOUNDS_FAILED = re.compile("FAIL|ERROR|CANCEL|REJECT|EXPIRE|TIME_?OUT|TIMED|ABORT")
_TASK_FIELDS = {"task_id", "videos", "video", "video_url", "progress_percent"}
_ERROR_FIELDS = {"code", "message", "error"}


def _number(value: Any) -> int | None:
    """A count of something, whatever it was written as; None where it says nothing."""
    try:
        return max(0, min(int(float(value)), 2**53))
    except (TypeError, ValueError, OverflowError):
        return None


def _exact(value: Any) -> int | None:
    """A number that means something only to the digit; None where JSON readers would not agree on it."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) <= 2**53 else None


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else ""


def _link(value: Any) -> str:
    """A link, signed as it is; what nobody could see in it is written as every client would send it. "" = none."""
    link = _text(value)
    if len(link) > LONGEST_LINK or not link.startswith(("https://", "http://")):
        return ""
    return "".join(quote(c, errors="replace") if is_invisible(c) or c.isspace() else c for c in link)


def _videos(value: Any) -> list[Any]:
    """Videos in a list, or one alone."""
    items = value if isinstance(value, list) else [value]
    return [{**item, "video_url": item.get("video_url") or item.get("url")} for item in items if isinstance(item, dict)]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_task(body: dict[str, Any]) -> bool:
    """Whether an answer is itself what others have in `task`, and no error that happens to have a status."""
    status = body.get("status") or body.get("task_status")
    if not isinstance(status, str):
        return False
    is_plain = "reason" in body and not _ERROR_FIELDS & body.keys()
    return status.startswith(_PREFIX) or bool(_TASK_FIELDS & body.keys()) or is_plain


Number = Annotated[int | None, BeforeValidator(_number)]
Text = Annotated[str, BeforeValidator(_text)]
Link = Annotated[str, BeforeValidator(_link)]


class Answer(BaseModel):
    """Unknown fields are kept, wrong types mean "not said"."""

    model_config = ConfigDict(extra="allow")


class TaskVideo(Answer):
    """A finished video's presigned link."""

    video_url: Link = ""
    video_url_ttl: Number = None
    video_type: Text = ""

    def expires_at(self, asked_at: float) -> datetime:
        """When the link dies, if it was made at `asked_at` (seconds since the epoch). 0 or garbage = the default."""
        said = self.video_url_ttl or 0
        return datetime.fromtimestamp(asked_at + (said if 0 < said <= LONGEST_LINK_SECONDS else LINK_SECONDS), UTC)


class Task(Answer):
    task_id: Text = ""
    status: Text = ""
    reason: Text = ""
    eta: Number = None
    progress_percent: Number = None


class Extra(Answer):
    seed: Annotated[int | None, BeforeValidator(_exact)] = None


class TaskResult(Answer):
    """The router's answer about a task."""

    task: Annotated[Task, BeforeValidator(_object)] = Task()
    videos: Annotated[list[TaskVideo], BeforeValidator(_videos)] = []
    extra: Annotated[Extra, BeforeValidator(_object)] = Extra()

    @classmethod
    def from_json(cls, answer: dict[str, Any]) -> "TaskResult":
        """Read an answer, also one wrapped in `data`, or without a `task` around what it says of it."""
        inner = answer.get("data")
        body = inner if isinstance(inner, dict) and not isinstance(answer.get("task"), dict) else answer
        task = _object(body.get("task")) or (body if _is_task(body) else {})
        places = (body, task, answer, _object(inner))
        found = [place.get(name) for place in places for name in ("videos", "video")]
        found += [place for place in places if place.get("video_url")]
        status = task.get("status") or task.get("task_status")
        videos = next((videos for videos in found if videos), None)
        return cls.model_validate({**body, "task": {**task, "status": status}, "videos": videos})

    @property
    def state(self) -> JobState:
        """What it says, or shows: a video is a success whatever the status. An unknown status is no end."""
        if self.links:
            return "succeeded"
        sounds_failed = self.task.reason and _SOUNDS_FAILED.search(self._word)
        return _STATES.get(self._word, "failed" if sounds_failed else "processing")

    @property
    def is_doubtful(self) -> bool:
        """Whether it says that the job has ended in a way that a later answer may well take back."""
        if self.state == "failed":
            return self.task.status != _PREFIX + "FAILED"
        return self.state == "succeeded" and not self.links

    @property
    def raw_status(self) -> str | None:
        """The status as sent, where it is none that we know."""
        return None if self._word in _STATES else self.task.status or "(none)"

    @property
    def _word(self) -> str:
        return "_".join(self.task.status.upper().replace("-", " ").split()).removeprefix(_PREFIX)

    @property
    def links(self) -> list[TaskVideo]:
        return [video for video in self.videos if video.video_url]
