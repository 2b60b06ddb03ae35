"""Whatever happens in whatever order, no job is bought twice and none is lost: Hypothesis looks for a failing order.

The machine drives two processes on one ledger, with a router that answers when a rule says so, and keeps a model of
what was bought and who was told. There are no threads and no real time: a rule runs the event loop until nothing moves.
"""

import asyncio
import itertools
import json
import os
import random
import tempfile
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import patch

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from marker import KEY as API_KEY
from refvideo_mcp.errors import Refused, RefvideoError, SubmitRejected, Uncertain
from refvideo_mcp.images import Grants, Images
from refvideo_mcp.jobs import Crew, InFlight, Jobs, Limits, Permissions, Submission
from refvideo_mcp.jobs.buying import ON_ITS_WAY_SECONDS
from refvideo_mcp.ledger import Job, Ledger
from refvideo_mcp.router import Router
from refvideo_mcp.schemas import ReferenceVideoRequest
from refvideo_mcp.videos import Videos
from virtual_time import VirtualClock

if TYPE_CHECKING:
    from sqlalchemy import Connection

ACCOUNT = "local@router.example"
SECONDS, DAY_SECONDS, ALLOWED = 5, 24 * 3600.0, 40
SCENES = ["@1 runs", "@1 sleeps"]
KEYS = [None, None, "key-0123456789-a", "key-0123456789-b"]
PROCESSES = [0, 1]
HOW = ["accepted", "accepted", "accepted unheard", "rejected", "lost"]
T = TypeVar("T")


class Clock(VirtualClock):
    """Time passes when a rule says so."""

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
    def _transaction(self, account: str | None = None, **options: Any) -> Iterator["Connection"]:
        if self.dead:
            raise Refused("The process is dead.")
        if self.fails:
            raise Refused("The disk is full.")
        with super()._transaction(account, **options) as connection:
            yield connection


class Unattended(InFlight):
    """A process that does not wait for its POSTs when it ends."""

    def when_landed(self, call: Any) -> None:
        call()


@dataclass(eq=False)
class Post:
    """A submission at the router, which answers when `answer` is set."""

    scene: str
    task_id: str
    begun: float
    answer: httpx2.Response | None = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    abandoned: bool = False  # nobody is left to hear the answer
    bought: bool = False

    @property
    def is_open(self) -> bool:
        return not self.answered.is_set()


@dataclass(eq=False)
class Bought:
    """What the model knows of a job: the row, as it should be. Times are the wall clock's."""

    id: str
    scene: str
    key: str
    process: int
    opened: float
    post: Post
    state: str = "submitting"
    doubted: float = 0.0
    lapsed: float | None = None  # when its deadline passed without an answer
    delivered: bool = False
    released: bool = False

    def at(self, now: float) -> str:
        return "uncertain" if self.state == "submitting" and now > self.opened + 120 else self.state


@dataclass(eq=False)
class Call:
    """A call of generate_reference_video that somebody made, and the job that the model says it is.

    Times are the steady clock's.
    """

    process: int
    scene: str
    begun: float
    key: str | None
    scope: anyio.CancelScope = field(init=False)
    outcome: Submission | RefvideoError | None = None
    over_at: float | None = None
    cancelled: bool = False
    job: Bought | None = None
    joined: bool = False
    left: int = 0
    seen: bool = False


class Process:
    """One server process, without its MCP face."""

    def __init__(self, number: int, database: Path, clock: Clock, transport: httpx2.AsyncBaseTransport) -> None:
        self.number = number
        self.ledger = MortalLedger(database)
        images, videos = Images(folders=[], grants=None), Videos(None)
        self._crew = Crew(
            account=ACCOUNT,
            router=Router("https://router.example", API_KEY, transport=transport),
            ledger=self.ledger,
            images=images,
            videos=videos,
            permissions=Permissions(images, videos, Grants(None)),
            clock=clock,
            in_flight=Unattended(),
        )
        self._scope = anyio.CancelScope()
        self._tasks: set[asyncio.Task[None]] = set()
        self.jobs: Jobs | None = None

    async def start(self) -> None:
        async def live() -> None:
            with self._scope:
                async with Jobs.open(self._crew, Limits(ALLOWED, open_jobs=0)) as self.jobs:
                    await anyio.sleep_forever()

        self.begin(live())

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)

    def kill(self) -> None:
        self.ledger.dead = True
        self._scope.cancel()

    async def buried(self) -> None:
        await asyncio.gather(*self._tasks)


class JobsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="refvideo-")
        self.database = Path(self.folder.name) / "ledger.db"
        self.clock = Clock()
        self.posts: list[Post] = []
        self.known: list[Bought] = []
        self.calls: list[Call] = []
        # (process, job): when a caller there was told its task id; the ledger knows a moment later
        self.answers: dict[tuple[int, Bought], float] = {}
        self.numbers = itertools.count(1)
        self.observed_at = self.clock.now()
        self.without_threads = patch.object(anyio.to_thread, "run_sync", _inline)
        self.without_threads.start()
        self.with_same_ids = patch.object(uuid, "uuid4", _uuid)
        self.with_same_ids.start()
        self.runner = asyncio.Runner()
        self.reader = Ledger(self.database)
        self.processes: list[Process] = []
        for number in PROCESSES:
            self.processes.append(self.run(self._started(number)))

    def teardown(self) -> None:
        self.run(self._ended())
        self.reader.close()
        self.runner.close()
        self.without_threads.stop()
        self.with_same_ids.stop()
        self.folder.cleanup()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def until_idle() -> T:
            done = await work
            await self.clock.idle()
            return done

        return self.runner.run(until_idle())

    async def _started(self, number: int) -> Process:
        process = Process(number, self.database, self.clock, httpx2.MockTransport(self._router))
        await process.start()
        return process

    async def _kill(self, number: int) -> None:
        killed = self.processes[number]
        killed.kill()
        for call in self.calls:
            if call.process == number and call.over_at is None:
                call.cancelled = True
                call.scope.cancel()
        await killed.buried()

    async def _ended(self) -> None:
        for number in PROCESSES:
            await self._kill(number)

    async def _router(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            task_id = request.url.params["task_id"]
            post = next(p for p in self.posts if p.task_id == task_id)
            done = self.clock.steady() - post.begun > 300
            status = "TASK_STATUS_SUCCEED" if done else "TASK_STATUS_PROCESSING"
            videos = [{"video_url": "https://cdn.example/video.mp4"}] if done else []
            return httpx2.Response(200, json={"task": {"task_id": task_id, "status": status}, "videos": videos})
        scene = json.loads(request.content)["prompt"]
        post = Post(scene, f"task-{next(self.numbers)}", self.clock.steady())
        self.posts.append(post)
        try:
            await post.answered.wait()
        finally:
            post.abandoned = post.is_open
        if post.answer is None:
            raise httpx2.ReadError("connection reset", request=request)
        return post.answer

    # What happens

    # Hypothesis leaves rules out at random: several ways to submit, so that hardly an order is without a job.

    @initialize(number=st.sampled_from(PROCESSES))
    def begin(self, number: int) -> None:
        self._submit(number, SCENES[0], None, False)

    @rule(
        number=st.sampled_from(PROCESSES),
        scene=st.sampled_from(SCENES),
        key=st.sampled_from(KEYS),
        release=st.booleans(),
    )
    def submit(self, number: int, scene: str, key: str | None, release: bool) -> None:
        self._submit(number, scene, key, release)

    @rule(number=st.sampled_from(PROCESSES), key=st.sampled_from(KEYS), accepted=st.booleans())
    def repeat(self, number: int, key: str | None, accepted: bool) -> None:
        posts = len(self.posts)
        self._submit(number, self.calls[-1].scene, key, False)
        if accepted and len(self.posts) > posts:
            self._answer(self.posts[-1], "accepted")

    @rule(
        before=st.sampled_from([0.4, 7.0, 33.0, 70.0]),
        how=st.sampled_from(HOW),
        after=st.sampled_from([0.4, 2.0, 33.0, 400.0]),
    )
    def answer_and_repeat(self, before: float, how: str, after: float) -> None:
        """What happens to people: an answer sooner or later, or none, and the same call again."""
        self._pass(before)
        if self.posts[-1].is_open:
            self._answer(self.posts[-1], how)
        self._pass(after)
        self._submit(self.calls[-1].process, self.calls[-1].scene, None, False)

    def _submit(self, number: int, scene: str, key: str | None, release: bool) -> None:
        call = Call(number, scene, self.clock.steady(), key)
        expected, job = self._expected(number, scene, key, release)
        posts = len(self.posts)
        self.calls.append(call)
        self.run(self._begin(call, release))

        assert len(self.posts) - posts == (expected == "post"), (expected, call.outcome)
        if expected == "post":
            job = self._bought(call)
        call.job, call.joined, call.left = job, expected == "join", ALLOWED - self._used()
        if expected == "refuse":
            assert isinstance(call.outcome, Refused)
        self._observe()

    def _bought(self, call: Call) -> Bought:
        (row,) = [row for row in self._rows() if row.id not in {known.id for known in self.known}]
        doubtful = any(known.at(self.clock.now()) == "uncertain" for known in self._recent())
        assert any("may exist already" in warning for warning in row.warnings) is doubtful
        job = Bought(row.id, call.scene, row.key, call.process, self.clock.now(), self.posts[-1])
        self.known.append(job)
        return job

    @rule(number=st.sampled_from(PROCESSES), scene=st.sampled_from(SCENES), steps=st.integers(0, 30))
    def submit_and_cancel_at_once(self, number: int, scene: str, steps: int) -> None:
        """A client in a hurry: its call buys nothing if its job was not remembered yet, else the POST goes on."""
        call = Call(number, scene, self.clock.steady(), None)
        expected, job = self._expected(number, scene, None, False)
        posts = len(self.posts)
        self.calls.append(call)

        async def begin_and_cancel() -> None:
            await self._begin(call, False)
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancelled = call.over_at is None
            call.scope.cancel()

        self.run(begin_and_cancel())
        if len(self.posts) > posts:
            assert expected == "post"
            job = self._bought(call)
        call.job, call.joined, call.left = job, expected == "join", ALLOWED - self._used()
        self._observe()
        assert call.over_at is not None

    @precondition(lambda self: any(call.over_at is None for call in self.calls))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from([call for call in self.calls if call.over_at is None]))
        call.cancelled = True
        self.run(_do(call.scope.cancel))
        self._observe()
        assert call.over_at is not None

    @precondition(lambda self: any(post.is_open for post in self.posts))
    @rule(data=st.data(), how=st.sampled_from(HOW))
    def answer(self, data: st.DataObject, how: str) -> None:
        self._answer(data.draw(st.sampled_from([post for post in self.posts if post.is_open])), how)

    def _answer(self, post: Post, how: str) -> None:
        job = self._job_of(post)
        post.bought = how.startswith("accepted")
        post.answer = {
            "accepted": httpx2.Response(200, json={"task_id": post.task_id}),
            "accepted unheard": httpx2.Response(502, text="Bad gateway"),
            "rejected": httpx2.Response(400, json={"reason": "ILLEGAL_PROMPT", "message": "no"}),
            "lost": None,
        }[how]
        if not post.abandoned:
            job.doubted = self._doubted(job) if job.at(self.clock.now()) == "uncertain" else self.clock.now()
            job.state = {"accepted": "accepted", "rejected": "rejected"}.get(how, "uncertain")
        self.run(_do(post.answered.set))
        self._observe()

    @precondition(lambda self: any(self._is_heard_in_peace(post) for post in self.posts))
    @rule(data=st.data(), how=st.sampled_from(HOW), seconds=st.sampled_from([0.4, 3.0]))
    def answer_while_the_ledger_fails(self, data: st.DataObject, how: str, seconds: float) -> None:
        """The process that hears the answer can write it down some seconds later only."""
        post = data.draw(st.sampled_from([post for post in self.posts if self._is_heard_in_peace(post)]))
        ledger = self.processes[self._job_of(post).process].ledger
        ledger.fails = True
        self._answer(post, how)
        self._pass(seconds)
        ledger.fails = False
        self._pass(1.5)

    @rule(seconds=st.sampled_from([0.4, 2.0, 4.0, 7.0, 33.0, 70.0, 130.0, 610.0]))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    def _pass(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))
        self._observe()

    @precondition(lambda self: any(job.opened < self.clock.now() - 3600 for job in self.known) or len(self.known) > 5)
    @rule()
    def a_day_passes(self) -> None:
        self._pass(DAY_SECONDS - 1000)

    @rule(number=st.sampled_from(PROCESSES))
    def crash_and_restart(self, number: int) -> None:
        self.run(self._kill(number))
        for told in [told for told in self.answers if told[0] == number]:
            del self.answers[told]
        self.processes[number] = self.run(self._started(number))
        self._observe()

    @rule(data=st.data(), number=st.sampled_from(PROCESSES), by_key=st.booleans())
    def look(self, data: st.DataObject, number: int, by_key: bool) -> None:
        """Somebody asks for a job, and is told within 6 seconds."""
        job = data.draw(st.sampled_from(self.known))
        rows = {row.id: row for row in self._rows()}
        handle = job.key if by_key else rows[job.id].task_id or job.key
        if handle == job.key and any(other.key == job.key for other in self.known[self.known.index(job) + 1 :]):
            return  # the key is a later job's by now
        found = self.run(self._look(number, handle))
        self._observe()
        job.delivered = True  # its id or key came back
        state = job.at(self.clock.now())
        if isinstance(found, Job):
            assert found.id == job.id
            assert found.state == "submitting" or found.task_id == job.post.task_id
        elif state == "uncertain":
            assert isinstance(found, Uncertain)
        else:
            assert state == "rejected"
            assert isinstance(found, SubmitRejected)

    @precondition(lambda self: any(self._is_doubtful(job) for job in self.known))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """The user releases a job at a terminal."""
        job = data.draw(st.sampled_from([job for job in self.known if self._is_doubtful(job)]))
        self.reader.release(job.id)
        job.released = True

    # What must hold

    @invariant()
    def no_more_is_sent_than_was_asked_for(self) -> None:
        assert len(self.posts) <= len(self.calls)

    @invariant()
    def every_job_that_was_bought_is_known_or_doubtful(self) -> None:
        rows = {row.id: row.at(self.clock.now()) for row in self._rows()}
        for job in self.known:
            row = rows[job.id]
            if job.post.bought:
                assert row.task_id == job.post.task_id or row.state in ("submitting", "uncertain")
            if job.state == "accepted":
                assert row.task_id == job.post.task_id
            elif job.state == "submitting":
                assert row.state == job.at(self.clock.now())
            else:
                assert row.state == job.state

    @invariant()
    def the_ledger_knows_who_was_told(self) -> None:
        rows = {row.id: row for row in self._rows()}
        assert {job.id: job.delivered for job in self.known} == {job_id: row.delivered for job_id, row in rows.items()}

    @invariant()
    def the_allowance_is_never_overrun(self) -> None:
        assert self._used() <= ALLOWED

    # The model

    def _expected(self, number: int, scene: str, key: str | None, release: bool) -> tuple[str, Bought | None]:
        """What a call has to become: a POST, part of an earlier job, or refused."""
        now = self.clock.now()
        twins = [job for job in self._recent() if job.scene == scene and self._is_doubtful(job)]
        fresh_twins = [job for job in twins if now - self._doubted(job) < 600]
        for job in fresh_twins if release else []:
            job.released = True
        for job in reversed(self._recent()):
            if key and job.key == key and job.at(now) != "rejected" and not job.released:
                return ("join", job) if job.scene == scene else ("refuse", None)
        if (fresh_twins and not release) or any(self._is_overdue(job, number, scene) for job in self.known):
            return "refuse", None
        if not key:
            begun = self.clock.steady()
            waiting = [c for c in self.calls if c.process == number and c.over_at is None and begun - c.begun <= 5]
            taken = {c.job for c in waiting} | {job for process, job in self.answers if process == number}
            for job in self._recent():
                lost = job.at(now) in ("submitting", "accepted") and not job.delivered and job not in taken
                if lost and job.scene == scene and now - job.opened < 600:
                    return "join", job
        return ("refuse", None) if self._used() + SECONDS > ALLOWED else ("post", None)

    def _job_of(self, post: Post) -> Bought:
        return next(job for job in self.known if job.post is post)

    def _is_heard_in_peace(self, post: Post) -> bool:
        """Whether somebody waits for the answer, and no other answer of that process is about to be remembered."""
        if not post.is_open or post.abandoned:
            return False
        number, now = self._job_of(post).process, self.clock.steady()
        ending = [c for c in self.calls if c.process == number and c.over_at is None and now - c.begun > 38]
        return not ending and not any(process == number for process, _ in self.answers)

    def _is_doubtful(self, job: Bought) -> bool:
        return job.at(self.clock.now()) == "uncertain" and not job.released

    def _is_overdue(self, job: Bought, number: int, scene: str) -> bool:
        """Whether the process has its POST open, though its deadline has passed: a clock jumped."""
        is_open = job.process == number and job.post.is_open and not job.post.abandoned
        return is_open and job.scene == scene and job.at(self.clock.now()) == "uncertain"

    def _doubted(self, job: Bought) -> float:
        """When somebody first saw that nobody knows; now, if nobody has yet."""
        if job.state == "uncertain":
            return job.doubted
        (row,) = [row for row in self._rows() if row.id == job.id]
        if row.state != "uncertain":
            return self.clock.now()
        assert job.lapsed is not None
        assert job.lapsed <= row.changed_at <= self.clock.now()
        return row.changed_at

    def _recent(self) -> list[Bought]:
        """Jobs of the last 24 hours, oldest first, as the ledger sorts them."""
        recent = [job for job in self.known if job.opened > self.clock.now() - DAY_SECONDS]
        return sorted(sorted(recent, key=lambda job: job.id, reverse=True), key=lambda job: job.opened)

    def _used(self) -> int:
        return SECONDS * sum(job.state != "rejected" for job in self._recent())

    def _rows(self) -> list[Job]:
        return self.reader.newest(ACCOUNT, 1000)

    def _observe(self) -> None:
        """Take over into the model what calls were answered since, and which deadlines passed."""
        now, before = self.clock.now(), self.observed_at
        for job in self.known:
            if job.lapsed is None and job.at(now) == "uncertain":
                job.lapsed = max(job.opened + 120, before)
        self.observed_at = now
        for call in self.calls:
            if call.seen or call.over_at is None:
                continue
            call.seen = True
            if isinstance(call.outcome, Submission):
                told, mine = call.outcome.job, call.job
                assert mine is not None
                assert (told.id, call.outcome.joined) == (mine.id, call.joined)
                assert told.state == "submitting" or told.task_id == mine.post.task_id
                assert call.outcome.seconds_left == call.left
                assert call.over_at - call.begun < 45.001
                if (told.task_id and call.over_at - call.begun <= 10) or (call.joined and call.key):
                    self.answers.setdefault((call.process, mine), call.over_at)
            elif call.outcome is None:
                assert call.cancelled
            elif call.job is not None:
                ending = {"rejected": SubmitRejected, "uncertain": Uncertain}[call.job.at(self.clock.now())]
                assert isinstance(call.outcome, ending)
        for (process, job), told_at in list(self.answers.items()):
            if self.clock.steady() >= told_at + ON_ITS_WAY_SECONDS:
                job.delivered = True
                del self.answers[process, job]

    async def _begin(self, call: Call, release: bool) -> None:
        call.scope = anyio.CancelScope()
        process = self.processes[call.process]
        jobs = process.jobs
        assert jobs is not None
        subjects = [{"images": "https://pictures.example/cat.png"}]
        request = ReferenceVideoRequest.model_validate({"prompt": call.scene, "subjects": subjects})

        async def work() -> None:
            with call.scope:
                try:
                    async with jobs.buying.submitted(request, key=call.key, release=release, buy=True) as done:
                        call.outcome = done
                except RefvideoError as error:
                    call.outcome = error
            call.over_at = self.clock.steady()

        process.begin(work())

    async def _look(self, number: int, handle: str) -> Job | RefvideoError:
        jobs = self.processes[number].jobs
        assert jobs is not None

        async def on_progress(job: Job, seconds: float) -> None:
            pass

        found: list[Job | RefvideoError] = []

        async def work() -> None:
            try:
                found.append(await jobs.wait(handle, 5, on_progress))
            except RefvideoError as error:
                found.append(error)

        self.processes[number].begin(work())
        await self.clock.advance(6)
        return found[0]


def _uuid() -> uuid.UUID:
    """Ids decide between jobs of one moment; Hypothesis seeds `random`, so that an order can be run again."""
    return uuid.UUID(int=random.getrandbits(128), version=4)


async def _inline(function: Any, *args: Any, **_: Any) -> Any:
    await anyio.lowlevel.checkpoint()
    return function(*args)


async def _do(action: Any) -> None:
    action()


def test_no_job_is_bought_twice_and_none_is_lost_whatever_happens() -> None:
    # The same orders every time, so that a change is judged by what it changes; EXPLORE=1 looks for new ones.
    explore = "EXPLORE" in os.environ
    run_state_machine_as_test(
        JobsMachine,
        settings=settings(
            max_examples=400 if explore else 60, stateful_step_count=30, deadline=None, derandomize=not explore
        ),
    )
