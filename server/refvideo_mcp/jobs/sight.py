"""How a job stands, for a caller who does not wait but comes again."""

from dataclasses import dataclass

from refvideo_mcp.jobs.watch import FIRST_LOOK_SECONDS, Watch
from refvideo_mcp.ledger import Job

__all__ = ["Sight"]


@dataclass(frozen=True)
class Sight:
    """A job as it was last seen. `over`: it has ended, and its file is there or not worth waiting for.

    `next_look_seconds` is the present pause between two looks; `trouble` says why the last one brought nothing.
    """

    job: Job
    over: bool
    next_look_seconds: float
    trouble: str

    @classmethod
    def of(cls, job: Job, watch: Watch | None) -> "Sight":
        """What `watch` shows of `job` (None: nobody follows it)."""
        return cls(
            job,
            over=job.ended and not (watch and watch.saves_soon),
            next_look_seconds=watch.pause if watch else FIRST_LOOK_SECONDS,
            trouble=str(watch.trouble or "") if watch else "",
        )
