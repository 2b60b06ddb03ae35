"""What the commands about jobs share: settings, and the jobs themselves for as long as one command runs."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from refvideo_mcp.app import running
from refvideo_mcp.doors.shutdown import BEING_SUBMITTED, Shutdown
from refvideo_mcp.errors import Refused, RefvideoError
from refvideo_mcp.jobs import Jobs
from refvideo_mcp.logs import logging_to_stderr
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
    return settings


def with_jobs(settings: Settings, work: Callable[[Jobs], Awaitable[Result]]) -> Result:
    """Run `work` on the account's jobs. A POST on its way is waited for, 30 s at most, or until a second Ctrl-C.

    Raises:
        RefvideoError: as `work` does.
        KeyboardInterrupt: Ctrl-C, or another signal that ends a process.
    """
    shutdown = Shutdown()
    in_flight = shutdown.in_flight
    ended: list[Result | RefvideoError | KeyboardInterrupt] = []

    async def run() -> None:
        scope, loop = anyio.CancelScope(), asyncio.get_running_loop()

        def interrupt() -> None:
            scope.cancel()  # before whoever waits is told to end, or the wait would end with what it has so far
            in_flight.ending = True

        with shutdown.on_signal(lambda _: loop.call_soon_threadsafe(interrupt)):
            async with running(settings, in_flight=in_flight) as state:
                with scope:  # inside which shields hold
                    try:
                        result = await work(state.jobs)
                        if not scope.cancel_called:  # else it is what a wait that was broken off had so far
                            ended.append(result)
                    except (RefvideoError, KeyboardInterrupt) as error:
                        ended.append(error)  # raised here, it would come out in a group of the jobs' own task group
                if not ended and in_flight.count:
                    sys.stderr.write(
                        f"{BEING_SUBMITTED}\nCtrl-C again ends now; refvideo-mcp list then shows what became of it.\n"
                    )

    with logging_to_stderr(settings):
        anyio.run(run)
    if not ended:
        raise KeyboardInterrupt
    if isinstance(ended[0], RefvideoError | KeyboardInterrupt):
        raise ended[0]
    return ended[0]
