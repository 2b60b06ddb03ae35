"""The jobs being followed in this process."""

from dataclasses import replace

import anyio.abc

from refvideo_mcp.jobs.crew import Crew
from refvideo_mcp.jobs.watch import Watch, is_kept
from refvideo_mcp.ledger import Job

__all__ = ["Watches"]

REMEMBERED = 1000
LINK_LEFT_SECONDS = 60.0


class Watches:
    """At most one watch per job, however many wait for it."""

    def __init__(self, crew: Crew, tasks: anyio.abc.TaskGroup):
        self._crew = crew
        self._tasks = tasks
        self._by_id: dict[str, Watch] = {}

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._by_id

    def named(self, handle: str) -> Watch | None:
        return next((w for w in self._by_id.values() if handle in (w.job.task_id, w.job.key)), None)

    def seen(self, handle: str) -> Watch | None:
        """A watch that can tell how its job stands: it is under way, or has done what it could, and links live."""
        watch = self.named(handle)
        if watch is None or (watch.looked_at is None and watch.job.request is None):
            return None
        gave_up_saving = watch.job.not_saved is not None and self._link_lives(watch.job)
        return watch if not watch.over or gave_up_saving or self._is_done(watch.job) else None

    def under_way(self) -> set[str]:
        """Ids of jobs that someone waits for or that are still followed."""
        return {watch.job.id for watch in self._by_id.values() if watch.waiting or not watch.over}

    def of(self, job: Job) -> Watch:
        """The watch of a job that the ledger knows; a new one where there is something left to do."""
        watch = self._by_id.get(job.id)
        if watch is not None and not watch.over:
            return watch
        if self._is_done(job):
            watch = Watch(job, self._crew)
            watch.over = True
            watch.looked_at = self._crew.clock.steady()
            return watch
        return self.follow(replace(job, saved_to=None, not_saved=None))

    def follow(
        self, job: Job, *, body: dict[str, object] | None = None, retry_until: float = 0.0, known: bool = True
    ) -> Watch:
        """Follow a job from now on; with a body, submit it first."""
        watch = self._by_id[job.id] = Watch(job, self._crew, known=known)
        self._tasks.start_soon(watch.run, body, retry_until)
        finished = [job_id for job_id, watch in self._by_id.items() if watch.over]
        for job_id in finished[: max(0, len(self._by_id) - REMEMBERED)]:
            del self._by_id[job_id]
        return watch

    def _is_done(self, job: Job) -> bool:
        """Whether there is nothing left to do for a job: no look, no saving, no fresh link."""
        if job.state != "succeeded" or job.expired_at is not None:
            return job.ended
        is_saved = is_kept(job) or not self._crew.saves(job)
        return is_saved and (self._link_lives(job) or (is_kept(job) and self._crew.hands_out_files))

    def _link_lives(self, job: Job) -> bool:
        now = self._crew.clock.now()
        return any(video.expires_at > now + LINK_LEFT_SECONDS for video in job.videos)
