"""Jobs, as the agent reads them: one text that is enough alone, one structure that is enough alone."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent

from refvideo_mcp.errors import clean, is_invisible
from refvideo_mcp.jobs import (
    Found,
    Member,
    age_of,
    answer_of,
    answers_of,
    failure,
    is_being_saved,
    is_lost,
    is_unusually_long,
    lacking,
    loss,
    notes_of,
    opened,
    row_note,
    status_in_words,
    took,
    usage_in_words,
)
from refvideo_mcp.ledger import OPEN, Job
from refvideo_mcp.schemas import ListCall
from refvideo_mcp.tools.cast import cast_line, cast_rows

__all__ = ["NOTHING_ELSE", "Around", "in_words", "job_list", "job_result", "news", "with_last_frame", "without_paths"]

# A text is read by every agent, whatever its window. Names are cut for it, never what the user must hear.
MOST_WORDS = 60
WORDS_OF_OTHERS = 25
WORDS_OF_FILES = 7
WORDS_OF_NEWS = 4
WORDS_OF_STATUS = 12
USUAL_SECONDS = 300.0
MOST_COUNTED = 1000


@dataclass(frozen=True)
class Around:
    """What else an answer about a job says. `sent_to` is where the local files `sent` went. `kept` is a sentence.

    `finished` are videos that were finished while nobody asked.
    """

    joined: bool = False
    sent: Sequence[str] = ()
    sent_to: str = ""
    allowance: str = ""
    finished: Sequence[Job] = ()
    kept: str = ""


NOTHING_ELSE = Around()


async def job_result(
    job: Job,
    *,
    sign: str,
    now: float,
    links: bool = False,
    pictures: bool = True,
    paths: bool = True,
    around: Around = NOTHING_ELSE,
) -> CallToolResult:
    """The answer about a job. `sign` begins it: the video is simulated.

    Without `paths` it names no file of this machine; the preview is shown all the same. `links`: the client shows a
    link to a file; `pictures`: it takes the preview beside its path.
    """
    picture = await _preview(job.preview) if job.preview and pictures else None
    job = await with_last_frame(job) if paths else without_paths(job)
    outcome, next_step = _told(job, now)
    if sign and job.state == "succeeded" and not is_lost(job):
        next_step += " Say that the video is simulated."
    joined = "An identical call had already started this job; nothing new was bought." if around.joined else ""
    facts = _facts(job)
    room = MOST_WORDS - _words(sign, outcome, joined, around.kept, facts, next_step, around.allowance)
    sent = _sent(around, room)
    told = news(around.finished, room - _words(sent))
    last = f"(Last frame: {job.last_frame})" if job.last_frame else ""
    if _words(last) > room - _words(sent, told):
        last = ""
    text = " ".join(filter(None, (outcome, joined, sent, around.kept, facts, last, next_step, around.allowance, told)))
    content: list[ContentBlock] = [TextContent(type="text", text=sign + text)]
    if job.saved_to and links:
        file = Path(job.saved_to)
        mime = "image/gif" if file.suffix == ".gif" else "video/mp4"
        content.append(ResourceLink(type="resource_link", uri=file.as_uri(), name=file.name, mime_type=mime))
    if picture:
        content.append(picture)
    answer = answer_of(
        job, sign + " ".join(filter(None, (joined, sent, around.kept, next_step, around.allowance, told)))
    )
    return CallToolResult(
        content=content,
        structured_content=answer.model_dump(mode="json", exclude_none=True),
        is_error=job.state == "failed" or is_lost(job),
    )


def job_list(
    found: Found,
    call: ListCall,
    others: Sequence[Job] = (),
    *,
    sign: str,
    cast: Sequence[Member] = (),
    after: str = "",
    paths: bool = True,
) -> CallToolResult:
    """The answer about the jobs that a call asked for, newest first, or about `others` where there is none.

    `after` is a sentence behind what to do next. Without `paths` no file of this machine is named.
    """
    jobs = found.jobs
    answer = answers_of(found, "", paths=paths)
    steps = (
        _about_recipe(answer.recipe),
        _about_last_frame(found.one),
        _next_steps(jobs or others, found.now),
        _about_older(found),
        after,
    )
    next_step = " ".join(filter(None, steps)) or "Nothing to do."
    recipe = [f"Recipe: {_in_json(answer.recipe)}"] if answer.recipe else []
    took_of_it = f"This job took {took(found.one)} s. " if found.one else ""
    allowance = [f"{took_of_it}{told}"] if (told := usage_in_words(found.usage)) else []
    rows = (_line(job, found.now) for job in jobs)
    known = [cast_line(cast)] if cast else []
    lines = [_heading(found, call, others), *rows, *recipe, *known, *allowance, next_step]
    answer.next_step = sign + next_step
    answer.cast = cast_rows(cast) or None
    return CallToolResult(
        content=[TextContent(type="text", text=sign + "\n".join(lines))],
        structured_content=answer.model_dump(mode="json", exclude_none=True),
    )


def _heading(found: Found, call: ListCall, others: Sequence[Job]) -> str:
    kind = f"{call.state} " if call.state else ""
    matching = f' with "{clean(call.query, 60)}"' if call.query and call.task_id is None else ""
    older = f" before {clean(call.before, 60)}" if call.before and call.task_id is None else ""
    if call.task_id is not None:
        return "The job:"
    if shown := len(found.jobs):
        which = "The newest" if shown == 1 else f"The {shown} newest"
        more = "+" if found.total == MOST_COUNTED else ""
        of_all = f" of {found.total}{more}" if found.total > shown else ""
        return f"{which}{of_all} {kind}job{'' if found.total == 1 else 's'}{matching}{older}:"
    if not others:
        return "No jobs yet."
    states = [job.state for job in others]
    counted = ", ".join(f"{states.count(other)} {other}" for other in dict.fromkeys(states))
    has = f"has all of the words in its prompt, ids or file name{matching}" if matching else f"is {call.state}"
    return f"No {kind if matching else ''}job{older} {has}. Of the newest: {counted}."


def _about_recipe(recipe: dict[str, Any] | None) -> str:
    if recipe is None:
        return ""
    ids = ", ".join(f"@{clean(name, 40)}" for name in lacking(recipe))
    anew = f"Its pictures of {ids} were not kept: ask the user for them. " if ids else ""
    return f"{anew}For another like it call generate_reference_video with the recipe, changed as wished; it is paid."


def _about_last_frame(job: Job | None) -> str:
    return f"To go on from its last frame give {job.last_frame} as a picture." if job and job.last_frame else ""


def _about_older(found: Found) -> str:
    return f'Older ones: before "{found.jobs[-1].handle}".' if found.total > len(found.jobs) > 0 else ""


def _in_json(recipe: dict[str, Any]) -> str:
    """On one line, in which nothing is invisible."""
    text = json.dumps(recipe, ensure_ascii=False, separators=(", ", ": "))
    return "".join(json.dumps(c)[1:-1] if is_invisible(c) else c for c in text)


def _next_steps(jobs: Sequence[Job], now: float) -> str:
    """What to do about jobs, by what became of them."""
    under_way = next((job for job in jobs if job.state in OPEN), None)
    links = any(job.state == "succeeded" and not job.saved_to and not is_lost(job) for job in jobs)
    states = {job.state for job in jobs}
    doubtful = next((job for job in jobs if job.state == "uncertain" and not job.released), None)
    steps = {
        f'get_task_result waits for those under way, for example task_id "{under_way.handle if under_way else ""}".': (
            under_way is not None
        ),
        "get_task_result with a task_id gives the link of a video without a file.": links,
        "get_task_result with a task_id tells what to change about a failed one.": "failed" in states,
        "A rejected one was not bought: mend its reason, then submit again.": "rejected" in states,
        f"An uncertain one may have been bought: do not submit again for that video; the user can look for it in the "
        f"console of {doubtful.gateway if doubtful else ''}.": doubtful is not None,
        "An expired one only a new job makes again: ask the user.": any(map(is_lost, jobs)),
        "Of one that takes unusually long tell the user.": any(is_unusually_long(job, now) for job in jobs),
    }
    return " ".join(step for step, applies in steps.items() if applies)


def news(finished: Sequence[Job], room: int = MOST_WORDS) -> str:
    """The sentence about videos that were finished while nobody asked; `room` is in words."""
    if not finished:
        return ""
    names = [job.saved_to if job.saved_to and _words(job.saved_to) <= WORDS_OF_NEWS else job.handle for job in finished]
    videos = "1 more video" if len(finished) == 1 else f"{len(finished)} more videos"
    begin = f"Since you last looked, {videos} finished"
    listed = _listed(names, WORDS_OF_NEWS, room - _words(begin))
    return f"{begin}: {listed or 'list_reference_videos names them'}."


def _sent(around: Around, room: int) -> str:
    if not around.sent:
        return ""
    listed = _listed(around.sent, WORDS_OF_FILES, room - _words("Sent to", around.sent_to))
    count = len(around.sent)
    return f"Sent to {around.sent_to}: {listed or ('1 picture' if count == 1 else f'{count} pictures')}."


def _listed(names: Sequence[str], most_words: int, room: int) -> str:
    """As many names as fit into `most_words`, and how many are left; "" where there is no room for one."""
    for shown in range(len(names), 0, -1):
        rest = f" and {len(names) - shown} more" if shown < len(names) else ""
        if _words(*names[:shown]) <= most_words and _words(*names[:shown], rest) <= room:
            return ", ".join(names[:shown]) + rest
    return ""


def _cut(text: str, most_words: int) -> str:
    """The beginning of a text."""
    words = text.split(" ")
    return text if len(words) <= most_words else " ".join(words[:most_words]).rstrip(".,;:") + "…"


def _words(*texts: str) -> int:
    return sum(len(text.split()) for text in texts)


async def with_last_frame(job: Job) -> Job:
    """The job, which names its last frame only while it is there: the cache may be cleared."""
    if job.last_frame is None or await anyio.Path(job.last_frame).is_file():
        return job
    return replace(job, last_frame=None)


def without_paths(job: Job) -> Job:
    """The job for callers to whom a path here means nothing: they get its link."""
    return replace(job, saved_to=None, not_saved=None, preview=None, last_frame=None)


def _told(job: Job, now: float) -> tuple[str, str]:
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
            says = f' ({job.gateway} says "{words}")' if words else ""
            percent = f", {job.progress_percent} %" if job.progress_percent else ""
            age = f", {age_of(job, now)} after it was submitted" if now - job.opened_at >= USUAL_SECONDS else ""
            usual = "" if age else " A video takes 0.5-5 minutes."
            warned = "Unusually long: tell the user. " if is_unusually_long(job, now) else ""
            return (
                f"Job {job.handle} is {job.state}{percent}{says}{age}.{usual}",
                f'{warned}Call get_task_result with task_id "{job.handle}": it waits. '
                "Do not submit again for this video.",
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


def _facts(job: Job) -> str:
    """What else the user must hear, most important first."""
    others = [f"Another video: {video.url}" for video in job.videos[1:]] if not is_lost(job) else []
    seed = [f"Seed {job.seed}."] if job.seed is not None and job.state == "succeeded" else []
    preview = [f"(Preview: {job.preview})"] if job.preview else []
    return " ".join([*filter(None, [in_words(job)]), *others, *seed, *preview])


def in_words(job: Job) -> str:
    """All warnings about a job, in one go."""
    notes = notes_of(job)
    return f"Note: {' '.join(notes)}" if notes else ""


async def _preview(path: str) -> ImageContent | None:
    try:
        content = await anyio.Path(path).read_bytes()
    except OSError:  # the cache was cleared
        return None
    return ImageContent(type="image", data=base64.b64encode(content).decode(), mime_type="image/jpeg")


def _line(job: Job, now: float) -> str:
    prompt = f' "{clean(job.prompt, 60)}"' if job.prompt else ""
    note = row_note(job, now, 120)
    end = f" -> {job.saved_to}" if job.saved_to else f": {note}" if note else ""
    return f"{opened(job).isoformat(timespec='seconds')} {job.state} {job.handle}{prompt}{end}"
