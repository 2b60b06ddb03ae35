"""Time, as one object, so that tests can bring their own."""

import time

import anyio

__all__ = ["Clock"]


class Clock:
    """Wall-clock time for what is remembered, a steady clock for how long to wait. All in seconds."""

    def now(self) -> float:
        return time.time()

    def steady(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def wait(self, event: anyio.Event, seconds: float) -> bool:
        """Wait for an event, `seconds` at most; whether it came."""

        async def wake() -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wake)
            await self.sleep(max(0.0, seconds))
            tasks.cancel_scope.cancel()
        return event.is_set()
