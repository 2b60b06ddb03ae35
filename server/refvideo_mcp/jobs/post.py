"""The one POST of a job, and what comes of it."""

import logging
import random
from dataclasses import replace
from typing import Any

from refvideo_mcp.errors import SubmitRejected, Uncertain
from refvideo_mcp.jobs.row import JobRow
from refvideo_mcp.jobs.services import Services

__all__ = ["post"]

log = logging.getLogger(__name__)

LISTEN_SECONDS = 0.5
WRITES_BEFORE_THE_END, WRITE_AGAIN_SECONDS = 5, 1.0


async def post(row: JobRow, services: Services, body: dict[str, Any], retry_until: float) -> None:
    """Send a job, at most once, and write down whether the router took it. Never raises.

    A rate limit is waited out until `retry_until` (steady time). `row.posting` is set before, and cleared here.
    """
    try:
        with services.pending_posts:
            await _outcome(row, services, body, retry_until)
            row.posting = False
            # A process that is to end waits for this: it must be on disk by then, if it can.
            for _ in range(WRITES_BEFORE_THE_END):
                if not row.is_behind:
                    break
                await services.clock.sleep(WRITE_AGAIN_SECONDS)
                await row.catch_up()
    finally:
        row.posting = False
        row.tell()


async def _outcome(row: JobRow, services: Services, body: dict[str, Any], retry_until: float) -> None:
    try:
        task_id = await _accepted(row, services, body, retry_until)
    except SubmitRejected as error:
        row.last_error, happened = error, error.happened
        await row.change(lambda job: replace(job, state="rejected", reason=happened), durable=True)
    except Uncertain as error:
        await _doubt(row, error.happened, error.task_id)
    except Exception:
        # A bug; but the request may have left, and a row that stayed `submitting` would promise an answer.
        log.exception("the submission of job %s broke off", row.job.handle)
        await _doubt(row, "The submission broke off. The job may have been accepted and billed all the same.")
    else:
        now = services.clock.now()
        await row.change(
            lambda job: replace(job, state="queued", task_id=task_id, answered_at=now),
            durable=True,
        )


async def _doubt(row: JobRow, reason: str, task_id: str | None = None) -> None:
    await row.change(lambda job: replace(job, state="uncertain", reason=reason, task_id=task_id), durable=True)


async def _accepted(row: JobRow, services: Services, body: dict[str, Any], retry_until: float) -> str:
    clock, pause = services.clock, 1.0
    while True:
        try:
            return await services.router.submit(body, row.job.submit_deadline - clock.now())
        except SubmitRejected as error:
            wait = max(error.retry_after or 0.0, pause * random.uniform(0.8, 1.2))
            too_late = clock.steady() + wait > retry_until
            if error.retry_after is None or too_late or not await _waited(services, wait):
                raise
        pause *= 2


async def _waited(services: Services, seconds: float) -> bool:
    """Whether so much time passed; a process that is to end sends nothing more."""
    clock = services.clock
    until = clock.steady() + seconds
    while not services.pending_posts.ending and (left := until - clock.steady()) > 0:
        await clock.sleep(min(left, LISTEN_SECONDS))
    return not services.pending_posts.ending
