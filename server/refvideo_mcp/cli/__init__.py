"""The command line.

A command is a row of COMMANDS and the module of its name, with `add_options(parser)` and `run(options)`, which returns
its exit code or None. Only the module of the command that is run is imported: a client waits for the server to start.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from refvideo_mcp import __version__
from refvideo_mcp.cli.exit_codes import DONE, FAILED, INTERRUPTED, REFUSED, UNCERTAIN, in_words
from refvideo_mcp.errors import Refused, RefvideoError, Uncertain
from refvideo_mcp.proxies import read_as_others_do

__all__ = ["main"]

# Name → what it does, and an example.
COMMANDS = {
    "serve": ("Serve MCP on stdin and stdout, or over HTTP.", "refvideo-mcp serve --sandbox"),
    "generate": (
        "Make a video, wait for it and save it.",
        "refvideo-mcp generate --prompt '@hero waves' --subject hero=hero.png",
    ),
    "result": ("Wait for a job and save its video.", "refvideo-mcp result 6f3c8f0e-2b71-4d0a-9c55-0d9f1e7a4b26"),
    "list": ("List the newest jobs and their files.", "refvideo-mcp list --state succeeded"),
    "save": ("Fetch a finished video again.", "refvideo-mcp save 6f3c8f0e-2b71-4d0a-9c55-0d9f1e7a4b26 --to ~/clips"),
    "doctor": ("Check the settings, the router and this machine.", "refvideo-mcp doctor"),
    "sandbox": ("Run a simulated router for several servers.", "refvideo-mcp sandbox --seconds 3"),
    "schemas": ("Print the tools as clients see them.", "refvideo-mcp schemas --write tool_schemas"),
    "config": (
        "Print what a client needs to start this server, and the file it belongs in.",
        "refvideo-mcp config cursor",
    ),
    "demo": ("Make a video on the sandbox, as a client would.", "refvideo-mcp demo --out clips"),
    "release": (
        "Let a job whose submission was never answered be sent again.",
        "refvideo-mcp release job-0f5c1e7d8a924b36b1c07e5d2f4a9c68",
    ),
    "forget": ("Remove old jobs from the ledger.", "refvideo-mcp forget --older-than 90"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    read_as_others_do(os.environ)
    arguments = [*(sys.argv[1:] if argv is None else argv)] or ["serve"]  # `list` may be the command's module
    options = argparse.Namespace()
    try:
        _parser(arguments).parse_args(arguments, options)
        return int(_module(options.command).run(options) or DONE)
    except RefvideoError as error:
        from refvideo_mcp.cli.outcome import print_error

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
    parser.add_argument_group("exit codes", in_words())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, (description, example) in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description, epilog=f"example: {example}")
        command.add_argument_group("exit codes", in_words())
        if name in arguments:
            _module(name).add_options(command)
    return parser


def _module(command: str) -> Any:
    return import_module(f"refvideo_mcp.cli.{command}")
