"""The jobs being followed in this process."""

from refvideo_mcp.jobs.background import Background
from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.record import Record
from refvideo_mcp.jobs.watch import Watch, is_done
from refvideo_mcp.ledger import Job

__all__ = ["Watches"]

REMEMBERED = 1000


class Watches:
    """At most one watch per job, however many wait for it."""

    def __init__(self, crew: Crew, background: Background):
        self._crew = crew
        self._background = background
        self._by_id: dict[str, Watch] = {}

    def named(self, handle: str) -> Watch | None:
        return next((w for w in self._by_id.values() if handle in (w.job.task_id, w.job.key)), None)

    async def seen(self, handle: str) -> Watch | None:
        """A watch that can tell how its job stands: it is under way, or has done what it could, and links live."""
        watch = self.named(handle)
        if watch is None or not watch.record.is_real or watch.link_is_dead:
            return None
        gave_up_saving = watch.job.not_saved is not None
        return watch if not watch.over or gave_up_saving or await is_done(watch.job, self._crew) else None

    def under_way(self) -> set[str]:
        """Ids of jobs that someone waits for or that are still followed, if not for a file that may never come."""
        return {
            watch.job.id for watch in self._by_id.values() if watch.waiting or not (watch.over or watch.job.not_saved)
        }

    def posting(self) -> frozenset[str]:
        """Ids of jobs whose POST is open in this process."""
        return frozenset(job_id for job_id, watch in self._by_id.items() if watch.posting)

    async def write_down(self, job: Job) -> None:
        """Put a job that is followed here into the ledger, should that be another by now."""
        watch = self._by_id.get(job.id)
        if watch is not None:
            await watch.record.change(lambda known: known, news=False)

    def followed(self) -> list[Job]:
        """The jobs that this process follows, or has followed lately."""
        return [watch.job for watch in self._by_id.values() if watch.record.is_real]

    def of(self, job: Job) -> Watch:
        """The watch of a job, as the ledger has it now."""
        watch = self._by_id.get(job.id)
        return watch if watch is not None and not watch.over else self.follow(job)

    def pick_up(self, job: Job) -> None:
        """Follow a job that nobody asked for, if there is something to do that this process has not tried."""
        is_unsaved = job.state == "succeeded" and job.expired_at is None and self._crew.saves(job)
        if (is_unsaved or job.may_be_found or not job.ended) and job.id not in self._by_id:
            self.follow(job)

    def follow(
        self, job: Job, *, body: dict[str, object] | None = None, retry_until: float = 0.0, known: bool = True
    ) -> Watch:
        """Follow a job from now on; with a body, submit it first."""
        earlier = self._by_id.get(job.id)
        record = earlier.record if earlier else Record(job, self._crew, known=known)
        record.read(job)
        watch = self._by_id[job.id] = Watch(record, self._crew)
        watch.posting = body is not None
        self._background.start_soon(watch.run, body, retry_until)
        finished = [job_id for job_id, watch in self._by_id.items() if watch.over and not watch.record.is_behind]
        for job_id in finished[: max(0, len(self._by_id) - REMEMBERED)]:
            del self._by_id[job_id]
        return watch
