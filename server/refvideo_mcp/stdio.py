"""The stdio door: what an MCP client's configuration runs."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType

import anyio

from refvideo_mcp.app import build_server
from refvideo_mcp.jobs import InFlight
from refvideo_mcp.logs import configure_logging, last_words, say
from refvideo_mcp.settings import Settings

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
    anyio.run(build_server(settings, in_flight=in_flight, leftovers=leftovers).run_stdio_async)


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
