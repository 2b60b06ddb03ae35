"""`refvideo-mcp save`: fetches a finished video once more."""

import argparse
import sys

from refvideo_mcp.cli.options import add_json_option
from refvideo_mcp.cli.outcome import print_job
from refvideo_mcp.cli.questions import ask_for_saving, from_here
from refvideo_mcp.cli.screen import Screen
from refvideo_mcp.cli.session import read_settings, with_jobs
from refvideo_mcp.cli.waiting import STEPS_WIDTH
from refvideo_mcp.jobs import Jobs
from refvideo_mcp.ledger import Job
from refvideo_mcp.schemas import ResultCall, read_arguments

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="ID", help="the job's task id")
    parser.add_argument("--to", "--save-to", metavar="PATH", help="a folder or .mp4 path; no file is ever written over")
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Ask for a fresh link, and save what it leads to in a new file."""
    settings = read_settings(needs_memory=True)
    handle = read_arguments(ResultCall, {"task_id": options.task_id}).task_id
    to = from_here(options.to) if options.to else None
    screen = Screen(sys.stderr, STEPS_WIDTH)

    async def save(jobs: Jobs) -> Job:
        if to:
            await ask_for_saving(jobs, to)
        with screen.waiting("video") as show:
            show("saving")
            return await jobs.save(handle, to)

    return print_job(with_jobs(settings, save), screen, as_json=options.json, sign="")
