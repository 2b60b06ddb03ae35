"""`refvideo-mcp list`: the newest jobs."""

import argparse
import sys

from refvideo_mcp.cli.options import add_json_option, add_spec_options, given
from refvideo_mcp.cli.outcome import print_json
from refvideo_mcp.cli.screen import Screen
from refvideo_mcp.cli.session import read_settings, with_jobs
from refvideo_mcp.errors import clean
from refvideo_mcp.jobs import Jobs, answers_of, opened, row_note
from refvideo_mcp.ledger import Job
from refvideo_mcp.spec import ListCall, read_arguments

__all__ = ["add_options", "run"]


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
    next_step = "refvideo-mcp result ID waits for a job and saves its video." if found else "Nothing to do."
    if options.json:
        print_json(answers_of(found, next_step))
        return
    if not found:
        print("No jobs yet." if call.state is None else f"No job is {call.state}.")
        return
    screen = Screen(sys.stdout, 0)
    width = max(len(job.handle) for job in found)
    screen.line(f"{'time':<16}  {'state':<10}  {'id':<{width}}  prompt", "dim")
    for job in found:
        start = f"{opened(job):%Y-%m-%d %H:%M}  {job.state:<10}  {job.handle:<{width}}  "
        room = max(20, screen.columns - len(start))
        screen.line(start, "", clean(job.prompt or "", room), "dim")
        if below := job.saved_to or row_note(job):
            screen.line(f"{'':<16}  {clean(below)}")
