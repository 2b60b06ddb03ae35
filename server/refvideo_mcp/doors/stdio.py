"""The stdio door: what an MCP client's configuration runs."""

import os
import select
import struct
import sys
from contextlib import suppress

import anyio

from refvideo_mcp.app import build_server
from refvideo_mcp.doors.shutdown import PATIENCE_SECONDS, Shutdown
from refvideo_mcp.jobs import Caller
from refvideo_mcp.logs import logging_to_stderr, say
from refvideo_mcp.settings import Settings
from refvideo_mcp.startup import hastened

if sys.platform != "win32":
    import fcntl
    import termios

__all__ = ["serve"]

PATIENCE_WITH_SAVES_SECONDS = 5.0


def serve(settings: Settings) -> None:
    """Speak MCP on stdin and stdout until stdin closes. A signal ends the process."""
    shutdown, client = Shutdown(), _Client()
    pending_posts = shutdown.pending_posts

    def end(number: int) -> None:
        shutdown.begin()
        # Videos that are being saved are left to the next process, which takes a second.
        if pending_posts.count or pending_posts.saves.count:
            patience = PATIENCE_SECONDS if pending_posts.count else PATIENCE_WITH_SAVES_SECONDS
            shutdown.leave_in(patience, 128 + number)
        pending_posts.when_done(lambda: pending_posts.saves.when_done(lambda: shutdown.leave(128 + number)))

    with logging_to_stderr(settings), shutdown.on_signal(end):
        if sys.stdin.isatty():
            say(
                "refvideo-mcp speaks MCP here, on stdin and stdout: an AI client starts it. Ctrl-C ends it.\n"
                "To see a video made, run: refvideo-mcp demo. For everything else: refvideo-mcp --help"
            )
        caller = Caller(hung_up=client.hung_up, has_unread=client.has_unread)
        with hastened():
            server = build_server(settings, pending_posts=pending_posts, leftovers=shutdown.leftovers, caller=caller)
        anyio.run(server.run_stdio_async)


class _Client:
    """Who reads what is written to stdout, as far as the system tells of it: Windows tells nothing."""

    def __init__(self) -> None:
        self._fd = os.dup(1)  # while it serves, the SDK puts stderr there

    def hung_up(self) -> bool:
        """Whether nobody is there any more who could read."""
        if sys.platform == "win32":
            return False
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))

    def has_unread(self) -> bool:
        """Whether something that was written has not been read yet. macOS tells it of neither pipes nor sockets."""
        if sys.platform == "win32":
            return False
        for question in (termios.TIOCOUTQ, termios.FIONREAD):  # for a socket, as Node's; for a pipe
            with suppress(OSError):
                (count,) = struct.unpack("i", fcntl.ioctl(self._fd, question, bytes(4)))
                return bool(count)
        return False
