"""What our tools answer: one shape for a job, whichever tool tells of it."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, WithJsonSchema

from refvideo_mcp.schemas.router_answers import JobState

__all__ = ["AddedPictures", "JobAnswer", "JobList", "JobSummary", "VideoAnswer", "VideoPiece"]


# Its fields are told where it is used.
AN_OBJECT = WithJsonSchema({"type": "object"})
OBJECTS = WithJsonSchema({"type": "array", "items": {"type": "object"}})


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
    raw_status: str | None = Field(None, description="A new status.")
    reason: str | None = Field(None, description="Why there is no video.")
    seed: int | None = Field(None, description="As used.")
    preview: str | None = Field(None, description="Picture strip (file).")
    last_frame: str | None = Field(None, description="PNG file.")
    videos: Annotated[list[VideoAnswer], OBJECTS] | None = Field(
        None, description="Each: url, expires_at, type (mp4, gif), saved_to (file)."
    )
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
    total: int = Field(description="How many match.")
    recipe: Annotated[dict[str, Any], AN_OBJECT] | None = Field(None, description="Arguments that make it again.")
    allowance: Annotated[dict[str, Any], AN_OBJECT] | None = Field(None, description="What is used of it.")
    cast: Annotated[list[dict[str, str]], OBJECTS] | None = Field(
        default=None, description="Saved subjects: id, about."
    )
    next_step: str = Field(description="Do this.")


class VideoPiece(BaseModel):
    """What the player reads of a saved video."""

    data: str = Field(description="Base64.")
    size: int = Field(description="Bytes of the whole file.")
    type: str = Field(description="Its media type.")


class AddedPictures(BaseModel):
    """What became of a piece of a subject's pictures."""

    kept: bool = Field(description="It was the last one: they are the subject's now.")
