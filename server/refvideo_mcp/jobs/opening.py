"""How a call becomes a job of the ledger: one at a time, and with its pictures where the router can get them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from refvideo_mcp.errors import Refused
from refvideo_mcp.jobs.callers import Caller, Callers
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.draft import Prepared
from refvideo_mcp.jobs.rules import TWIN_SECONDS, Here, Limits, UncertainTwin, decide
from refvideo_mcp.jobs.watch import Watch
from refvideo_mcp.jobs.watches import Watches
from refvideo_mcp.ledger import Day, Draft, Job, before_buying

__all__ = ["ANSWER_SECONDS", "Opened", "Opening"]

ANSWER_SECONDS = 45.0
SUBMIT_SECONDS = 120.0
# Left of the 45 when the POST begins, so that a quick answer to it is not too late.
LAST_SECONDS = 1.0
TOO_LATE = ("This took too long.", "Nothing was bought: try again.")

Done = TypeVar("Done")


@dataclass(frozen=True)
class Opened:
    """The job that a call is from now on, who follows it, and the seconds of video of that day, its own included."""

    job: Job
    watch: Watch
    used: int


class _NewJob(Exception):
    """A job would have to be opened."""


class Opening:
    """`alone` is held while a job is opened here. Calls are added to `callers`, jobs to `watches`, which send them."""

    def __init__(self, crew: Crew, limits: Limits, callers: Callers, watches: Watches):
        self.alone = anyio.Lock()
        self._crew = crew
        self._clock = crew.clock
        self._limits = limits
        self._callers = callers
        self._watches = watches

    async def open(self, prepared: Prepared, caller: Caller, on_opened: Callable[[Job], None], *, buy: bool) -> Opened:
        """The job of a call: one that it joins or, with `buy`, a new one, whose POST begins now.

        A call cancelled before its job is remembered buys nothing; later, the POST goes on without it. `on_opened` gets
        the job, though the call be cancelled meanwhile.

        Raises:
            Refused: the rules, the ledger, the bucket or the end of this process forbid it; nothing was bought.
        """
        loaded, bucket = prepared.loaded, self._crew.images.bucket
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
            links = await self.in_time(caller.begun, uploads, f"Uploading the pictures to {bucket.name}")
        # In a thread: 20 MB of base64 would hold up a ping.
        return await self._row(prepared.draft, caller, on_opened, await anyio.to_thread.run_sync(loaded.body, links))

    async def in_time(self, begun: float, work: Awaitable[Done], what: str) -> Done:
        """What `work` brings, within the time of a call that began at `begun`.

        Raises:
            Refused: `what` took too long.
        """
        with anyio.move_on_after(max(0.0, self._seconds_left(begun))):
            return await work
        raise Refused(f"{what} took too long.", "Nothing was bought: use smaller or nearer files.")

    def here(self, caller: Caller) -> Here:
        """What this process knows by itself at a caller's turn."""
        left = self._callers.left(self._clock.steady() - TWIN_SECONDS)
        return Here(self._watches.followed(), self._watches.posting(), left, self._callers.busy(caller))

    def _seconds_left(self, begun: float) -> float:
        return begun + ANSWER_SECONDS - self._clock.steady()

    async def _row(
        self, draft: Draft, caller: Caller, on_opened: Callable[[Job], None], body: dict[str, Any] | None = None
    ) -> Opened:
        """Without a body, only an earlier job will do."""
        # One at a time, or two identical calls would both join the same earlier job.
        try:
            with anyio.fail_after(max(0.0, self._seconds_left(caller.begun) - LAST_SECONDS)):
                await self.alone.acquire()
        except TimeoutError:
            raise Refused(*TOO_LATE) from None
        try:
            opened = await self._opened(draft, caller, body)
            self._callers.add(opened.job.id, caller)
            try:  # one that was cancelled meanwhile waits no longer when the next call has its turn
                on_opened(opened.job)
                await anyio.lowlevel.checkpoint_if_cancelled()
            except BaseException:
                self._callers.remove(opened.job.id, caller, self._clock.steady())
                raise
            return opened
        finally:
            self.alone.release()

    async def _opened(self, draft: Draft, caller: Caller, body: dict[str, Any] | None) -> Opened:
        here, now, used = self.here(caller), self._clock.now(), 0

        def choose(day: Day) -> Job | Draft:
            nonlocal used
            # Here, after the ledger has been waited for: the next step is the POST.
            if self._seconds_left(caller.begun) < LAST_SECONDS:
                raise Refused(*TOO_LATE)
            if self._crew.in_flight.ending:
                raise Refused("This server is about to end.", "Nothing was bought: try again when it is back.")
            anyio.from_thread.check_cancelled()  # a call cancelled from here on has bought: its thread is not left
            if caller.hung_up():
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
                job = await self._crew.ask_within(
                    self._seconds_left(caller.begun) - LAST_SECONDS,
                    lambda seconds: self._crew.ledger.open(draft, choose, now, deadline, seconds, here.kept),
                )
        except UncertainTwin as error:
            await self._watches.write_down(error.twin)  # or nobody could release it
            raise
        if job.id != draft.id:
            watch = self._watches.of(job)
        else:  # from here on it is sent, whoever hears of it
            watch = self._watches.follow(job, body=body, retry_until=caller.begun + ANSWER_SECONDS)
        return Opened(job, watch, used)
