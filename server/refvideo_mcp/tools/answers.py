"""Jobs, as the agent reads them: one text that is enough alone, one structure that is enough alone."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent

from refvideo_mcp.errors import clean
from refvideo_mcp.jobs import (
    answer_of,
    answers_of,
    failure,
    is_being_saved,
    is_lost,
    loss,
    opened,
    row_note,
    status_in_words,
    trouble_of,
)
from refvideo_mcp.ledger import Job
from refvideo_mcp.spec import JobState

__all__ = ["job_list", "job_result", "listed", "news", "without_paths"]

# A text is read by every agent, whatever its window. The structure is not cut.
MOST_WORDS = 60
FEWEST_WORDS = 5
WORDS_OF_OTHERS = 25
WORDS_OF_NEWS = 4
WORDS_OF_STATUS = 12


async def job_result(
    job: Job, *, sign: str, links: bool = False, paths: bool = True, before: str = "", after: str = ""
) -> CallToolResult:
    """The answer about a job. `sign` begins it; `before` and `after` are sentences around what to do next.

    Without `paths` it names no file of this machine; the preview is shown all the same. `links`: the client shows a
    link to a file.
    """
    picture = await _preview(job.preview) if job.preview else None
    job = job if paths else without_paths(job)
    outcome, next_step = _told(job)
    next_step = f"{next_step} {after}".strip()
    note = _cut(_note(job), MOST_WORDS - _words(sign, outcome, before, next_step))
    text = " ".join(part for part in (outcome, before, note, next_step) if part)
    content: list[ContentBlock] = [TextContent(type="text", text=sign + text)]
    if job.saved_to and links:
        file = Path(job.saved_to)
        mime = "image/gif" if file.suffix == ".gif" else "video/mp4"
        content.append(ResourceLink(type="resource_link", uri=file.as_uri(), name=file.name, mime_type=mime))
    if picture:
        content.append(picture)
    answer = answer_of(job, sign + f"{before} {next_step}".strip())
    return CallToolResult(
        content=content,
        structured_content=answer.model_dump(mode="json", exclude_none=True),
        is_error=job.state == "failed" or is_lost(job),
    )


def job_list(jobs: Sequence[Job], state: JobState | None = None, *, sign: str, after: str = "") -> CallToolResult:
    """The answer about several jobs, newest first; with `state`, about all that are in it."""
    next_step = "get_task_result with a task_id waits for that job or gives its link." if jobs else "Nothing to do."
    next_step = f"{next_step} {after}".strip()
    lines = [_count(len(jobs), state), *map(_line, jobs), next_step]
    answer = answers_of(jobs, sign + next_step)
    return CallToolResult(
        content=[TextContent(type="text", text=sign + "\n".join(lines))],
        structured_content=answer.model_dump(mode="json", exclude_none=True),
    )


def _count(jobs: int, state: JobState | None) -> str:
    if jobs == 0 and state is not None:
        return f"No job is {state}."
    return "No jobs yet." if jobs == 0 else "The newest job:" if jobs == 1 else f"The {jobs} newest jobs:"


def news(finished: Sequence[Job]) -> str:
    """The sentence about videos that were finished while nobody asked."""
    if not finished:
        return ""
    names = [job.saved_to if job.saved_to and _words(job.saved_to) <= WORDS_OF_NEWS else job.handle for job in finished]
    videos = "1 more video" if len(finished) == 1 else f"{len(finished)} more videos"
    return f"Since you last looked, {videos} finished: {listed(names, WORDS_OF_NEWS)}."


def listed(names: Sequence[str], most_words: int) -> str:
    """As many names as fit into so many words, and how many are left."""
    shown = list(names)
    while len(shown) > 1 and _words(*shown) > most_words:
        shown.pop()
    rest = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return ", ".join(shown) + rest


def _cut(text: str, most_words: int) -> str:
    """The beginning of a text, or nothing where that would say nothing."""
    words = text.split(" ")
    if len(words) <= most_words:
        return text
    return " ".join(words[:most_words]).rstrip(".,;:") + "…" if most_words >= FEWEST_WORDS else ""


def _words(*texts: str) -> int:
    return sum(len(text.split()) for text in texts)


def without_paths(job: Job) -> Job:
    """The job for callers to whom a path here means nothing: they get its link."""
    return replace(job, saved_to=None, not_saved=None, preview=None)


def _told(job: Job) -> tuple[str, str]:
    """What happened, and what to do next."""
    match job.state:
        case "succeeded" if job.saved_to:
            return (
                f"Done: the video is saved at {job.saved_to} (job {job.handle}).",
                "Tell the user where the file is.",
            )
        case "succeeded" if is_lost(job):
            return f"Job {job.handle} succeeded, but {loss(job)}.", "Tell the user. Only a new job makes it again."
        case "succeeded":
            video = job.videos[0]
            until = f"{datetime.fromtimestamp(video.expires_at, UTC):%H:%M} UTC"
            return (
                f"Done: {video.url} (the link dies about {until}; job {job.handle}).",
                _about_link(job),
            )
        case "failed":
            error = failure(replace(job, reason=_cut(clean(job.reason or ""), WORDS_OF_OTHERS)), job.gateway)
            return error.happened, error.advice.for_agent
        case "submitting":
            return (
                f"{job.gateway} has not answered the submission yet (idempotency_key {job.key}); it goes on.",
                f'Call get_task_result with task_id "{job.key}": it waits. Do not submit again for this video.',
            )
        case _:
            words = _cut(status_in_words(job), WORDS_OF_STATUS)
            unknown = f' ({job.gateway} says "{words}")' if words else ""
            percent = f", {job.progress_percent} %" if job.progress_percent else ""
            return (
                f"Job {job.handle} is {job.state}{percent}{unknown}. A video takes 0.5-5 minutes.",
                f'Call get_task_result with task_id "{job.handle}": it waits. Do not submit again for this video.',
            )


def _about_link(job: Job) -> str:
    if not job.not_saved:
        return "Give the user this link now. Call get_task_result again for a fresh one."
    if is_being_saved(job):
        return "Call get_task_result again: it waits for the file. Until then the link works, too."
    return (
        "Give the user this link to open in a browser. "
        f"get_task_result tries again to save it, and so does `refvideo-mcp save {job.handle}`."
    )


def _note(job: Job) -> str:
    """What else the user should know, most important first."""
    if trouble := trouble_of(job):
        return trouble
    if job.ended or not job.warnings:
        return ""
    more = f" (+{len(job.warnings) - 1} more notes.)" if len(job.warnings) > 1 else ""
    return f"Note: {job.warnings[0]}{more}"


async def _preview(path: str) -> ImageContent | None:
    try:
        content = await anyio.Path(path).read_bytes()
    except OSError:  # the cache was cleared
        return None
    return ImageContent(type="image", data=base64.b64encode(content).decode(), mime_type="image/jpeg")


def _line(job: Job) -> str:
    prompt = f' "{clean(job.prompt, 60)}"' if job.prompt else ""
    reason = row_note(job, 60) if job.state != "uncertain" or job.released else None
    end = f" -> {job.saved_to}" if job.saved_to else f": {reason}" if reason else ""
    return f"{opened(job).isoformat(timespec='seconds')} {job.state} {job.handle}{prompt}{end}"
