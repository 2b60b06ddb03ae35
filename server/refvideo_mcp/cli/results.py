"""What became of a job, for people and for scripts, and the exit code that says it."""

import json
import os
import sys
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel

from refvideo_mcp.cli import DONE, FAILED, NOT_OVER
from refvideo_mcp.cli.console import Console
from refvideo_mcp.errors import RefvideoError
from refvideo_mcp.jobs import (
    age_of,
    answer_of,
    failure,
    is_being_saved,
    is_lost,
    is_unusually_long,
    loss,
    progress_message,
)
from refvideo_mcp.ledger import Job

__all__ = ["print_error", "print_job", "print_json", "print_line"]


@dataclass(frozen=True)
class Outcome:
    """`result` is what a script wants of the job, the video's path or link; "" where there is none."""

    code: int
    happened: str
    next_step: str
    result: str = ""


def print_job(job: Job, console: Console, *, as_json: bool, sign: str, notes: bool = True) -> int:
    """Say what became of the job, its result alone on stdout and last; the exit code that says the same.

    `notes`: the warnings were not told before.
    """
    if job.preview and not Path(job.preview).is_file():
        job = replace(job, preview=None, last_frame=None)  # the cache was cleared, or was a sandbox's own
    outcome = _outcome(job)
    if as_json:
        print_json(answer_of(job, sign + outcome.next_step))
        return outcome.code
    tell = {DONE: console.done, FAILED: console.failed, NOT_OVER: console.noted}[outcome.code]
    tell("video", sign + outcome.happened)
    for note in job.warnings if notes else ():
        console.noted("note", note)
    if job.seed is not None:
        console.done("seed", str(job.seed))
    if job.preview:
        console.done("preview", job.preview)
    if not outcome.result or outcome.code != DONE:
        console.line(f"refvideo-mcp: {outcome.next_step}")
    if outcome.result:
        print_line(outcome.result)
    return outcome.code


def print_error(error: RefvideoError, *, as_json: bool) -> None:
    """Say what went wrong; on stdout, too, where a script reads: the job as it stands, or that there is none."""
    print(f"refvideo-mcp: {error.for_person}", file=sys.stderr)
    if not as_json:
        return
    next_step = error.advice.for_person
    if isinstance(error.job, Job):
        print_json(answer_of(error.job, next_step))
        return
    told = {
        "error": error.happened,
        "reason": error.reason,
        "task_id": error.task_id,
        "next_step": next_step,
    }
    print(json.dumps({name: value for name, value in told.items() if value}, indent=2))


def print_line(text: str) -> None:
    try:
        print(text, flush=True)
    except UnicodeEncodeError:  # a path is its bytes, whatever this terminal thinks of them
        sys.stdout.buffer.write(os.fsencode(text) + b"\n")


def print_json(answer: BaseModel, **more: object) -> None:
    """The answer and `more` that is told, as one document."""
    told = answer.model_dump(mode="json", exclude_none=True) | {n: v for n, v in more.items() if v is not None}
    # In ASCII, which every terminal and pipe can carry.
    print(json.dumps(told, indent=2))


def _outcome(job: Job) -> Outcome:
    match job.state:
        case "succeeded" if job.saved_to:
            return Outcome(DONE, f"succeeded{_after(job)}", f"The video is at {job.saved_to}.", job.saved_to)
        case "succeeded" if is_lost(job):
            return Outcome(FAILED, f"succeeded, but {loss(job)}", "Only a new job makes it again.")
        case "succeeded":
            link = job.videos[0]
            until = f"the link dies about {datetime.fromtimestamp(link.expires_at):%H:%M}"
            return Outcome(
                NOT_OVER if is_being_saved(job) else FAILED if job.not_saved else DONE,
                f"succeeded{_after(job)}; {until}. {job.not_saved or ''}".rstrip(),
                f"refvideo-mcp save {job.handle} --to FOLDER saves it, by a fresh link.",
                link.url,
            )
        case "failed":
            error = failure(job, job.gateway)
            return Outcome(FAILED, error.happened, error.advice.for_person)
        case "submitting":
            return Outcome(
                NOT_OVER,
                f"{job.gateway} has not answered the submission yet",
                f"Do not submit it again. What became of it: refvideo-mcp result {job.handle}",
            )
        case _:
            now = time.time()
            unusual = ", which is unusually long" if is_unusually_long(job, now) else ""
            return Outcome(
                NOT_OVER,
                f"{progress_message(job)}, {age_of(job, now)} after it was submitted{unusual}",
                f"To wait for it and save it: refvideo-mcp result {job.handle}",
            )


def _after(job: Job) -> str:
    return f" after {job.changed_at - job.opened_at:.0f} s" if job.request else ""
