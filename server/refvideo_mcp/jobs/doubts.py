"""Whether an end that the router tells of in words of its own is one."""

from refvideo_mcp.schemas import TaskResult

__all__ = ["Doubts"]

EQUAL_ANSWERS = 3
VIDEO_SECONDS = 60.0


class Doubts:
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
