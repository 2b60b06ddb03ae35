"""What comes back: the router's answers, read tolerantly, and the one answer shape of our tools."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from refvideo_mcp.errors import is_invisible

__all__ = ["JobAnswer", "JobList", "JobState", "JobSummary", "TaskResult", "TaskVideo", "VideoAnswer", "VideoPiece"]

JobState = Literal["submitting", "queued", "processing", "succeeded", "failed", "rejected", "uncertain"]

# How long a presigned link lives where the answer does not say: the sibling gateways' documented default.
LINK_SECONDS = 3600
# Servers and browsers take no longer ones.
LONGEST_LINK = 8000
# No link lives longer than that: such a number is in milliseconds, or a date.
LONGEST_LINK_SECONDS = 30 * 24 * 3600

_STATES: dict[str, JobState] = {
    "TASK_STATUS_QUEUED": "queued",
    "TASK_STATUS_PROCESSING": "processing",
    "TASK_STATUS_RUNNING": "processing",
    "TASK_STATUS_SUCCEED": "succeeded",
    "TASK_STATUS_FAILED": "failed",
}


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


def _objects(value: Any) -> list[Any]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


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
    videos: Annotated[list[TaskVideo], BeforeValidator(_objects)] = []
    extra: Annotated[Extra, BeforeValidator(_object)] = Extra()

    @classmethod
    def from_json(cls, answer: dict[str, Any]) -> "TaskResult":
        """Read an answer, also one wrapped in `data`."""
        inner = answer.get("data")
        wrapped = isinstance(inner, dict) and not isinstance(answer.get("task"), dict)
        return cls.model_validate(inner if wrapped else answer)

    @property
    def state(self) -> JobState:
        """An unknown status is not an end: the job goes on as `processing`."""
        return _STATES.get(self.task.status, "processing")

    @property
    def raw_status(self) -> str | None:
        """The status as sent, where it is none that we know."""
        return None if self.task.status in _STATES else self.task.status or "(none)"

    @property
    def links(self) -> list[TaskVideo]:
        return [video for video in self.videos if video.video_url]


class VideoAnswer(BaseModel):
    """One finished video."""

    url: str = Field(description="Link.")
    expires_at: str | None = Field(None, description="When it dies.")
    type: str = Field(description="mp4 or gif.")
    saved_to: str | None = Field(None, description="File on disk.")


class JobAnswer(BaseModel):
    """What both job tools answer. Absent rather than null."""

    task_id: str | None = Field(None, description="For get_task_result.")
    idempotency_key: str | None = Field(None, description="Until there is a task_id.")
    state: JobState = Field(description="succeeded: there is a video.")
    progress_percent: int | None = Field(None, description="0-100.")
    eta_seconds: int | None = Field(None, description="A guess.")
    raw_status: str | None = Field(None, description="A status new to us.")
    reason: str | None = Field(None, description="Why there is no video.")
    seed: int | None = Field(None, description="As used.")
    preview: str | None = Field(None, description="Picture strip (file).")
    videos: list[VideoAnswer] | None = Field(None, description="The result.")
    warnings: list[str] | None = Field(None, description="Tell the user.")
    next_step: str = Field(description="Do this.")


class JobSummary(BaseModel):
    """One line of the ledger."""

    task_id: str | None = Field(None, description="For get_task_result.")
    idempotency_key: str | None = Field(None, description="Until there is a task_id.")
    # The tool's own argument `state` lists the words.
    state: Annotated[JobState, WithJsonSchema({"type": "string"})] = Field(description="As the argument state.")
    submitted_at: str = Field(description="When.")
    prompt: str | None = Field(None, description="Its beginning.")
    saved_to: str | None = Field(None, description="File on disk.")
    reason: str | None = Field(None, description="Why there is no video.")


class JobList(BaseModel):
    """Recent jobs, newest first."""

    jobs: list[JobSummary] = Field(description="Newest first.")
    next_step: str = Field(description="Do this.")


class VideoPiece(BaseModel):
    """What the player reads of a saved video."""

    data: str = Field(description="Base64.")
    size: int = Field(description="Bytes of the whole file.")
    type: str = Field(description="Its media type.")
