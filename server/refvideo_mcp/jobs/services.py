"""What all accounts of a process share: the router, the stores, time, and how much of each is used at once."""

import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.abc
import anyio.to_thread

from refvideo_mcp.cast import Cast, Guests
from refvideo_mcp.files import Consent
from refvideo_mcp.images import Images, Uploads
from refvideo_mcp.ledger import Job, Ledger
from refvideo_mcp.router import Router
from refvideo_mcp.videos import Videos

__all__ = ["Background", "Clock", "Pending", "PendingPosts", "Services", "Turns"]

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Args = TypeVarTuple("Args")

MOST_REQUESTS = 20
MOST_DOWNLOADS = 3
DISK_THREADS = 4
LEDGER_THREADS = 4
BRIEF_SECONDS = 1.0
TURN_SECONDS = 4.0
CLOSE_SECONDS = 30.0


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


class Turns:
    """So many at once, of those that `all_turns` allows."""

    def __init__(self, most: int, all_turns: "Turns | None" = None):
        self._own = anyio.CapacityLimiter(most)
        self._all = all_turns

    async def __aenter__(self) -> None:
        await self._own.acquire()
        if self._all is not None:
            try:
                await self._all.__aenter__()
            except BaseException:
                self._own.release()
                raise

    async def __aexit__(self, *exception: object) -> None:
        if self._all is not None:
            await self._all.__aexit__(*exception)
        self._own.release()


class Pending:
    """How much is under way that a process which ends has to wait for."""

    def __init__(self) -> None:
        self.count = 0
        self._done: list[Callable[[], None]] = []

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1
        while self.count == 0 and self._done:
            self._done.pop()()

    def when_done(self, call: Callable[[], None]) -> None:
        """Call back once, as soon as nothing is under way."""
        if self.count == 0:
            call()
        else:
            self._done.append(call)


class PendingPosts(Pending):
    """How many POSTs are under way: a process that ends now would lose their answers.

    `ending` is set by a door that is about to: no further POST is begun, whoever only waits for a video is answered
    within seconds, and `saves`, which counts the videos that are being saved here, is down to 0 as soon.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ending = False
        self.saves = Pending()


async def _shielded(*, task_status: anyio.abc.TaskStatus[anyio.abc.TaskGroup]) -> None:
    """Tasks that nothing but their own group cancels: a client that is gone must not break off a POST."""
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            task_status.started(tasks)
            await anyio.sleep_forever()


@dataclass
class Services:
    """Built once. An account with a router of its own gets a copy: the limits stay shared.

    `hands_out_files`: callers can open what is saved here; False over HTTP, where only links reach them.
    `forgets`: router and ledger are this process's own, and end with it. `adopts`: jobs that the ledger lacks may be
    asked for; False where several accounts share a router key, which opens all their jobs. `news_read`: when those of
    an account were last read, in steady seconds; not since one of its jobs has succeeded here.
    """

    router: Router
    ledger: Ledger
    images: Images
    videos: Videos
    consent: Consent
    clock: Clock
    pending_posts: PendingPosts
    cast: Cast = field(default_factory=lambda: Cast(None))
    guests: Guests = field(default_factory=lambda: Guests(None))
    hands_out_files: bool = True
    forgets: bool = False
    adopts: bool = True
    news_read: dict[str, float] = field(default_factory=dict)
    uploads: Uploads = field(default_factory=Uploads)
    requests: Turns = field(default_factory=lambda: Turns(MOST_REQUESTS))
    downloads: Turns = field(default_factory=lambda: Turns(MOST_DOWNLOADS))
    _ledger_readers: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(LEDGER_THREADS))
    _ledger_writers: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(LEDGER_THREADS))
    _threads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(math.inf))
    _disk_threads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(DISK_THREADS))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Background]:
        """For as long as accounts are served; POSTs that are under way then are waited for, 30 s at most."""
        try:
            async with anyio.create_task_group() as beside:
                tasks = await beside.start(_shielded)
                try:
                    yield Background(tasks)
                finally:
                    try:
                        with anyio.CancelScope(shield=True):
                            done = anyio.Event()
                            self.pending_posts.when_done(done.set)
                            await self.clock.wait(done, CLOSE_SECONDS)
                    finally:  # a second Ctrl-C knows no shield
                        tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self.router.aclose()
                await anyio.to_thread.run_sync(self.ledger.close)

    def saves(self, job: Job) -> bool:
        """Whether the job's video is to be put on this disk."""
        return self.videos.folder is not None or job.save_to is not None

    async def keeps(self, job: Job) -> bool:
        """Whether the job's video is on this disk, which may be one that does not answer: a server's that is gone."""
        if job.saved_to is None:
            return False
        is_file = Path(job.saved_to).is_file
        return await anyio.to_thread.run_sync(is_file, limiter=self._disk_threads, abandon_on_cancel=True)

    async def on_disk(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that may wait for a disk. A caller who is cancelled leaves it behind."""
        return await anyio.to_thread.run_sync(
            lambda: function(*args, **kwargs), limiter=self._disk_threads, abandon_on_cancel=True
        )

    async def ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of the ledger in a thread of its own: slow pictures must not hold it up.

        Raises:
            LedgerError: the ledger cannot be used, or has no time within seconds.
        """
        async with self._turn(function, TURN_SECONDS):
            return await anyio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=self._threads)

    async def ask_within(self, seconds: float, function: Callable[[float], T]) -> T:
        """The same, where `function` ends by itself within the seconds that it gets: those that are left at its turn.

        Raises:
            LedgerError: the ledger cannot be used, or has no time within `seconds`; then `function` was not called.
        """
        give_up = time.monotonic() + seconds
        async with self._turn(function, seconds):
            return await anyio.to_thread.run_sync(lambda: function(give_up - time.monotonic()), limiter=self._threads)

    async def ask_briefly(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """The same as `ask`, for what an answer does not wait for longer than a second; then None.

        Raises:
            LedgerError: the ledger cannot be used.
        """
        with anyio.move_on_after(BRIEF_SECONDS):
            async with self._turn(function, TURN_SECONDS):
                return await anyio.to_thread.run_sync(
                    lambda: function(*args, **kwargs), limiter=self._threads, abandon_on_cancel=True
                )
        return None

    @asynccontextmanager
    async def _turn(self, function: Callable[..., object], seconds: float) -> AsyncIterator[None]:
        """One of a few threads: those that only read do not queue behind those that write, and that may be locked out.

        Raises:
            LedgerError: none was free within `seconds`.
        """
        limiter = self._ledger_readers if getattr(function, "reads", False) else self._ledger_writers
        turn = object()
        with anyio.move_on_after(seconds) as waiting:
            await limiter.acquire_on_behalf_of(turn)
        if waiting.cancelled_caught:
            raise self.ledger.busy()
        try:
            yield
        finally:
            limiter.release_on_behalf_of(turn)
