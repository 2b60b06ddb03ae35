"""The command line. Every command imports what it needs when it runs: a client waits for the server to start."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from refvideo_mcp import __version__
from refvideo_mcp.errors import Refused, RefvideoError
from refvideo_mcp.settings import Settings

__all__ = ["main"]

HTTP_PORT = 8766


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 = fine, 1 = it failed, 2 = wrong usage or settings."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options) or 0)
    except RefvideoError as error:
        print(f"refvideo-mcp: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = _command(
        argparse.ArgumentParser,
        "refvideo-mcp",
        "Turn reference pictures into video, from any MCP client. Without a command it serves MCP on stdin and stdout.",
        "MYROUTER_API_KEY=sandbox refvideo-mcp",
    )
    parser.add_argument("--version", action="version", version=f"refvideo-mcp {__version__}")
    parser.set_defaults(run=_serve, sandbox=False, output_dir=None, http=False, port=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    serve = _command(
        commands.add_parser, "serve", "Serve MCP on stdin and stdout, or over HTTP.", "refvideo-mcp serve --sandbox"
    )
    serve.add_argument("--sandbox", action="store_true", help="simulate the router in this process; nothing is paid")
    serve.add_argument("--output-dir", metavar="DIR", help="where finished videos go; 'off' = do not save")
    serve.add_argument("--http", action="store_true", help="serve Streamable HTTP instead, to this machine only")
    serve.add_argument("--port", type=int, help=f"port of --http (default {HTTP_PORT}); 0 takes a free one")
    serve.set_defaults(run=_serve)

    sandbox = _command(
        commands.add_parser,
        "sandbox",
        "Run a simulated router for several servers.",
        "refvideo-mcp sandbox --seconds 3",
    )
    sandbox.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    sandbox.add_argument("--port", type=int, default=8765, help="port to listen on (default %(default)s)")
    sandbox.add_argument("--seconds", type=float, default=8.0, help="how long a job takes (default %(default)s)")
    sandbox.set_defaults(run=_sandbox)

    schemas = _command(
        commands.add_parser,
        "schemas",
        "Print the tools as clients see them.",
        "refvideo-mcp schemas --write tool_schemas",
    )
    schemas.add_argument("--write", metavar="DIR", type=Path, help="write one JSON file per tool instead")
    schemas.set_defaults(run=_schemas)

    config = _command(
        commands.add_parser,
        "config",
        "Print what a client needs to start this server, and the file it belongs in.",
        "refvideo-mcp config cursor",
    )
    clients = ("claude-desktop", "claude-code", "cursor", "vscode", "gemini-cli", "codex")
    config.add_argument("client", metavar="CLIENT", choices=clients, help=", ".join(clients))
    config.set_defaults(run=_config)

    demo = _command(
        commands.add_parser, "demo", "Make a video on the sandbox, as a client would.", "refvideo-mcp demo --out clips"
    )
    demo.add_argument("--prompt", help="what happens; name the subjects as @id")
    demo.add_argument("--image", metavar="ID=PATH", action="append", help="a reference picture; repeat for more")
    demo.add_argument("--out", metavar="DIR", type=Path, default=Path("refvideo-demo"), help="default: %(default)s")
    demo.add_argument("--crash", action="store_true", help="kill the server half-way and show that nothing is lost")
    demo.set_defaults(run=_demo)

    release = _command(
        commands.add_parser,
        "release",
        "Let a job whose submission was never answered be sent again.",
        "refvideo-mcp release job-0f5c1e7d",
    )
    release.add_argument("key", metavar="KEY", help="the job, as the error or the list names it")
    release.set_defaults(run=_release)

    forget = _command(
        commands.add_parser, "forget", "Remove old jobs from the ledger.", "refvideo-mcp forget --older-than 90"
    )
    forget.add_argument("--older-than", metavar="DAYS", type=float, required=True, help="age in days, at least 1")
    forget.set_defaults(run=_forget)
    return parser


def _command(
    make: Callable[..., argparse.ArgumentParser], name: str, description: str, example: str
) -> argparse.ArgumentParser:
    """A parser whose help ends in an example."""
    named = {"prog": name} if make is argparse.ArgumentParser else {"name": name, "help": description}
    return make(description=description, epilog=f"example: {example}", **named)


def _serve(options: argparse.Namespace) -> None:
    if options.port is not None and not options.http:
        raise Refused("--port is for --http.")
    settings = Settings.read(os.environ, sandbox=options.sandbox, output_dir=options.output_dir, http=options.http)
    if not options.http:
        from refvideo_mcp.stdio import serve

        serve(settings)
        return
    from refvideo_mcp.http import serve as serve_http

    port = HTTP_PORT if options.port is None else options.port
    try:
        serve_http(settings, port)
    except OSError as error:
        raise Refused(f"127.0.0.1:{port} cannot be listened on: {error.strerror}.", "Choose another --port.") from error


def _sandbox(options: argparse.Namespace) -> None:
    from refvideo_mcp.sandbox import serve

    try:
        serve(options.host, options.port, seconds=options.seconds)
    except OSError as error:
        raise Refused(
            f"{options.host}:{options.port} cannot be listened on: {error.strerror}.", "Choose another --port."
        ) from error


def _schemas(options: argparse.Namespace) -> None:
    from refvideo_mcp.cli.schemas import schemas

    schemas(options.write)


def _config(options: argparse.Namespace) -> None:
    from refvideo_mcp.cli.config import config

    config(options.client)


def _demo(options: argparse.Namespace) -> int:
    from refvideo_mcp.cli.demo import demo

    return demo(options.prompt, options.image or [], options.out, crash=options.crash)


def _release(options: argparse.Namespace) -> int:
    from refvideo_mcp.cli.ledger import release

    return release(Settings.read(os.environ), options.key)


def _forget(options: argparse.Namespace) -> int:
    from refvideo_mcp.cli.ledger import forget

    return forget(Settings.read(os.environ), options.older_than)
