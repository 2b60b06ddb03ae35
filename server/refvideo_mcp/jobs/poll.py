"""Asking the router how a job stands, for everybody who wants to know, and how often. All in seconds."""

import random
from dataclasses import dataclass

from refvideo_mcp.errors import ReadRefused, Unavailable, UnknownTask
from refvideo_mcp.jobs.row import JobRow
from refvideo_mcp.jobs.services import Services
from refvideo_mcp.schemas import TaskResult

__all__ = ["LOOKS", "SAVES", "Poller", "spread", "until_next_look"]

LONGEST_ETA_SECONDS = 30.0
EQUAL_ANSWERS = 3
VIDEO_SECONDS = 60.0


@dataclass(frozen=True)
class Pace:
    """Pauses that grow from `first` to `slowest`."""

    first: float
    factor: float
    slowest: float

    def after(self, pause: float) -> float:
        return min(pause * self.factor, self.slowest)


# Between two looks at a job that goes on.
LOOKS = Pace(first=2.0, factor=1.3, slowest=10.0)
# Between two tries to save a video whose link does not open: at first CDNs lag, later something is in the way.
SAVES = Pace(first=2.0, factor=1.5, slowest=300.0)


def spread(pause: float) -> float:
    """Nearly that pause: many that began together shall not go on together."""
    return pause * random.uniform(0.9, 1.1)


def until_next_look(pause: float, asked_for: float, eta: float) -> float:
    """The pause, unless the router asked for a longer one, or says that the job takes longer."""
    return max(spread(pause), asked_for, min(eta, LONGEST_ETA_SECONDS))


class Poller:
    """`looked_at`: steady time of the last look that brought news, ours or another process's."""

    def __init__(self, row: JobRow, services: Services):
        self.looked_at: float | None = None
        self._row = row
        self._services = services
        self._doubts = _Doubts()

    async def look(self, gap: float = 0.0) -> None:
        """Ask the router, unless another process did so within the last `gap` seconds: then read what it learned."""
        row, services = self._row, self._services
        if row.job.task_id is None:
            return
        try:
            if gap and row.known and not await row.may_ask(gap):
                await self.reread()
                return
            async with services.requests:
                result = await services.router.task_result(row.job.task_id)
        except UnknownTask as error:
            # A job that we know exists: this router may just have lost sight of it, or wants another key.
            row.last_error = _out_of_sight(error) if row.is_real else error
        except (ReadRefused, Unavailable) as error:
            row.last_error = error
        else:
            row.last_error, self.looked_at = None, services.clock.steady()
            asked_at, settled = services.clock.now(), self._doubts.are_settled(result, services.clock.steady())
            await row.change(lambda known: known.after(result, asked_at, settled=settled), passing=True)
            return
        await row.catch_up()
        row.tell()

    async def reread(self) -> None:
        """Learn from the ledger; another process that was answered since has heard for us."""
        answered_at = self._row.job.answered_at
        await self._row.reread()
        if self._row.job.answered_at != answered_at:
            self._row.last_error, self.looked_at = None, self._services.clock.steady()


class _Doubts:
    """A failure in other words than the documented one counts when it was said three times in a row.

    A success without a video counts, as a failure, when it stayed so for a minute: links may come late.
    """

    def __init__(self) -> None:
        self._said: tuple[str, str] | None = None
        self._since = 0.0
        self._times = 0

    def are_settled(self, result: TaskResult, now: float) -> bool:
        """Take note of an answer of `now` (steady time); whether the end that it tells of counts."""
        said = (result.task.status, result.task.reason)
        if said != self._said:
            self._said, self._since, self._times = said, now, 0
        self._times += 1
        return now - self._since >= VIDEO_SECONDS if result.state == "succeeded" else self._times >= EQUAL_ANSWERS


def _out_of_sight(error: UnknownTask) -> Unavailable:
    return Unavailable(
        error.happened, "Was it submitted with another key? The job itself may go on.", task_id=error.task_id
    )
