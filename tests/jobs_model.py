"""What must be true of calls that buy jobs, in whatever order things happen: the promises of docs/reliability.md.

The model does not decide what becomes of a call. It remembers what people and processes can know (what was sent, who
was told, who gave up, when a doubt was first seen), and judges what became of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio

from refvideo_mcp.errors import Refused, RefvideoError, SubmitRejected, Uncertain
from refvideo_mcp.jobs import Clock, Submission
from refvideo_mcp.ledger import Job

__all__ = ["ALLOWED", "Ahead", "Bought", "Call", "Model"]

SECONDS, ALLOWED = 5, 40  # of video: one job's, and what any 24 hours may hold
DAY_SECONDS = 24 * 3600.0
DEADLINE_SECONDS = 120.0  # for the router's answer
AGAIN_SECONDS = 600.0  # an identical call means the same job, or is refused, for so long
TAKES_SECONDS = 5.0  # identical calls begun within so long are takes
ANSWER_SECONDS = 45.0
IN_TIME_SECONDS = 10.0  # an answer that took longer may not have reached anybody
ON_ITS_WAY_SECONDS = 1.0


@dataclass(eq=False)
class Call:
    """A call of generate_reference_video that somebody made. Times are steady."""

    process: int
    scene: str
    key: str | None
    begun: float
    scope: anyio.CancelScope = field(init=False)
    job_id: str | None = None  # what it was found to be, before anybody waited
    outcome: Submission | RefvideoError | None = None
    over_at: float | None = None
    cancelled: bool = False
    job: "Bought | None" = None
    is_new: bool = False
    left: int = 0  # of the allowance
    seen: bool = False


@dataclass(eq=False)
class Bought:
    """A job that was sent, and what people know of it. Times are the wall clock's, but for `answered_at`."""

    id: str
    task_id: str
    scene: str
    key: str
    process: int
    opened: float
    awaited: bool = True  # its process lives, and would hear the answer
    answered_at: float | None = None  # by the router, in steady seconds
    exists: bool = False  # at the router
    heard: str = "submitting"  # accepted, rejected, uncertain
    doubtful_since: float | None = None
    doubt_seen: float | None = None  # by anybody
    delivered: bool = False
    released: bool = False

    @property
    def is_open(self) -> bool:
        return self.awaited and self.answered_at is None

    def state(self, now: float) -> str:
        overdue = self.heard == "submitting" and now > self.opened + DEADLINE_SECONDS
        return "uncertain" if overdue else self.heard

    def holds_key(self, now: float) -> bool:
        state = self.state(now)
        return state != "rejected" and not (state == "uncertain" and self.released)

    def is_fresh_doubt(self, now: float) -> bool:
        first_seen = now if self.doubt_seen is None else self.doubt_seen
        return self.state(now) == "uncertain" and now - first_seen < AGAIN_SECONDS


@dataclass(frozen=True)
class Ahead:
    """What there is when a call is made: what its key means, and identical jobs that are lost or may exist."""

    owner: Bought | None
    may_exist: bool
    lost: frozenset[Bought]
    in_doubt: frozenset[Bought]  # whatever they are of
    used: int

    @property
    def is_affordable(self) -> bool:
        return self.used + SECONDS <= ALLOWED

    def judge(self, call: Call, warned: bool) -> None:
        """Whatever a call became must be right: a job of its own, an earlier one, or nothing."""
        if call.is_new:
            assert self.owner is None, "its key means another job"
            assert not self.may_exist, "an identical job may exist"
            assert not self.lost, "nobody was told of an identical job"
            assert self.is_affordable
            assert warned is bool(self.in_doubt)
        elif call.job is not None:
            assert call.job is self.owner or (self.owner is None and not self.may_exist and call.job in self.lost)
            assert call.job.scene == call.scene
        elif isinstance(call.outcome, Refused):
            is_clash = self.owner is not None and self.owner.scene != call.scene
            is_needed = self.may_exist or not (self.lost or self.is_affordable)
            assert is_clash or (self.owner is None and is_needed)
        else:
            assert call.cancelled


