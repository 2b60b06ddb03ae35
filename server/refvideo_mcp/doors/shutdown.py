"""How a process ends that may be buying a job: alike for stdio, HTTP and the command line.

The first signal ends it at once or, where a POST is on its way, when that is answered; the second ends it now.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from refvideo_mcp.jobs import PendingPosts
from refvideo_mcp.logs import last_words, say

__all__ = ["BEING_SUBMITTED", "PATIENCE_SECONDS", "Shutdown"]

PATIENCE_SECONDS = 30.0
BEING_SUBMITTED = "refvideo-mcp: a job is being submitted; ending when the router has answered."
# A closed terminal is no reason to lose a job either. Windows has no SIGHUP, and nobody else SIGBREAK.
_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


class Shutdown:
    """`pending_posts` is what the end waits for, `leftovers` what would stay behind if the process just ended."""

    def __init__(self) -> None:
        self.pending_posts = PendingPosts()
        self.leftovers = ExitStack()
        self._alarm: threading.Timer | None = None

    @contextmanager
    def on_signal(self, end: Callable[[int], object]) -> Iterator[None]:
        """While the block runs: call `end` at the first signal that is to end this process; the second ends it.

        nohup, and whoever else has a signal ignored, has its way.
        """
        before = {number: signal.getsignal(number) for number in _ENDING}
        heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

        def hear(number: int, _: object) -> None:
            for each in heard:
                signal.signal(each, signal.SIG_DFL)
            end(number)

        for number in heard:
            signal.signal(number, hear)
        try:
            yield
        finally:
            for number in heard:
                signal.signal(number, before[number])
            if self._alarm is not None:
                self._alarm.cancel()

    def begin(self) -> None:
        """Buy nothing more."""
        self.pending_posts.ending = True
        if self.pending_posts.count:
            say(BEING_SUBMITTED)

    def leave_in(self, seconds: float, code: int) -> None:
        """End the process by then, whatever is still under way."""
        self._alarm = threading.Timer(seconds, self.leave, [code])
        self._alarm.daemon = True
        self._alarm.start()

    def leave(self, code: int) -> None:
        """End the process now."""
        # Not by an exception: a thread blocked in reading stdin would keep the interpreter from ending.
        try:
            self.leftovers.close()
            last_words()
        finally:
            os._exit(code)
