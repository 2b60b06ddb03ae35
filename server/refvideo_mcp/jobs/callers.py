"""Which calls of this process wait for which job, and which answers are on their way out."""

import anyio

from refvideo_mcp.jobs.watch import Watch
from refvideo_mcp.ledger import Job

__all__ = ["Callers"]

TOGETHER_SECONDS = 5.0


class Callers:
    """Times are steady seconds at which calls arrived."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[float]] = {}
        self.answered: set[str] = set()  # ids of jobs whose answer is on its way out

    def add(self, job_id: str, begun: float) -> None:
        self._waiting.setdefault(job_id, []).append(begun)

    def remove(self, job_id: str, begun: float) -> None:
        self._waiting[job_id].remove(begun)
        if not self._waiting[job_id]:
            del self._waiting[job_id]

    @property
    def concerned(self) -> set[str]:
        """Ids of jobs that a caller is told of anyway."""
        return self._waiting.keys() | self.answered

    async def told(self, watch: Watch, answer: Job) -> None:
        """Remember what a caller was answered about a job; it is no news any more, as soon as it is said."""
        self.answered.add(answer.id)
        with anyio.CancelScope(shield=True):
            await watch.told(answer)
        self.answered.discard(answer.id)

    def busy(self, begun: float) -> frozenset[str]:
        """Ids of jobs that an identical call of `begun` does not join: it was made beside theirs, for another take."""
        together = {
            job_id
            for job_id, calls in self._waiting.items()
            if any(abs(begun - call) <= TOGETHER_SECONDS for call in calls)
        }
        return frozenset(together | self.answered)
