"""The command line.

A command is a row of COMMANDS and, in the module that it names, a function `add_…(parser)` of the command's name, which
adds its options and sets `run`: what gets them, and returns an exit code or None. Only the module of the command that
is run is imported: a client waits for the server to start.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from refvideo_mcp import __version__
from refvideo_mcp.errors import Refused, RefvideoError, Uncertain
from refvideo_mcp.network import read_proxies_as_others_do
from refvideo_mcp.startup import deferred

__all__ = ["DONE", "EXIT_CODES", "FAILED", "INTERRUPTED", "NOT_OVER", "REFUSED", "UNCERTAIN", "main"]

DONE, FAILED, REFUSED, NOT_OVER, UNCERTAIN, INTERRUPTED = 0, 1, 2, 3, 4, 130
EXIT_CODES = {
    DONE: "done",
    FAILED: "it failed",
    REFUSED: "refused here, nothing was sent: usage, settings, a picture, the allowance",
    NOT_OVER: "the job goes on",
    UNCERTAIN: "nobody knows whether the job was bought",
    INTERRUPTED: "Ctrl-C",
}
# Name → its module, what it does, and an example.
COMMANDS = {
    "serve": ("serve", "Serve MCP on stdin and stdout, or over HTTP.", "refvideo-mcp serve --sandbox"),
    "generate": (
        "jobs",
        "Make a video, wait for it and save it.",
        "refvideo-mcp generate --prompt '@hero waves' --subject hero=hero.png",
    ),
    "result": (
        "jobs",
        "Wait for a job and save its video.",
        "refvideo-mcp result 6f3c8f0e-2b71-4d0a-9c55-0d9f1e7a4b26",
    ),
    "list": ("jobs", "List jobs and their files, and what is left of the allowance.", "refvideo-mcp list fox lantern"),
    "save": (
        "jobs",
        "Fetch a finished video again, from the router.",
        "refvideo-mcp save 6f3c8f0e-2b71-4d0a-9c55-0d9f1e7a4b26 --to ~/clips",
    ),
    "cast": (
        "cast",
        "Keep people and things for later videos, by their names.",
        "refvideo-mcp cast add fox fox.png --about 'a red fox'",
    ),
    "doctor": ("doctor", "Check the settings, the router and this machine.", "refvideo-mcp doctor"),
    "sandbox": (
        "serve",
        "Run a simulated router; its page in a browser tells how to rehearse failures.",
        "refvideo-mcp sandbox --seconds 3",
    ),
    "schemas": ("schemas", "Print the tools as clients see them.", "refvideo-mcp schemas --write tool_schemas"),
    "config": (
        "config",
        "Print what a client needs to start this server, and the file it belongs in.",
        "refvideo-mcp config cursor",
    ),
    "demo": ("demo", "Make a video on the sandbox, as a client would.", "refvideo-mcp demo --out clips"),
    "release": (
        "ledger",
        "Let a job whose submission was never answered be sent again.",
        "refvideo-mcp release job-0f5c1e7d8a924b36b1c07e5d2f4a9c68",
    ),
    "token": (
        "token",
        "Make a token for an account of a server that runs with --auth tokens.",
        "refvideo-mcp token alice >> tokens",
    ),
    "forget": ("ledger", "Remove old jobs from the ledger.", "refvideo-mcp forget --older-than 90"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    read_proxies_as_others_do(os.environ)
    arguments = list(sys.argv[1:] if argv is None else argv) or ["serve"]
    options = argparse.Namespace()
    try:
        _parser(arguments).parse_args(arguments, options)
        return int(options.run(options) or DONE)
    except RefvideoError as error:
        from refvideo_mcp.cli.results import print_error

        print_error(error, as_json=getattr(options, "json", False))
        return REFUSED if isinstance(error, Refused) else UNCERTAIN if isinstance(error, Uncertain) else FAILED
    except KeyboardInterrupt:
        if getattr(options, "json", False):
            print('{"error": "Interrupted."}')
        return INTERRUPTED


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """A parser that knows every command, and the options of those named in the arguments."""
    parser = argparse.ArgumentParser(
        "refvideo-mcp",
        description="Turn reference pictures into video, from any MCP client or from here. "
        "Without a command it serves MCP on stdin and stdout.",
        epilog="example: MYROUTER_API_KEY=sandbox refvideo-mcp",
    )
    parser.add_argument("--version", action="version", version=f"refvideo-mcp {__version__}")
    exit_codes = "; ".join(f"{code} = {meaning}" for code, meaning in EXIT_CODES.items())
    parser.add_argument_group("exit codes", exit_codes)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, (module, description, example) in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description, epilog=f"example: {example}")
        command.add_argument_group("exit codes", exit_codes)
        if name in arguments:
            with deferred():
                implementation = import_module(f"refvideo_mcp.cli.{module}")
            getattr(implementation, f"add_{name}")(command)
    return parser
