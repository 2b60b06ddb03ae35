"""Buying a job, at most once: call → draft → row → POST; and finding out beforehand what a call would buy."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from refvideo_mcp.cast import listed
from refvideo_mcp.errors import Refused
from refvideo_mcp.images import LoadedRequest
from refvideo_mcp.jobs.answers import bought
from refvideo_mcp.jobs.casting import Order, OwnCast, ToKeep
from refvideo_mcp.jobs.collector import Collector
from refvideo_mcp.jobs.draft import Prepared, prepare
from refvideo_mcp.jobs.post import post
from refvideo_mcp.jobs.row import JobRow
from refvideo_mcp.jobs.rules import (
    TWIN_SECONDS,
    Here,
    Limits,
    UncertainTwin,
    Usage,
    decide,
    in_words,
    is_recent,
    seconds_left,
    twins_of,
    usage_of,
)
from refvideo_mcp.jobs.services import Background, Services
from refvideo_mcp.jobs.waiting_calls import Caller, WaitingCalls
from refvideo_mcp.ledger import Day, Draft, Job, before_buying

__all__ = ["ANSWER_SECONDS", "Quote", "Submission", "Submitter"]

ANSWER_SECONDS = 45.0
SUBMIT_SECONDS = 120.0
# Left of the 45 when the POST begins, so that a quick answer to it is not too late.
LAST_SECONDS = 1.0
DELIVERED_SECONDS = 10.0
# As long as an answer waits for the disk that the cast is on.
KEEPING_SECONDS = 5.0
LOOKED_THROUGH = 50
READING = "Reading the pictures"
TOO_LATE = ("This took too long.", "Nothing was bought: try again.")

Done = TypeVar("Done")


@dataclass(frozen=True)
class Submission:
    """What became of a call: the job, whether an earlier call had started it, and the allowance that is left.

    `sent` are the local files whose contents went where `Submitter.pictures_go_to` says, `members` those of the cast,
    `guests` those who were given in the chat.
    `kept` says what has been kept for later, and what could not be; "" where nothing was asked for, or not yet done.
    """

    job: Job
    joined: bool
    seconds_left: int | None
    allowance: str
    sent: tuple[Path, ...]
    members: tuple[str, ...] = ()
    guests: tuple[str, ...] = ()
    kept: str = ""


@dataclass
class _Keeping:
    """What came of keeping those whom a call wants to have kept."""

    kept: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    over: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True)
class Quote:
    """`buys`: a new job, not one that the call would join. `allowance`: what is left of it before."""

    buys: bool
    allowance: str


class _NewJob(Exception):
    """A job would have to be opened."""


class Submitter:
    """Buys for one account. `lock` is held while one of its jobs is opened here."""

    def __init__(
        self,
        services: Services,
        background: Background,
        account: str,
        limits: Limits,
        calls: WaitingCalls,
        collector: Collector,
    ):
        self.lock = anyio.Lock()
        self._services = services
        self._clock = services.clock
        self._background = background
        self._account = account
        self._limits = limits
        self._calls = calls
        self._collector = collector
        self._host = services.router.host
        bucket = services.images.bucket
        self.pictures_go_to = f"{self._host} through {bucket.name}" if bucket else self._host

    @asynccontextmanager
    async def submit(
        self,
        order: Order,
        *,
        roots: Sequence[Path] = (),
        key: str | None = None,
        save_to: str | None = None,
        caller: Caller | None = None,
        release: bool = False,
        buy: bool,
        on_opened: Callable[[Job], None] = lambda job: None,
    ) -> AsyncIterator[Submission]:
        """Send one job, at most once, and follow it from then on. Answers within 45 s of the call's arrival.

        The caller is answered inside the block: a call cancelled in it, or whose block raises, got no answer, and an
        identical one later joins its job. One cancelled before its job is remembered buys nothing. The job is
        `submitting` if the router has not answered by then: its POST goes on. `roots` are the client's folders.
        `release`: the user said that an identical job whose answer was lost may be sent again. Without `buy` it only
        joins an earlier job. `on_opened` gets the job as soon as it is remembered.

        Raises:
            Refused: nothing was bought: a picture, the allowance, the ledger. UncertainTwin: only the user may go on.
            SubmitRejected: the router refused; nothing was bought.
            Uncertain: it may have been accepted and billed.
        """
        caller = caller or Caller(self._clock.steady())
        prepared = await self._in_time(caller, self._prepared(order, roots, key=key, save_to=save_to), READING)
        draft = prepared.draft
        if release:
            for twin in twins_of(draft, await self._newest(), self._clock.now()):
                await self._services.ask(self._services.ledger.release, twin.id)
        row, used = await self._opened(prepared, caller, on_opened, buy=buy)
        job = row.job
        joined, is_told = job.id != draft.id, False
        try:
            if not joined:
                if prepared.loaded.pictures:
                    self._background.start_soon(self._remember_references, job.id, prepared.loaded, caller)
                self._background.start_soon(self._collector.collect_soon)
            keeping = _Keeping()
            if prepared.keep or order.members:
                self._background.start_soon(self._keep, row, prepared.keep, order.members, keeping)
            await row.until(lambda: row.job.state != "submitting", caller.begun + ANSWER_SECONDS)
            answer = bought(row, self._host)
            if prepared.keep and answer.task_id:
                with anyio.move_on_after(KEEPING_SECONDS):
                    await keeping.over.wait()
            left = seconds_left(used, self._limits)
            sent, members = ((), ()) if joined else (prepared.loaded.sent, order.members)
            guests = () if joined else order.guests
            allowance = in_words(left, self._limits)
            yield Submission(answer, joined, left, allowance, sent, members, guests, self._kept_in_words(keeping))
            in_time = self._clock.steady() - caller.begun <= DELIVERED_SECONDS
            is_told = bool(answer.task_id and in_time) or (joined and draft.key_given)
            if is_told:
                self._calls.answer(row, answer, caller)
        finally:
            self._calls.remove(job.id, caller, None if is_told else self._clock.steady())

    async def draft(self, order: Order, *, roots: Sequence[Path] = (), save_to: str | None = None) -> Prepared:
        """What `submit` would send. Nothing is sent or remembered.

        Raises:
            Refused: a picture or `save_to` cannot be used.
        """
        return await self._prepared(order, roots, save_to=save_to)

    async def quote(
        self,
        order: Order,
        roots: Sequence[Path] = (),
        *,
        key: str | None = None,
        caller: Caller | None = None,
    ) -> Quote:
        """What `submit` would buy now.

        Raises:
            Refused: it would refuse.
        """
        caller = caller or Caller(self._clock.steady())
        return await self._in_time(caller, self._quote(order, roots, key, caller), READING)

    async def _quote(self, order: Order, roots: Sequence[Path], key: str | None, caller: Caller) -> Quote:
        here, now = self._here(caller), self._clock.now()
        draft = (await self._prepared(order, roots, key=key)).draft

        def decided(day: Day) -> Quote:
            day = here.added_to(day, now)
            buys = isinstance(decide(draft, day, now, self._limits, here), Draft)
            return Quote(buys, in_words(seconds_left(day.seconds, self._limits), self._limits))

        with before_buying():
            return await self._services.ask(self._services.ledger.consider, draft, decided, now, here.kept)

    async def usage(self) -> Usage | None:
        """What of the allowance is used now; None where there is no limit. Nothing is sent or remembered."""
        if not self._limits.seconds_per_day:
            return None
        here, now = self._here(Caller(self._clock.steady())), self._clock.now()

        def decided(day: Day) -> Usage:
            return usage_of(here.added_to(day, now), now, self._limits)

        return await self._services.ask(
            self._services.ledger.consider, Draft(self._account, {}, "", "", 0), decided, now, here.kept
        )

    async def uncertain_twin(self, order: Order, roots: Sequence[Path] = ()) -> Job | None:
        """An identical job of the last minutes that may have been bought: only the user may let it be sent again."""
        now = self._clock.now()
        if not any(job.state == "uncertain" and is_recent(job, now) for job in await self._newest()):
            return None
        prepared = await self._in_time(Caller(self._clock.steady()), self._prepared(order, roots), READING)
        return next(iter(twins_of(prepared.draft, await self._newest(), now)), None)

    async def _prepared(
        self,
        order: Order,
        roots: Sequence[Path],
        *,
        key: str | None = None,
        save_to: str | None = None,
    ) -> Prepared:
        return await prepare(self._services, self._account, order, roots, key=key, save_to=save_to)

    async def _newest(self) -> list[Job]:
        now = self._clock.now()
        with before_buying():
            found = await self._services.ask(self._services.ledger.newest, self._account, LOOKED_THROUGH)
        return [job.at(now) for job in found]

    async def _opened(
        self, prepared: Prepared, caller: Caller, on_opened: Callable[[Job], None], *, buy: bool
    ) -> tuple[JobRow, int]:
        """The row of a call, and the seconds of video of that day, its own included.

        It joins a job or, with `buy`, opens a new one, whose POST begins now.

        A call cancelled before its job is remembered buys nothing; later, the POST goes on without it. `on_opened` gets
        the job, though the call be cancelled meanwhile.

        Raises:
            Refused: the rules, the ledger, the bucket or the end of this process forbid it; nothing was bought.
        """
        loaded, bucket = prepared.loaded, self._services.images.bucket
        if not buy or (bucket is not None and loaded.pictures):
            try:  # nothing is uploaded for a call that is refused anyway, or joins an earlier one
                return await self._row(prepared.draft, caller, on_opened)
            except _NewJob:
                if not buy:
                    happened = "The job that this call would have joined is answered by now."
                    raise Refused(happened, "Try again to buy.") from None
        links = {}
        if bucket is not None and loaded.pictures:
            uploads = bucket.links(loaded.pictures)
            links = await self._in_time(caller, uploads, f"Uploading the pictures to {bucket.name}")
        # 20 MB of base64 would hold up a ping.
        body = await anyio.to_thread.run_sync(loaded.body, links) if loaded.pictures else loaded.body()
        return await self._row(prepared.draft, caller, on_opened, body)

    async def _in_time(self, caller: Caller, work: Awaitable[Done], what: str) -> Done:
        """What `work` brings, within the time of a call.

        Raises:
            Refused: `what` took too long.
        """
        with anyio.move_on_after(max(0.0, self._seconds_left(caller))):
            return await work
        raise Refused(f"{what} took too long.", "Nothing was bought: use smaller or nearer files.")

    def _here(self, caller: Caller) -> Here:
        """What this process knows by itself at a caller's turn."""
        rows, left = self._collector.rows(), self._calls.left(self._clock.steady() - TWIN_SECONDS)
        return Here(
            [row.job for row in rows if row.is_real],
            frozenset(row.job.id for row in rows if row.posting),
            left,
            self._calls.busy(caller),
            self._calls.dropped,
        )

    def _seconds_left(self, caller: Caller) -> float:
        return caller.begun + ANSWER_SECONDS - self._clock.steady()

    async def _row(
        self, draft: Draft, caller: Caller, on_opened: Callable[[Job], None], body: dict[str, Any] | None = None
    ) -> tuple[JobRow, int]:
        """Without a body, only an earlier job will do."""
        # One at a time, or two identical calls would both join the same earlier job.
        try:
            with anyio.fail_after(max(0.0, self._seconds_left(caller) - LAST_SECONDS)):
                await self.lock.acquire()
        except TimeoutError:
            raise Refused(*TOO_LATE) from None
        try:
            row, used = await self._decided(draft, caller, body)
            self._calls.add(row.job.id, caller)
            try:  # one that was cancelled meanwhile waits no longer when the next call has its turn
                on_opened(row.job)
                await anyio.lowlevel.checkpoint_if_cancelled()
            except BaseException:
                self._calls.remove(row.job.id, caller, self._clock.steady())
                raise
            return row, used
        finally:
            self.lock.release()

    async def _decided(self, draft: Draft, caller: Caller, body: dict[str, Any] | None) -> tuple[JobRow, int]:
        here, now, used = self._here(caller), self._clock.now(), 0

        def choose(day: Day) -> Job | Draft:
            nonlocal used
            # Here, after the ledger has been waited for: the next step is the POST.
            if self._seconds_left(caller) < LAST_SECONDS:
                raise Refused(*TOO_LATE)
            if self._services.pending_posts.ending:
                raise Refused("This server is about to end.", "Nothing was bought: try again when it is back.")
            anyio.from_thread.check_cancelled()  # a call cancelled from here on has bought: its thread is not left
            if caller.is_gone:
                raise Refused("The call was cancelled.", "Nothing was bought.")
            day = here.added_to(day, now)
            chosen = decide(draft, day, now, self._limits, here)
            is_new = isinstance(chosen, Draft)
            if is_new and body is None:
                raise _NewJob
            used = day.seconds + (draft.seconds if is_new else 0)
            return chosen

        deadline = now + SUBMIT_SECONDS
        try:
            with before_buying():
                job = await self._services.ask_within(
                    self._seconds_left(caller) - LAST_SECONDS,
                    lambda seconds: self._services.ledger.insert_or_join(
                        draft, choose, now, deadline, seconds, here.kept
                    ),
                )
        except UncertainTwin as error:
            await self._collector.write_down(error.twin)  # or nobody could release it
            raise
        row = self._collector.row_of(job)
        if body is not None and job.id == draft.id:  # from here on it is sent, whoever hears of it
            row.posting = True
            self._background.start_soon(post, row, self._services, body, caller.begun + ANSWER_SECONDS)
        return row, used

    async def _keep(self, row: JobRow, wanted: Sequence[ToKeep], members: Sequence[str], keeping: _Keeping) -> None:
        """Once the router has taken the job, and only then: keep whom the call wants kept, however late that is."""
        cast = OwnCast(self._services, self._account)
        try:
            await row.until(lambda: row.job.state != "submitting", self._clock.steady() + SUBMIT_SECONDS)
            if row.job.state in ("submitting", "rejected", "uncertain"):
                return
            for one in wanted:
                try:
                    await cast.keep(one)
                    keeping.kept.append(one.name)
                except Refused as error:
                    keeping.troubles.append(error.happened)
            for name in members:
                with suppress(Refused):
                    await cast.used(name)
        finally:
            keeping.over.set()

    def _kept_in_words(self, keeping: _Keeping) -> str:
        until = "until this server ends" if self._services.forgets else "for later calls"
        here = "" if self._services.forgets or not self._services.hands_out_files else " on this machine"
        kept = [f"Kept as {listed(keeping.kept)} {until}{here}."] if keeping.kept else []
        return " ".join([*kept, *(f"Not kept: {trouble}" for trouble in keeping.troubles)])

    async def _remember_references(self, job_id: str, loaded: LoadedRequest, caller: Caller) -> None:
        left = dict(loaded.pictures)  # the same picture twice is shown once
        subjects = [
            [left.pop(image).content for image in subject.images if image in left]
            for subject in loaded.request.subjects
        ]
        await self._services.videos.previews.remember(job_id, subjects, for_strip=not caller.shows_subjects)
