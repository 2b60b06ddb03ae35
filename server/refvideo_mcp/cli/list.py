"""`refvideo-mcp list`: the newest jobs."""

import argparse
import sys
import textwrap
from collections.abc import Sequence

from refvideo_mcp.cli.options import add_json_option, add_spec_options, given
from refvideo_mcp.cli.outcome import print_json
from refvideo_mcp.cli.screen import Screen
from refvideo_mcp.cli.session import read_settings, with_jobs
from refvideo_mcp.errors import clean
from refvideo_mcp.jobs import Jobs, answers_of, is_lost, opened, row_note
from refvideo_mcp.ledger import OPEN, Job
from refvideo_mcp.schemas import ListCall, read_arguments

__all__ = ["add_options", "run"]

INDENT = " " * 18
SHORTEST_PROMPT = 30
LONGEST = 300
LONGEST_PATH = 4096


def add_options(parser: argparse.ArgumentParser) -> None:
    add_spec_options(parser, ListCall, {})
    add_json_option(parser)


def run(options: argparse.Namespace) -> None:
    """Print the jobs, newest first; what is longer than one line comes on the next."""
    settings = read_settings(needs_memory=True)
    call = read_arguments(ListCall, given(options, ListCall))

    async def newest(jobs: Jobs) -> list[Job]:
        return await jobs.newest(call.limit, [call.state] if call.state else [])

    found = with_jobs(settings, newest)
    next_step = _next_step(found, filtered=call.state is not None)
    if options.json:
        print_json(answers_of(found, next_step))
        return
    if not found:
        print("No jobs yet." if call.state is None else f"No job is {call.state}.")
        return
    screen = Screen(sys.stdout, 0)
    width = max(len(job.handle) for job in found)
    # On a terminal that is too narrow for the prompt it has a line of its own; a program gets one line per job.
    room = screen.columns - len(_start("", "", "", width)) if screen.is_terminal else LONGEST
    beside = room >= SHORTEST_PROMPT
    screen.line(_start("time", "state", "id", width), "dim", "prompt" if beside else "", "dim")
    for job in found:
        start = _start(f"{opened(job):%Y-%m-%d %H:%M}", job.state, job.handle, width)
        prompt = clean(job.prompt or "", LONGEST)
        screen.line(start if beside else start.rstrip(), "", clean(prompt, room) if beside else "", "dim")
        if not beside and prompt:
            _print_below(screen, prompt)
        if job.saved_to:
            screen.line(f"{INDENT}{clean(job.saved_to, LONGEST_PATH)}")
        elif note := row_note(job):
            _print_below(screen, note)


def _next_step(jobs: Sequence[Job], *, filtered: bool) -> str:
    if not jobs:
        return "refvideo-mcp list shows the others." if filtered else "Nothing to do."
    if any(job.state in OPEN or (job.state == "succeeded" and not job.saved_to and not is_lost(job)) for job in jobs):
        return "refvideo-mcp result ID waits for a job and saves its video."
    return "refvideo-mcp result ID tells more about a job."


def _start(time: str, state: str, handle: str, width: int) -> str:
    return f"{time:<16}  {state:<10}  {handle:<{width}}  "


def _print_below(screen: Screen, text: str) -> None:
    """Words, broken between them where a terminal would break them anywhere."""
    width = max(SHORTEST_PROMPT, screen.columns - len(INDENT)) if screen.is_terminal else LONGEST
    for line in textwrap.wrap(text, width, break_on_hyphens=False):
        screen.line(f"{INDENT}{line}", "dim")
