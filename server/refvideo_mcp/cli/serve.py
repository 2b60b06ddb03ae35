"""`refvideo-mcp serve`, and `refvideo-mcp` alone."""

import argparse
import os

from refvideo_mcp.cli.options import port
from refvideo_mcp.errors import InvalidCall, Refused
from refvideo_mcp.settings import Settings

__all__ = ["add_options", "run"]

HTTP_PORT = 8766


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sandbox", action="store_true", help="simulate the router in this process; nothing is paid")
    parser.add_argument("--output-dir", metavar="DIR", help="where finished videos go; 'off' = do not save")
    parser.add_argument("--http", action="store_true", help="serve Streamable HTTP instead, to this machine only")
    parser.add_argument("--port", type=port, help=f"port of --http (default {HTTP_PORT}); 0 takes a free one")


def run(options: argparse.Namespace) -> None:
    if options.port is not None and not options.http:
        raise InvalidCall("--port is for --http.")
    settings = Settings.to_serve(os.environ, sandbox=options.sandbox, output_dir=options.output_dir, http=options.http)
    if not options.http:
        from refvideo_mcp.doors.stdio import serve

        serve(settings)
        return
    from refvideo_mcp.doors.http import serve as serve_http

    at = HTTP_PORT if options.port is None else options.port
    try:
        serve_http(settings, at)
    except OSError as error:
        raise Refused(f"127.0.0.1:{at} cannot be listened on: {error.strerror}.", "Choose another --port.") from error
