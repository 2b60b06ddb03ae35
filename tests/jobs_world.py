"""Server processes on one ledger, and a router that answers when it is told to: no threads, and no time but our own."""

import asyncio
import itertools
import math
import random
import tempfile
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import patch

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import httpx2

from jobs_model import ALLOWED, Call
from marker import KEY as API_KEY
from refvideo_mcp.errors import RefvideoError
from refvideo_mcp.files import Consent
from refvideo_mcp.images import Images
from refvideo_mcp.jobs import Account, Accounts, Limits, Order, PendingPosts, Services
from refvideo_mcp.ledger import Job, Ledger, LedgerError
from refvideo_mcp.router import Router
from refvideo_mcp.schemas import ReferenceVideoRequest
from refvideo_mcp.videos import Videos
from virtual_time import VirtualClock

if TYPE_CHECKING:
    from refvideo_mcp.ledger.rows import Rows

__all__ = ["Process", "World"]

ACCOUNT = "local@router.example"
VIDEO_SECONDS = 60.0
T = TypeVar("T")


class Clock(VirtualClock):
    """Time passes when a test says so."""

    async def idle(self) -> None:
        """Return once nothing moves without time."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        while loop.__dict__["_ready"]:  # noqa: ASYNC110
            await asyncio.sleep(0)  # there is no event for "nothing moves"

    async def advance(self, seconds: float) -> None:
        until = self._steady + seconds
        await self.idle()
        while self._sleepers and self._sleepers[0][0] <= until:
            self._steady, _, event = self._sleepers.pop(0)
            self._sleepers.sort()
            event.set()
            await self.idle()
        self._steady = until


class MortalLedger(Ledger):
    """What a process that was killed would have written is not written; nor what one writes while its disk fails."""

    dead = False
    fails = False

    @contextmanager
    def _transaction(self, account: str | None = None, **options: Any) -> Iterator["Rows"]:
        if self.dead:
            raise LedgerError("The process is dead.")
        if self.fails:
            raise LedgerError("The disk is full.")
        with super()._transaction(account, **options) as rows:
            yield rows


class Unattended(PendingPosts):
    """A process that does not wait for its POSTs when it ends."""

    def when_done(self, call: Any) -> None:
        call()


@dataclass(eq=False)
class Post:
    """A submission at the router, which answers when `answered` is set."""

    task_id: str
    begun: float
    answer: httpx2.Response | None = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class OwnRouter:
    """A router that answers a submission when it is told to, and accepts every one until then."""

    def __init__(self, clock: Clock) -> None:
        self.posts: list[Post] = []
        self._clock = clock
        self._numbers = itertools.count(1)

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        return await (self._submit(request) if request.method == "POST" else self._look(request))

    async def _submit(self, request: httpx2.Request) -> httpx2.Response:
        post = Post(f"task-{next(self._numbers)}", self._clock.steady())
        self.posts.append(post)
        await post.answered.wait()
        if post.answer is None:
            raise httpx2.ReadError("connection reset", request=request)
        return post.answer

    async def _look(self, request: httpx2.Request) -> httpx2.Response:
        task_id = request.url.params["task_id"]
        post = self.named(task_id)
        done = self._clock.steady() - post.begun > VIDEO_SECONDS
        status = "TASK_STATUS_SUCCEED" if done else "TASK_STATUS_PROCESSING"
        videos = [{"video_url": "https://cdn.example/video.mp4"}] if done else []
        return httpx2.Response(200, json={"task": {"task_id": task_id, "status": status}, "videos": videos})

    def named(self, task_id: str) -> Post:
        return next(post for post in self.posts if post.task_id == task_id)


class Process:
    """One server process, without its MCP face."""

    def __init__(self, database: Path, clock: Clock, router: OwnRouter) -> None:
        self.ledger = MortalLedger(database)
        consent = Consent()
        self._clock = clock
        self._services = Services(
            router=Router("https://router.example", API_KEY, transport=httpx2.MockTransport(router.handle)),
            ledger=self.ledger,
            images=Images(consent),
            videos=Videos(None),
            consent=consent,
            clock=clock,
            pending_posts=Unattended(),
        )
        self._scope = anyio.CancelScope()
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: list[Call] = []
        self._account: Account | None = None

    @property
    def account(self) -> Account:
        assert self._account is not None
        return self._account

    async def start(self) -> None:
        async def live() -> None:
            with self._scope:
                async with Accounts.running(self._services, Limits(ALLOWED, open_jobs=0)) as accounts:
                    self._account = accounts.of("local")
                    await anyio.sleep_forever()

        self._begin(live())

    async def submit(self, call: Call, *, release: bool, patience: int | None = None) -> None:
        """Begin a call; a caller with `patience` cancels it after so many turns of the event loop."""
        call.scope = anyio.CancelScope()
        self._calls.append(call)
        subjects = [{"images": "https://pictures.example/cat.png"}]
        request = ReferenceVideoRequest.model_validate({"prompt": call.scene, "subjects": subjects})

        def on_opened(job: Job) -> None:
            call.job_id = job.id

        async def work() -> None:
            with call.scope:
                try:
                    async with self.account.submitter.submit(
                        Order(request), key=call.key, release=release, buy=True, on_opened=on_opened
                    ) as done:
                        call.outcome = done
                except RefvideoError as error:
                    call.outcome = error
            call.over_at = self._clock.steady()

        self._begin(work())
        if patience is not None:
            for _ in range(patience):
                await asyncio.sleep(0)
            self.cancel(call)

    def cancel(self, call: Call) -> None:
        call.cancelled = call.over_at is None
        call.scope.cancel()

    async def look(self, handle: str) -> Job | RefvideoError:
        """What somebody is told of a job within 6 seconds."""
        found: list[Job | RefvideoError] = []

        async def on_progress(job: Job, seconds: float) -> None:
            pass

        async def work() -> None:
            try:
                found.append(await self.account.wait(handle, 5, on_progress))
            except RefvideoError as error:
                found.append(error)

        self._begin(work())
        await self._clock.advance(6)
        return found[0]

    async def kill(self) -> None:
        self.ledger.dead = True
        self._scope.cancel()
        for call in self._calls:
            if call.over_at is None:
                self.cancel(call)
        await asyncio.gather(*self._tasks)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))


class World:
    """Each function returns when nothing moves any more without time."""

    def __init__(self, processes: int) -> None:
        self._cleanup = ExitStack()
        folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="refvideo-"))
        self._database = Path(folder) / "ledger.db"
        self._cleanup.enter_context(patch.object(anyio.to_thread, "run_sync", _inline))
        self._cleanup.enter_context(patch.object(anyio.from_thread, "check_cancelled", _check_cancelled))
        self._cleanup.enter_context(patch.object(uuid, "uuid4", _uuid))
        self._runner = self._cleanup.enter_context(asyncio.Runner())
        self._reader = Ledger(self._database)
        self._cleanup.callback(self._reader.close)
        self.clock = Clock()
        self._router = OwnRouter(self.clock)
        self.processes = [self.run(self._started()) for _ in range(processes)]

    def end(self) -> None:
        for process in self.processes:
            self.run(process.kill())
        self._cleanup.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def until_idle() -> T:
            done = await work
            await self.clock.idle()
            return done

        return self._runner.run(until_idle())

    @property
    def task_ids(self) -> list[str]:
        """The router's, for everything that was ever sent to it."""
        return [post.task_id for post in self._router.posts]

    def submit(self, call: Call, *, release: bool = False, patience: int | None = None) -> None:
        self.run(self.processes[call.process].submit(call, release=release, patience=patience))

    def cancel(self, call: Call) -> None:
        self.run(_do(lambda: self.processes[call.process].cancel(call)))

    def answer(self, task_id: str, how: str) -> None:
        post = self._router.named(task_id)
        post.answer = {
            "accepted": httpx2.Response(200, json={"task_id": task_id}),
            "accepted unheard": httpx2.Response(502, text="Bad gateway"),
            "rejected": httpx2.Response(400, json={"reason": "ILLEGAL_PROMPT", "message": "no"}),
            "lost": None,
        }[how]
        self.run(_do(post.answered.set))

    def look(self, process: int, handle: str) -> Job | RefvideoError:
        return self.run(self.processes[process].look(handle))

    def wait(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))

    def crash(self, process: int) -> None:
        self.run(self.processes[process].kill())

    def restart(self, process: int) -> None:
        self.processes[process] = self.run(self._started())

    def release(self, job_id: str) -> None:
        """As a person does at a terminal."""
        self._reader.release(job_id)

    def rows(self) -> list[Job]:
        return self._reader.newest(ACCOUNT, 1000)

    async def _started(self) -> Process:
        process = Process(self._database, self.clock, self._router)
        await process.start()
        return process


def _uuid() -> uuid.UUID:
    """Ids decide between jobs of one moment; Hypothesis seeds `random`, so that an order can be run again."""
    return uuid.UUID(int=random.getrandbits(128), version=4)


async def _inline(function: Any, *args: Any, **_: Any) -> Any:
    """Run a function as if in a thread, which is not left when its caller is cancelled before or after it."""
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.cancel_shielded_checkpoint()
    try:
        done = function(*args)
    except _GaveUp:
        await anyio.lowlevel.checkpoint()
        raise
    await anyio.lowlevel.cancel_shielded_checkpoint()
    return done


def _check_cancelled() -> None:
    if anyio.current_effective_deadline() == -math.inf:
        raise _GaveUp


class _GaveUp(BaseException):
    """The caller of a thread was cancelled."""


async def _do(action: Any) -> None:
    action()
