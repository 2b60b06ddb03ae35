"""How a job stands, for a caller who does not wait but comes again."""

from dataclasses import dataclass

from refvideo_mcp.jobs.watch import FIRST_LOOK_SECONDS, Watch
from refvideo_mcp.ledger import Job

__all__ = ["Sight"]


@dataclass(frozen=True)
class Sight:
    """A job as it was last seen. `over`: nothing more becomes of it, and its file, if it gets one, is there.

    `next_look_seconds` is the present pause between two looks; `trouble` says why the last one brought nothing.
    """

    job: Job
    over: bool
    next_look_seconds: float
    trouble: str

    @classmethod
    def of(cls, job: Job, watch: Watch | None, *, saves: bool) -> "Sight":
        """What `watch` shows of `job` (None: nobody follows it); `saves`: its video is to be put on disk."""
        is_saving = job.state == "succeeded" and saves and not (job.saved_to or job.not_saved)
        return cls(
            job,
            over=job.ended and not is_saving,
            next_look_seconds=watch.pause if watch else FIRST_LOOK_SECONDS,
            trouble=str(watch.trouble or "") if watch else "",
        )
