"""`refvideo-mcp result`: waits for a job."""

import argparse
import sys
from functools import partial

from refvideo_mcp.cli.exit_codes import INTERRUPTED
from refvideo_mcp.cli.options import add_json_option
from refvideo_mcp.cli.outcome import print_error, print_job
from refvideo_mcp.cli.screen import Screen
from refvideo_mcp.cli.session import read_settings, with_jobs
from refvideo_mcp.cli.waiting import STEPS_WIDTH, wait
from refvideo_mcp.errors import RefvideoError
from refvideo_mcp.schemas import ResultCall, read_arguments

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="ID", help="the job's task id, or its key while it has none")
    parser.add_argument("--no-wait", action="store_true", help="just look")
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Wait for the job and show what became of it."""
    settings = read_settings(needs_memory=True)
    handle = read_arguments(ResultCall, {"task_id": options.task_id}).task_id
    screen = Screen(sys.stderr, STEPS_WIDTH)
    try:
        job = with_jobs(settings, partial(wait, handle=handle, screen=screen, just_look=options.no_wait))
    except KeyboardInterrupt:
        way_back = f"the job goes on. To come back: refvideo-mcp result {handle}"
        print_error(RefvideoError("Interrupted:", way_back, task_id=handle), as_json=options.json)
        return INTERRUPTED
    return print_job(job, screen, as_json=options.json, sign="")
