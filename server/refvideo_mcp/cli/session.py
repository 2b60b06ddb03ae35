"""What the commands about jobs share: settings, and the jobs themselves for as long as one command runs."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio

from refvideo_mcp.app import running
from refvideo_mcp.errors import Refused, RefvideoError
from refvideo_mcp.jobs import InFlight, Jobs
from refvideo_mcp.logs import configure_logging
from refvideo_mcp.settings import Settings

__all__ = ["read_settings", "with_jobs"]

Result = TypeVar("Result")


def read_settings(*, needs_memory: bool) -> Settings:
    """The settings of a command about jobs; `needs_memory`: it is of use only for jobs of other commands.

    Raises:
        Refused: there is no key, or only a sandbox that would forget.
    """
    settings = Settings.read(os.environ)
    if not settings.api_key:
        raise Refused(
            "MYROUTER_API_KEY is not set.", "Set it to your router's key, or to sandbox: that simulates the router."
        )
    if settings.sandbox and needs_memory:
        raise Refused(
            "MYROUTER_API_KEY=sandbox simulates the router inside one command, and forgets its jobs when that ends.",
            "To come back to jobs, run refvideo-mcp sandbox, which says what to set.",
        )
    configure_logging(settings)
    return settings


def with_jobs(settings: Settings, work: Callable[[Jobs], Awaitable[Result]]) -> Result:
    """Run `work` on the account's jobs. A POST on its way is waited for, 30 s at most, or until a second Ctrl-C.

    Raises:
        RefvideoError: as `work` does.
        KeyboardInterrupt: Ctrl-C, or another signal that ends a process.
    """
    in_flight = InFlight()
    ended: list[Result | RefvideoError | KeyboardInterrupt] = []

    async def run() -> None:
        scope = anyio.CancelScope()
        with _cancelled_by_signals(scope, in_flight):
            async with running(settings, in_flight=in_flight) as state:
                with scope:
                    try:
                        result = await work(state.jobs)
                        if not scope.cancel_called:  # else it is what a wait that was broken off had so far
                            ended.append(result)
                    except (RefvideoError, KeyboardInterrupt) as error:
                        ended.append(error)  # raised here, it would come out in a group of the jobs' own task group
                if not ended and in_flight.count:
                    sys.stderr.write(
                        "refvideo-mcp: a job is being submitted; ending when the router has answered.\n"
                        "Ctrl-C again ends now; refvideo-mcp list then shows what became of it.\n"
                    )

    anyio.run(run)
    if not ended:
        raise KeyboardInterrupt
    if isinstance(ended[0], RefvideoError | KeyboardInterrupt):
        raise ended[0]
    return ended[0]


@contextmanager
def _cancelled_by_signals(scope: anyio.CancelScope, in_flight: InFlight) -> Iterator[None]:
    """The first signal cancels the scope, inside which shields hold; the second ends the process at once."""
    loop = asyncio.get_running_loop()
    # A closed terminal must not lose a job either; nohup has its way.
    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in signals}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def interrupt() -> None:
        scope.cancel()
        in_flight.ending = True

    def end(*_: object) -> None:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)
        loop.call_soon_threadsafe(interrupt)

    for number in heard:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
