"""Time that passes only while everybody waits for it, so that ten minutes of polling take a moment."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import anyio
import anyio.lowlevel
import anyio.to_thread

from refvideo_mcp.jobs import Clock

EPOCH = 1_800_000_000.0
SETTLED = 4


class VirtualClock(Clock):
    """A clock for `build_server(..., clock=clock)`; run the test inside `async with clock.passing():`."""

    def __init__(self) -> None:
        self.set_by = 0.0  # how far somebody has set the wall clock, in seconds
        self._steady = 0.0
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._numbers = itertools.count()
        self._threads = 0
        self._news = 0

    def now(self) -> float:
        return EPOCH + self._steady + self.set_by

    def steady(self) -> float:
        return self._steady

    async def sleep(self, seconds: float) -> None:
        self._news += 1
        if seconds <= 0:
            return await anyio.lowlevel.checkpoint()
        event = anyio.Event()
        sleeper = (self._steady + seconds, next(self._numbers), event)
        heapq.heappush(self._sleepers, sleeper)
        try:
            await event.wait()
        finally:
            self._news += 1
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Let time pass, as fast as the code under test allows, until the block ends."""
        run_sync = anyio.to_thread.run_sync

        async def counted(*args: Any, **kwargs: Any) -> Any:
            self._threads += 1
            try:
                return await run_sync(*args, **kwargs)
            finally:
                self._threads -= 1
                self._news += 1

        with patch.object(anyio.to_thread, "run_sync", counted):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._pass)
                yield
                tasks.cancel_scope.cancel()

    async def _pass(self) -> None:
        loop = asyncio.get_running_loop()
        settled = 0
        while True:
            news = self._news
            # What is in the loop needs turns; a thread, or whoever else works beside the loop, needs some time, too.
            await asyncio.sleep(0 if 0 < settled < SETTLED else 0.0005)
            quiet = news == self._news and self._threads == 0 and not getattr(loop, "_ready", None)
            settled = settled + 1 if quiet else 0
            if settled >= SETTLED and self._sleepers:
                until, _, event = heapq.heappop(self._sleepers)
                self._steady = max(self._steady, until)
                event.set()
                settled = 0
