"""`refvideo-mcp sandbox`: the simulated router on its own."""

import argparse

from refvideo_mcp.cli.options import number, port
from refvideo_mcp.errors import InvalidCall

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=port, default=8765, help="port to listen on (default %(default)s)")
    parser.add_argument(
        "--seconds", type=number(0, 3600), default=8.0, help="how long a job takes (default %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    from refvideo_mcp.sandbox import serve

    try:
        options.host.encode("idna")  # what cannot be written so is a TypeError further down
        serve(options.host, options.port, seconds=options.seconds)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "that is no host"
        raise InvalidCall(
            f"{options.host}:{options.port} cannot be listened on: {reason}.", "Choose another --port or --host."
        ) from error
