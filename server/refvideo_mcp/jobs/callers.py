"""Which calls of this process wait for which job."""

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

    def busy(self, begun: float) -> frozenset[str]:
        """Ids of jobs that an identical call of `begun` does not join: it was made beside theirs, for another take."""
        together = {
            job_id
            for job_id, calls in self._waiting.items()
            if any(abs(begun - call) <= TOGETHER_SECONDS for call in calls)
        }
        return frozenset(together | self.answered)
