"""Which calls of this process wait for which job, and which answers are on their way out."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import anyio

from refvideo_mcp.jobs.row import JobRow
from refvideo_mcp.jobs.services import Background, Clock
from refvideo_mcp.ledger import Job

__all__ = ["Caller", "WaitingCalls"]

TOGETHER_SECONDS = 5.0
# A process that is killed within that time may not have got its answer out.
ON_ITS_WAY_SECONDS = 1.0
# For so long after that, a cancel may arrive that crossed the answer: this process, or its client, was held up.
CROSSING_SECONDS = 10.0


def _never() -> bool:
    return False


@dataclass(eq=False)
class Caller:
    """Who waits for a call that arrived at `begun` (steady seconds).

    `request` is the id that its client gave to the request, if any: a second request under the same id, while the
    first is open or just answered, is the first one sent again. `hung_up` says whether the connection that would carry
    the answer is closed, `has_unread` whether something in it waits to be read. `shows_subjects`: its
    client shows people who is in a video. `gave_up` is set when the client cancels the request, which may be answered
    by then: it drops what is on its way. `then_listed` is the id of the client's last list of the tools since then.
    """

    begun: float = 0.0
    request: str | None = None
    hung_up: Callable[[], bool] = _never
    has_unread: Callable[[], bool] = _never
    shows_subjects: bool = False
    gave_up: anyio.Event = field(default_factory=anyio.Event, init=False)
    then_listed: str | None = field(default=None, init=False)

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for the answer, or has heard it."""
        return self.gave_up.is_set() or self.hung_up()


class WaitingCalls:
    def __init__(self, clock: Clock, background: Background) -> None:
        self._clock = clock
        self._background = background
        self._waiting: dict[str, list[Caller]] = {}
        # By the ids of jobs: when a caller last left without an answer, in steady seconds.
        self._left: dict[str, float] = {}
        self._answered: dict[str, Caller] = {}  # by the ids of jobs: to whom an answer is on its way
        self._heard: dict[str, Caller] = {}  # by the ids of jobs: to whom one has come moments ago

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
    def dropped(self) -> frozenset[str]:
        """Ids of jobs that a caller was told of moments ago whose client had cancelled the request."""
        return frozenset(job_id for job_id, caller in self._heard.items() if caller.gave_up.is_set())

    @property
    def concerned(self) -> set[str]:
        """Ids of jobs that a caller is told of anyway."""
        return self._waiting.keys() | self._answered.keys()

    def answer(self, row: JobRow, answer: Job, caller: Caller) -> None:
        """The caller is being told of a job, which is no news any more: remember it, unless nobody reads it."""
        self._answered[answer.id] = caller
        self._background.start_soon(self._told, row, answer, caller)

    async def _told(self, row: JobRow, answer: Job, caller: Caller) -> None:
        try:
            await self._clock.sleep(ON_ITS_WAY_SECONDS)
            while caller.has_unread():  # a client that hangs may be killed without ever reading it
                await self._clock.sleep(ON_ITS_WAY_SECONDS)
        finally:
            before, is_heard = row.job, not (caller.is_gone or caller.has_unread())
            with anyio.CancelScope(shield=True):
                if is_heard:
                    self._heard[answer.id] = caller
                    await row.answered(answer)
            if self._answered.get(answer.id) is caller:
                del self._answered[answer.id]
        is_dropped = is_heard and await self._clock.wait(caller.gave_up, CROSSING_SECONDS)
        if is_dropped and self._heard.get(answer.id) is caller:  # no other call was told meanwhile
            await row.change(lambda job: replace(job, delivered=before.delivered, told=before.told), news=False)
        if self._heard.get(answer.id) is caller:
            del self._heard[answer.id]

    def busy(self, caller: Caller) -> frozenset[str]:
        """Ids of jobs that an identical call does not join: it was made beside theirs, for another take."""
        together = {
            job_id
            for job_id, others in self._waiting.items()
            if any(_is_beside(caller, other) for other in others if not other.is_gone)
        }
        answered = {
            job_id for job_id, other in self._answered.items() if not other.is_gone and not _is_the_same(caller, other)
        }
        return frozenset(together | answered)


def _is_beside(caller: Caller, other: Caller) -> bool:
    return not _is_the_same(caller, other) and abs(caller.begun - other.begun) <= TOGETHER_SECONDS


def _is_the_same(caller: Caller, other: Caller) -> bool:
    return caller.request is not None and caller.request == other.request
