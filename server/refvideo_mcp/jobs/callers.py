"""Which calls of this process wait for which job, and which answers are on their way out."""

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from refvideo_mcp.jobs.watch import Watch
from refvideo_mcp.ledger import Job

__all__ = ["Caller", "Callers"]

TOGETHER_SECONDS = 5.0


def _never() -> bool:
    return False


@dataclass(eq=False)
class Caller:
    """Who waits for a call that arrived at `begun` (steady seconds).

    `request` is the id that its client gave to the request, if any: a second request under the same id, while the
    first is open, is the first one sent again. `hung_up` says whether the connection that would carry the answer is
    closed; `gave_up` is set when the call is cancelled.
    """

    begun: float
    request: str | None = None
    hung_up: Callable[[], bool] = _never
    gave_up: bool = False

    @property
    def is_gone(self) -> bool:
        return self.gave_up or self.hung_up()


class Callers:
    def __init__(self) -> None:
        self._waiting: dict[str, list[Caller]] = {}
        self.answered: set[str] = set()  # ids of jobs whose answer is on its way out

    def add(self, job_id: str, caller: Caller) -> None:
        self._waiting.setdefault(job_id, []).append(caller)

    def remove(self, job_id: str, caller: Caller) -> None:
        self._waiting[job_id].remove(caller)
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

    def busy(self, caller: Caller) -> frozenset[str]:
        """Ids of jobs that an identical call does not join: it was made beside theirs, for another take."""
        together = {
            job_id
            for job_id, others in self._waiting.items()
            if any(_is_beside(caller, other) for other in others if not other.is_gone)
        }
        return frozenset(together | self.answered)


def _is_beside(caller: Caller, other: Caller) -> bool:
    is_the_same = caller.request is not None and caller.request == other.request
    return not is_the_same and abs(caller.begun - other.begun) <= TOGETHER_SECONDS
