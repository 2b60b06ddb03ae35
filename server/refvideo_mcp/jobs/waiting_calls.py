"""Which calls of this process wait for which job, and which answers are on their way out."""

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from refvideo_mcp.jobs.row import JobRow
from refvideo_mcp.ledger import Job

__all__ = ["Caller", "WaitingCalls"]

TOGETHER_SECONDS = 5.0


def _never() -> bool:
    return False


@dataclass(eq=False)
class Caller:
    """Who waits for a call that arrived at `begun` (steady seconds).

    `request` is the id that its client gave to the request, if any: a second request under the same id, while the
    first is open or just answered, is the first one sent again. `hung_up` says whether the connection that would carry
    the answer is closed, `has_unread` whether something in it waits to be read. `shows_subjects`: its
    client shows people who is in a video.
    """

    begun: float = 0.0
    request: str | None = None
    hung_up: Callable[[], bool] = _never
    has_unread: Callable[[], bool] = _never
    shows_subjects: bool = False


class WaitingCalls:
    def __init__(self) -> None:
        self._waiting: dict[str, list[Caller]] = {}
        # By the ids of jobs: when a caller last left without an answer, in steady seconds.
        self._left: dict[str, float] = {}
        self._answered: dict[str, Caller] = {}  # by the ids of jobs: to whom an answer is on its way

    def add(self, job_id: str, caller: Caller) -> None:
        self._waiting.setdefault(job_id, []).append(caller)

    def remove(self, job_id: str, caller: Caller, unanswered_at: float | None) -> None:
        """Note that a caller leaves, perhaps without an answer (steady seconds)."""
        self._waiting[job_id].remove(caller)
        if not self._waiting[job_id]:
            del self._waiting[job_id]
        if unanswered_at is not None:
            self._left[job_id] = unanswered_at

    def left(self, since: float) -> frozenset[str]:
        """Ids of jobs that a caller left without an answer after `since` (steady seconds)."""
        self._left = {job_id: at for job_id, at in self._left.items() if at > since}
        return frozenset(self._left)

    @property
    def concerned(self) -> set[str]:
        """Ids of jobs that a caller is told of anyway."""
        return self._waiting.keys() | self._answered.keys()

    def answer(self, job: Job, caller: Caller) -> None:
        """The caller is being told of the job, which is no news any more; `told` is to follow."""
        self._answered[job.id] = caller

    async def told(self, row: JobRow, answer: Job, caller: Caller) -> None:
        """Remember what a caller was answered about a job, unless nobody has read it."""
        with anyio.CancelScope(shield=True):
            if not (caller.hung_up() or caller.has_unread()):
                await row.answered(answer)
        if self._answered.get(answer.id) is caller:
            del self._answered[answer.id]

    def busy(self, caller: Caller) -> frozenset[str]:
        """Ids of jobs that an identical call does not join: it was made beside theirs, for another take."""
        together = {
            job_id
            for job_id, others in self._waiting.items()
            if any(_is_beside(caller, other) for other in others if not other.hung_up())
        }
        answered = {
            job_id
            for job_id, other in self._answered.items()
            if not other.hung_up() and not _is_the_same(caller, other)
        }
        return frozenset(together | answered)


def _is_beside(caller: Caller, other: Caller) -> bool:
    return not _is_the_same(caller, other) and abs(caller.begun - other.begun) <= TOGETHER_SECONDS


def _is_the_same(caller: Caller, other: Caller) -> bool:
    return caller.request is not None and caller.request == other.request
