"""`refvideo-mcp serve`, which `refvideo-mcp` alone is too, and `refvideo-mcp sandbox`."""

import argparse
import os

from refvideo_mcp.cli.options import number, port
from refvideo_mcp.errors import InvalidCall, Refused
from refvideo_mcp.startup import hastened

__all__ = ["add_sandbox", "add_serve"]

HTTP_HOST = "127.0.0.1"
HTTP_PORT = 8766


def add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sandbox", action="store_true", help="simulate the router in this process; nothing is paid")
    parser.add_argument("--output-dir", metavar="DIR", help="where finished videos go; 'off' = do not save")
    parser.add_argument("--http", action="store_true", help="serve Streamable HTTP instead")
    parser.add_argument("--host", help=f"address of --http (default {HTTP_HOST}, for this machine only)")
    parser.add_argument("--port", type=port, help=f"port of --http (default {HTTP_PORT}); 0 takes a free one")
    parser.add_argument(
        "--auth", choices=["tokens", "oauth"], help="how callers of --http show who they are (default: not)"
    )
    parser.add_argument(
        "--allowed-host", action="append", metavar="HOST", help="another name under which --http is called"
    )
    parser.add_argument(
        "--allowed-origin", action="append", metavar="ORIGIN", help="the origin of web pages that may call --http"
    )
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> None:
    for name in ("host", "port", "auth", "allowed_host", "allowed_origin"):
        if getattr(options, name) is not None and not options.http:
            raise InvalidCall(f"--{name.replace('_', '-')} is for --http.")
    with hastened():
        from refvideo_mcp.settings import Settings
    settings = Settings.to_serve(
        os.environ, sandbox=options.sandbox, output_dir=options.output_dir, http=options.http, auth=options.auth or ""
    )
    if not options.http:
        with hastened():
            from refvideo_mcp.doors.stdio import serve
        serve(settings)
        return
    with hastened():
        from refvideo_mcp.doors.http import serve as serve_http
    host, at = options.host or HTTP_HOST, HTTP_PORT if options.port is None else options.port
    names = {"allowed_hosts": options.allowed_host or (), "allowed_origins": options.allowed_origin or ()}
    try:
        serve_http(settings, host, at, os.environ, **names)
    except OSError as error:
        raise Refused(f"{host}:{at} cannot be listened on: {error.strerror}.", "Choose another --port.") from error


def add_sandbox(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=port, default=8765, help="port to listen on (default %(default)s)")
    parser.add_argument(
        "--seconds", type=number(0, 3600), default=8.0, help="how long a job takes (default %(default)s)"
    )
    parser.set_defaults(run=_sandbox)


def _sandbox(options: argparse.Namespace) -> None:
    from refvideo_mcp.sandbox import serve

    try:
        options.host.encode("idna")  # what cannot be written so is a TypeError further down
        serve(options.host, options.port, seconds=options.seconds)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "that is no host"
        raise InvalidCall(
            f"{options.host}:{options.port} cannot be listened on: {reason}.", "Choose another --port or --host."
        ) from error
