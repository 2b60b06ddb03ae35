"""How a call becomes a job of the ledger: one at a time, and with its pictures where the router can get them."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio

from refvideo_mcp.errors import Refused
from refvideo_mcp.jobs.callers import Callers
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.draft import Prepared
from refvideo_mcp.jobs.pictures import inline, with_links
from refvideo_mcp.jobs.rules import Limits, decide
from refvideo_mcp.ledger import Draft, Job

__all__ = ["ANSWER_SECONDS", "Opened", "Opening"]

ANSWER_SECONDS = 45.0
SUBMIT_SECONDS = 120.0

Done = TypeVar("Done")


@dataclass(frozen=True)
class Opened:
    """The job that a call is from now on, the account's other jobs of the day, and what to send if the job is new."""

    job: Job
    known: Sequence[Job]
    body: dict[str, Any]


class _NewJob(Exception):
    """A job would have to be opened."""


class Opening:
    """`alone` is held while a job is opened here. Calls are added to `callers`."""

    def __init__(self, crew: Crew, limits: Limits, callers: Callers):
        self.alone = anyio.Lock()
        self._crew = crew
        self._clock = crew.clock
        self._limits = limits
        self._callers = callers

    async def open(self, prepared: Prepared, begun: float, *, buy: bool) -> Opened:
        """The job of a call that began at `begun` (steady time): one that it joins or, with `buy`, a new one.

        Raises:
            Refused: the rules, the ledger, the bucket or the end of this process forbid it; nothing was bought.
        """
        body, bucket = prepared.body, self._crew.images.bucket
        uris = inline(body) if bucket is not None else []
        if not buy or uris:
            try:  # nothing is uploaded for a call that is refused anyway, or joins an earlier one
                return Opened(*await self._row(prepared.draft, begun, buy=False), body)
            except _NewJob:
                if not buy:
                    happened = "The job that this call would have joined is answered by now."
                    raise Refused(happened, "Call again to buy.") from None
        if bucket is not None and uris:
            links = await self.in_time(begun, bucket.links(uris), f"Uploading the pictures to {bucket.name}")
            body = with_links(body, links)
        return Opened(*await self._row(prepared.draft, begun, buy=True), body)

    async def in_time(self, begun: float, work: Awaitable[Done], what: str) -> Done:
        """What `work` brings, within the time of a call that began at `begun`.

        Raises:
            Refused: `what` took too long.
        """
        with anyio.move_on_after(max(0.0, begun + ANSWER_SECONDS - self._clock.steady())):
            return await work
        raise Refused(f"{what} took too long.", "Nothing was bought: use smaller or nearer files.")

    async def _row(self, draft: Draft, begun: float, *, buy: bool) -> tuple[Job, list[Job]]:
        known: list[Job] = []
        # One at a time, or two identical calls would both join the same earlier job.
        async with self.alone:
            busy, now = self._callers.busy(begun), self._clock.now()

            def choose(jobs: Sequence[Job]) -> Job | Draft:
                # Here, after the ledger has been waited for: the next step is the POST.
                if self._clock.steady() - begun > ANSWER_SECONDS - 1:
                    raise Refused("This took too long.", "Nothing was bought: call again.")
                if self._crew.in_flight.ending:
                    raise Refused("This server is about to end.", "Nothing was bought: call again when it is back.")
                known[:] = jobs
                chosen = decide(draft, jobs, now, self._limits, busy)
                if isinstance(chosen, Draft) and not buy:
                    raise _NewJob
                return chosen

            # A call cancelled just now must not leave a row behind whose request was never sent.
            with anyio.CancelScope(shield=True):
                job = await self._crew.ask(self._crew.ledger.open, draft, choose, now, now + SUBMIT_SECONDS)
            self._callers.add(job.id, begun)
            return job, known
