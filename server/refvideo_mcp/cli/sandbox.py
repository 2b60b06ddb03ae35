"""`refvideo-mcp sandbox`: the simulated router on its own."""

import argparse

from refvideo_mcp.errors import Refused

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="port to listen on (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long a job takes (default %(default)s)")


def run(options: argparse.Namespace) -> None:
    from refvideo_mcp.sandbox import serve

    try:
        serve(options.host, options.port, seconds=options.seconds)
    except OSError as error:
        raise Refused(
            f"{options.host}:{options.port} cannot be listened on: {error.strerror}.", "Choose another --port."
        ) from error
