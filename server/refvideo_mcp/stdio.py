"""The stdio door: what an MCP client's configuration runs."""

import os
import select
import signal
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import FrameType

import anyio

from refvideo_mcp.app import build_server
from refvideo_mcp.jobs import Caller, InFlight
from refvideo_mcp.logs import configure_logging, last_words, say
from refvideo_mcp.settings import Settings

if sys.platform != "win32":
    import fcntl
    import termios

__all__ = ["serve"]

PATIENCE_SECONDS = 30.0
PATIENCE_WITH_SAVES_SECONDS = 5.0


def serve(settings: Settings) -> None:
    """Speak MCP on stdin and stdout until stdin closes. A signal ends the process."""
    configure_logging(settings)
    if sys.stdin.isatty():
        say(
            "refvideo-mcp speaks MCP here, on stdin and stdout: an AI client starts it. Ctrl-C ends it.\n"
            "To see a video made, run: refvideo-mcp demo. For everything else: refvideo-mcp --help"
        )
    in_flight, leftovers = InFlight(), ExitStack()
    for number in _ending_signals():
        signal.signal(number, _ending(in_flight, leftovers))
    client = _Client()
    caller = Caller(hung_up=client.hung_up, has_unread=client.has_unread)
    anyio.run(build_server(settings, in_flight=in_flight, leftovers=leftovers, caller=caller).run_stdio_async)


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


def _ending_signals() -> list[signal.Signals]:
    """A closed terminal is no reason to lose a job either; nohup has its way."""
    ending = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # Windows has none
        ending.append(signal.SIGHUP)
    return ending


def _ending(in_flight: InFlight, leftovers: ExitStack) -> Callable[[int, FrameType | None], None]:
    """A signal handler: the first signal ends the process at once, or when the POSTs in flight are answered.

    Videos that are being saved are left to the next process, which takes a second.
    """

    def leave(code: int) -> None:
        try:
            leftovers.close()
            last_words()
        finally:
            os._exit(code)

    def end(number: int, _: FrameType | None) -> None:
        # Not an exception: a thread blocked in reading stdin would keep the interpreter from ending.
        for ending in _ending_signals():
            signal.signal(ending, signal.SIG_DFL)
        in_flight.ending = True
        if in_flight.count:
            say("refvideo-mcp: a job is being submitted; ending when the router has answered.")
        if in_flight.count or in_flight.saves.count:
            patience = PATIENCE_SECONDS if in_flight.count else PATIENCE_WITH_SAVES_SECONDS
            timer = threading.Timer(patience, leave, [128 + number])
            timer.daemon = True
            timer.start()
        in_flight.when_landed(lambda: in_flight.saves.when_landed(lambda: leave(128 + number)))

    return end
