"""What goes on beside the answers."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple, Unpack

import anyio.abc

__all__ = ["Background"]

log = logging.getLogger(__name__)

Args = TypeVarTuple("Args")


class Background:
    """Tasks of one group, of which none ends the others: one that breaks off is logged."""

    def __init__(self, tasks: anyio.abc.TaskGroup):
        self._tasks = tasks

    def start_soon(self, function: Callable[[Unpack[Args]], Awaitable[object]], *args: *Args) -> None:
        self._tasks.start_soon(self._run, function, args)

    async def _run(self, function: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        try:
            await function(*args)
        except Exception:
            log.exception("%s broke off", getattr(function, "__qualname__", "a task in the background"))