class Model:
    def __init__(self, clock: Clock) -> None:
        self.jobs: list[Bought] = []
        self.calls: list[Call] = []
        self._clock = clock
        self._observed_at = clock.now()
        # By process and job, in steady seconds: when a caller last left without an answer, and when one was told, which
        # the ledger knows a moment later. A process that is killed takes both with it.
        self._left: dict[tuple[int, Bought], float] = {}
        self._on_its_way: dict[tuple[int, Bought], float] = {}

    def ahead(self, call: Call) -> Ahead:
        now = self._clock.now()
        known = self._known(call.process)
        identical = [job for job in known if job.scene == call.scene]
        owners = [job for job in known if job.key == call.key and job.holds_key(now)]
        return Ahead(
            owner=max(owners, key=lambda job: job.opened, default=None),
            may_exist=any(self._may_exist(job, call.process) for job in identical),
            lost=frozenset(job for job in identical if not call.key and self._is_lost(job, call)),
            in_doubt=frozenset(job for job in known if job.state(now) == "uncertain"),
            used=_used(known, now),
        )

    def made(self, call: Call, ahead: Ahead, new: Bought | None) -> None:
        """A call was made, and has become a new job, or an earlier one, or none."""
        if new is not None:
            self.jobs.append(new)
        call.job = new or next((job for job in self.jobs if job.id == call.job_id), None)
        call.is_new = new is not None
        call.left = ALLOWED - ahead.used - SECONDS * call.is_new

    def answered(self, job: Bought, how: str) -> None:
        """The router has answered, and perhaps was heard."""
        now = self._clock.now()
        job.answered_at, job.exists = self._clock.steady(), how.startswith("accepted")
        if job.awaited:
            state = job.state(now)
            job.heard = how if how in ("accepted", "rejected") else "uncertain"
            if job.heard == "uncertain" != state:
                job.doubtful_since = now

    def released_by_user(self, scene: str) -> None:
        """Somebody who was asked said that the identical jobs may be sent again."""
        for job in self.jobs:
            if job.scene == scene and job.is_fresh_doubt(self._clock.now()):
                job.released = True

    def crashed(self, process: int) -> None:
        """What it alone remembered is gone."""
        for job in self.jobs:
            job.awaited &= job.process != process
        for memory in self._left, self._on_its_way:
            for entry in [entry for entry in memory if entry[0] == process]:
                del memory[entry]

    def clock_was_set(self) -> None:
        """Nobody has seen anything at the times that the clock passed over."""
        self._observed_at = self._clock.now()

    def is_quiet(self, process: int) -> bool:
        """Whether the ledger may fail there for a moment: no call is about to end, no answer to be remembered."""
        steady = self._clock.steady()
        waiting = [call for call in self.calls if call.process == process and call.over_at is None]
        ending = [call for call in waiting if steady - call.begun > ANSWER_SECONDS - 7]
        return not ending and not any(there == process for there, _ in self._on_its_way)

    def observe(self, rows: Mapping[str, Job]) -> None:
        """Take over what happened since: doubts that were seen, calls that ended, answers that arrived."""
        now = self._clock.now()
        for job in self.jobs:
            if job.doubtful_since is None and job.state(now) == "uncertain":
                job.doubtful_since = max(job.opened + DEADLINE_SECONDS, self._observed_at)
            row = rows[job.id]
            if row.state == "uncertain":
                assert job.doubtful_since is not None
                assert job.doubtful_since <= row.changed_at <= now
                assert job.doubt_seen in (None, row.changed_at), "it is seen for the first time only once"
                job.doubt_seen = row.changed_at
        self._observed_at = now
        for call in self.calls:
            if call.over_at is not None and not call.seen:
                call.seen = True
                self._ended(call, call.over_at)
        for (process, job), told_at in list(self._on_its_way.items()):
            if self._clock.steady() >= told_at + ON_ITS_WAY_SECONDS:
                job.delivered = True
                del self._on_its_way[process, job]

    def _ended(self, call: Call, at: float) -> None:
        is_told = False
        if isinstance(call.outcome, Submission):
            told, mine = call.outcome.job, call.job
            assert mine is not None
            assert (told.id, call.outcome.joined) == (mine.id, not call.is_new)
            assert told.state == "submitting" or told.task_id == mine.task_id
            assert call.outcome.seconds_left == call.left
            assert at - call.begun < ANSWER_SECONDS + 0.001
            in_time = at - call.begun <= IN_TIME_SECONDS
            is_told = bool(told.task_id and in_time) or (not call.is_new and call.key is not None)
        elif call.outcome is None:
            assert call.cancelled
        elif call.job is not None:
            if call.job.heard == "rejected":
                assert isinstance(call.outcome, SubmitRejected)
            else:
                assert isinstance(call.outcome, Uncertain)
                assert self._was_in_doubt(call.job, since=call.begun)
        if call.job is not None and is_told:
            self._on_its_way.setdefault((call.process, call.job), at)
        elif call.job is not None:
            self._left[call.process, call.job] = at

    def _known(self, process: int) -> list[Bought]:
        """What calls to a process are judged by: the last day's jobs, fresh doubts, and what it remembers by itself."""
        now = self._clock.now()
        return [
            job
            for job in self.jobs
            if now - job.opened < DAY_SECONDS or job.is_fresh_doubt(now) or self._is_remembered(job, process)
        ]

    def _is_remembered(self, job: Bought, process: int) -> bool:
        return self._is_posting(job, process) or self._was_left(job, process)

    def _is_posting(self, job: Bought, process: int) -> bool:
        return job.process == process and job.is_open

    def _was_left(self, job: Bought, process: int) -> bool:
        left_at = self._left.get((process, job))
        return left_at is not None and self._clock.steady() - left_at < AGAIN_SECONDS

    def _may_exist(self, job: Bought, process: int) -> bool:
        now = self._clock.now()
        is_overdue = self._is_posting(job, process) and job.state(now) == "uncertain"  # its answer may come any moment
        return is_overdue or (job.is_fresh_doubt(now) and not job.released)

    def _is_lost(self, job: Bought, call: Call) -> bool:
        """Whether nobody was told of the job, nor waits beside the call for a take of their own."""
        now = self._clock.now()
        takes = {
            other.job
            for other in self.calls
            if other.process == call.process and other.over_at is None and call.begun - other.begun <= TAKES_SECONDS
        }
        is_on_its_way = (call.process, job) in self._on_its_way
        is_recent = now - job.opened < AGAIN_SECONDS or self._was_left(job, call.process)
        is_alive = job.state(now) in ("submitting", "accepted")
        return is_alive and is_recent and not (job.delivered or job in takes or is_on_its_way)

    def _was_in_doubt(self, job: Bought, since: float) -> bool:
        """Whether somebody who waits since then may have seen it so: an answer that is late is written still later."""
        is_late = job.doubtful_since is not None and job.answered_at is not None and job.answered_at >= since
        return job.state(self._clock.now()) == "uncertain" or is_late

    @property
    def used(self) -> int:
        """Seconds of video in the last 24 hours."""
        now = self._clock.now()
        return _used([job for job in self.jobs if now - job.opened < DAY_SECONDS], now)


def _used(jobs: list[Bought], now: float) -> int:
    return SECONDS * sum(job.state(now) != "rejected" for job in jobs)
