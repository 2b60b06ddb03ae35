"""Who saves a video: one process at a time, for as long as it lives."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import anyio

from refvideo_mcp.errors import Refused, RefvideoError
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.ledger import Job

__all__ = ["claimed"]

CLAIM_SECONDS = 30.0
RENEW_SECONDS = 10.0
LISTEN_SECONDS = 1.0


@asynccontextmanager
async def claimed(crew: Crew, job_id: str) -> AsyncIterator[bool]:
    """Whether the job's video is this process's to save while the block runs; where the ledger cannot tell, it is.

    The claim lapses when its holder is killed, and is given back however else the block ends. The block is left where
    it is as soon as another process has taken the claim over (this one was frozen), or this one is to end.
    """
    claim = _Claim(crew, job_id)
    with crew.in_flight.saves:
        mine = True
        caught: RefvideoError | None = None
        try:
            mine = await claim.take()
            if not mine:
                yield False
                return
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(claim.keep, tasks.cancel_scope)
                try:
                    yield True
                except RefvideoError as error:
                    caught = error  # raised here, it would come out in a group
                tasks.cancel_scope.cancel()
        finally:
            if mine:
                await claim.give_back()
        if caught is not None:
            raise caught


class _Claim:
    """`until` is what this process last wrote; a row that says something else is another's."""

    def __init__(self, crew: Crew, job_id: str):
        self._crew = crew
        self._job_id = job_id
        self._until = 0.0

    async def take(self) -> bool:
        now = self._crew.clock.now()
        self._until = now + CLAIM_SECONDS
        try:
            return await self._crew.ask(self._crew.ledger.claim, self._job_id, "saving_until", now, now, self._until)
        except Refused:
            return True

    async def keep(self, scope: anyio.CancelScope) -> None:
        """Renew the claim until it is lost or this process is to end; then cancel the scope."""
        is_ours, waited = True, 0.0
        while is_ours and not self._crew.in_flight.ending:
            await self._crew.clock.sleep(LISTEN_SECONDS)
            waited += LISTEN_SECONDS
            if waited >= RENEW_SECONDS:
                is_ours, waited = await self._renew(), 0.0
        scope.cancel()

    async def give_back(self) -> None:
        """A process that ends waits for this a second at most."""
        with anyio.CancelScope(shield=True), suppress(Refused):
            await self._crew.ask_briefly(
                self._crew.ledger.update,
                self._job_id,
                lambda row: replace(row, saving_until=None) if row.saving_until == self._until else row,
            )

    async def _renew(self) -> bool:
        """Whether it is still ours; where the ledger cannot tell, it is."""
        until = self._crew.clock.now() + CLAIM_SECONDS

        def renewed(row: Job) -> Job:
            return replace(row, saving_until=until) if row.saving_until in (None, self._until) else row

        with suppress(Refused):
            row = await self._crew.ask(self._crew.ledger.update, self._job_id, renewed)
            if row is not None and row.saving_until != until:
                return False
            self._until = until
        return True
