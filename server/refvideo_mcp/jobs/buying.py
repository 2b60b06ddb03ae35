"""Buying a job, at most once, and finding out beforehand what a call would buy."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refvideo_mcp.images import LoadedRequest
from refvideo_mcp.jobs.background import Background
from refvideo_mcp.jobs.callers import Caller, Callers
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.draft import Prepared, prepare
from refvideo_mcp.jobs.offer import Offer, offer
from refvideo_mcp.jobs.opening import ANSWER_SECONDS, Opening
from refvideo_mcp.jobs.outcomes import bought
from refvideo_mcp.jobs.rules import Limits, in_words, is_recent, seconds_left, twins_of
from refvideo_mcp.jobs.watch import Watch
from refvideo_mcp.jobs.watches import Watches
from refvideo_mcp.ledger import Job, before_buying
from refvideo_mcp.schemas import ReferenceVideoRequest

__all__ = ["Buying", "Submission"]

READING = "Reading the pictures"
DELIVERED_SECONDS = 10.0
# A process that is killed within that time may not have got its answer out.
ON_ITS_WAY_SECONDS = 1.0
LOOKED_THROUGH = 50


@dataclass(frozen=True)
class Submission:
    """What became of a call: the job, whether an earlier call had started it, and the allowance that is left.

    `sent` are the local files whose contents went where `Buying.pictures_go_to` says.
    """

    job: Job
    joined: bool
    seconds_left: int | None
    allowance: str
    sent: tuple[Path, ...]


class Buying:
    """`opening.alone` is held while a job is opened here; `collect` looks for other unfinished jobs."""

    def __init__(
        self,
        crew: Crew,
        limits: Limits,
        callers: Callers,
        watches: Watches,
        background: Background,
        collect: Callable[[], Coroutine[Any, Any, object]],
    ):
        self._crew = crew
        self._clock = crew.clock
        self._limits = limits
        self._callers = callers
        self._watches = watches
        self._background = background
        self._collect = collect
        self._host = crew.router.host
        bucket = crew.images.bucket
        self.pictures_go_to = f"{self._host} through {bucket.name}" if bucket else self._host
        self.opening = Opening(crew, limits, callers, watches)

    @asynccontextmanager
    async def submitted(
        self,
        request: ReferenceVideoRequest,
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
        begun = caller.begun
        ready = prepare(self._crew, request, roots, key=key, save_to=save_to)
        prepared = await self.opening.in_time(begun, ready, READING)
        draft = prepared.draft
        if release:
            for twin in twins_of(draft, await self._newest(), self._clock.now()):
                await self._crew.ask(self._crew.ledger.release, twin.id)
        opened = await self.opening.open(prepared, caller, on_opened, buy=buy)
        job, watch = opened.job, opened.watch
        joined, is_told = job.id != draft.id, False
        try:
            if not joined:
                self._background.start_soon(self._remember_references, job.id, prepared.loaded)
                self._background.start_soon(self._collect)
            await watch.until(lambda: watch.job.state != "submitting", begun + ANSWER_SECONDS)
            answer = bought(watch, self._host)
            sent = () if joined else prepared.loaded.sent
            left = seconds_left(opened.used, self._limits)
            yield Submission(answer, joined, left, in_words(left, self._limits), sent)
            in_time = self._clock.steady() - begun <= DELIVERED_SECONDS
            is_told = bool(answer.task_id and in_time) or (joined and draft.key_given)
            if is_told:
                self._callers.answer(answer, caller)
                self._background.start_soon(self._delivered, watch, answer, caller)
        finally:
            self._callers.remove(job.id, caller, None if is_told else self._clock.steady())

    async def draft(
        self, request: ReferenceVideoRequest, *, roots: Sequence[Path] = (), save_to: str | None = None
    ) -> Prepared:
        """What `submitted` would send. Nothing is sent or remembered.

        Raises:
            Refused: a picture or `save_to` cannot be used.
        """
        return await prepare(self._crew, request, roots, save_to=save_to)

    async def offer(
        self,
        request: ReferenceVideoRequest,
        roots: Sequence[Path] = (),
        *,
        key: str | None = None,
        caller: Caller | None = None,
    ) -> Offer:
        """What `submitted` would buy now.

        Raises:
            Refused: it would refuse.
        """
        caller = caller or Caller(self._clock.steady())
        look = offer(self._crew, self._limits, self.opening.here(caller), request, roots, key)
        return await self.opening.in_time(caller.begun, look, READING)

    async def uncertain_twin(self, request: ReferenceVideoRequest, roots: Sequence[Path] = ()) -> Job | None:
        """An identical job of the last minutes that may have been bought: only the user may let it be sent again."""
        now = self._clock.now()
        if not any(job.state == "uncertain" and is_recent(job, now) for job in await self._newest()):
            return None
        prepared = await self.opening.in_time(self._clock.steady(), prepare(self._crew, request, roots), READING)
        return next(iter(twins_of(prepared.draft, await self._newest(), now)), None)

    async def _newest(self) -> list[Job]:
        now = self._clock.now()
        with before_buying():
            found = await self._crew.ask(self._crew.ledger.newest, self._crew.account, LOOKED_THROUGH)
        return [job.at(now) for job in found]

    async def _remember_references(self, job_id: str, loaded: LoadedRequest) -> None:
        pictures = [picture.content for picture in loaded.pictures.values()]
        await self._crew.videos.previews.remember(job_id, pictures)

    async def _delivered(self, watch: Watch, answer: Job, caller: Caller) -> None:
        try:
            await self._clock.sleep(ON_ITS_WAY_SECONDS)
            while caller.has_unread():  # a client that hangs may be killed without ever reading it
                await self._clock.sleep(ON_ITS_WAY_SECONDS)
        finally:
            await self._callers.told(watch, answer, caller)
