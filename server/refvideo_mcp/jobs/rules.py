"""Whether a call opens a job, joins an earlier one, or is refused. Pure: decided on what the ledger holds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import merge

from refvideo_mcp.errors import Advice, InvalidCall, Refused, wait_for
from refvideo_mcp.ledger import OPEN, Day, Draft, Job
from refvideo_mcp.router import UNCERTAIN_ADVICE

__all__ = [
    "DAY_SECONDS",
    "TWIN_SECONDS",
    "Here",
    "Limits",
    "UncertainTwin",
    "Usage",
    "decide",
    "in_words",
    "is_recent",
    "seconds_left",
    "twins_of",
    "usage_of",
]

DAY_SECONDS = 24 * 3600.0
TWIN_SECONDS = 600.0
OPEN_SECONDS = 2 * 3600.0
NOTHING = "Nothing was sent or bought."


@dataclass(frozen=True)
class Limits:
    """The allowance: seconds of video in any 24 hours, jobs open at once, and calls under way. 0 = no limit."""

    seconds_per_day: int = 300
    open_jobs: int = 10
    calls: int = 0


@dataclass(frozen=True)
class Here:
    """What this process knows by itself, though the ledger's file be another by now, and the clock be set.

    `followed` are the jobs that it follows or has followed. The rest are ids of jobs: whose POST is open (`posting`),
    that a caller left without an answer in the last ten minutes of a clock that is never set (`left`), whose own caller
    began within the last seconds and still waits: an identical call beside it wants another take (`busy`), and whose
    answer was dropped, though the ledger may not know it yet (`dropped`).
    """

    followed: Sequence[Job] = ()
    posting: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()

    @property
    def kept(self) -> frozenset[str]:
        """Ids of jobs that count, however old they are by the clock on the wall."""
        return self.posting | self.left

    def added_to(self, day: Day, now: float) -> Day:
        """The last day as the ledger knows it, with the jobs that it lacks."""
        followed = [job.at(now) for job in self.followed if job.id in self.kept or now - job.opened_at < DAY_SECONDS]
        included = day.includes([job.id for job in followed])
        lacking = [job for job in followed if job.id not in included]
        spent = [(job.opened_at, job.seconds) for job in lacking if job.state != "rejected"]
        return replace(
            day,
            jobs=sorted([*day.jobs, *lacking], key=lambda job: job.opened_at, reverse=True),
            seconds=day.seconds + sum(seconds for _, seconds in spent),
            spent=lambda: merge(day.spent(), sorted(spent)),
        )


class UncertainTwin(Refused):
    """The same job may exist already; only the user may let it be sent again."""

    def __init__(self, twin: Job, *, is_open: bool = False):
        answer = "its answer is overdue" if is_open else "its answer was lost"
        super().__init__(
            f"An identical job ({twin.key}) was sent minutes ago and {answer}: it may exist and be billed.",
            "This call sent nothing. " + UNCERTAIN_ADVICE.format(host=twin.gateway),
        )
        self.twin = twin


def decide(
    draft: Draft,
    day: Day,
    now: float,
    limits: Limits,
    here: Here,
) -> Job | Draft:
    """The job that this call already is, or the draft to open, with its warnings.

    Raises:
        UncertainTwin: it may have been bought already.
        InvalidCall: the key was used for something else.
        Refused: the allowance is used up.
    """
    known = day.jobs
    for job in known:
        if job.key == draft.key and job.holds_key:
            names = _difference(draft, job)
            if not names:
                return job
            raise InvalidCall(
                f"The idempotency_key was used for another job ({job.handle}), which differs in: {names}.",
                f"Use a new key for a new job. {NOTHING}",
            )
    for twin in _in_doubt(draft, known):
        if twin.id in here.posting:  # whatever the user said: its answer may come any moment
            raise UncertainTwin(twin, is_open=True)
    for twin in twins_of(draft, known, now):
        raise UncertainTwin(twin)
    if not draft.key_given:
        for job in reversed(known):
            unheard = (not job.delivered or job.id in here.dropped) and job.id not in here.busy
            lost = unheard and job.state not in ("rejected", "uncertain")
            recent = job.id in here.left or now - job.opened_at < TWIN_SECONDS
            if lost and recent and job.fingerprint == draft.fingerprint:
                return job
    _check_allowance(draft, day, now, limits)
    doubtful = [job for job in known if job.state == "uncertain" and job.pictures == draft.pictures]
    names = ", ".join(job.key for job in doubtful[:3])
    warning = f"A job with the same pictures may exist already, its answer was lost: {names}."
    return replace(draft, warnings=(*([warning] if doubtful else []), *draft.warnings))


def twins_of(draft: Draft, known: Sequence[Job], now: float) -> list[Job]:
    """Identical jobs first seen uncertain minutes ago, and that the user has not released, newest first."""
    return [job for job in _in_doubt(draft, known) if not job.released and is_recent(job, now)]


def _in_doubt(draft: Draft, jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if job.state == "uncertain" and job.fingerprint == draft.fingerprint]


def is_recent(job: Job, now: float) -> bool:
    return now - job.changed_at < TWIN_SECONDS


def seconds_left(used: int, limits: Limits) -> int | None:
    """Seconds of video left of today's allowance; None where there is no limit."""
    return max(0, limits.seconds_per_day - used) if limits.seconds_per_day else None


def in_words(left: int | None, limits: Limits) -> str:
    """What `seconds_left` tells, as a sentence; "" where there is no limit."""
    if left is None:
        return ""
    return f"Allowance: {left} of {limits.seconds_per_day} s of video left in these 24 hours."


@dataclass(frozen=True)
class Usage:
    """What of an allowance is used. `frees_at`, in epoch seconds, is when the first of it is free again."""

    seconds: int
    open_jobs: int
    limits: Limits
    frees_at: float | None = None


def usage_of(day: Day, now: float, limits: Limits) -> Usage:
    oldest = next((at for at, seconds in day.spent() if seconds), None)
    frees_at = None if oldest is None else oldest + DAY_SECONDS
    return Usage(day.seconds, len(_still_open(day, now)), limits, frees_at)


def _still_open(day: Day, now: float) -> list[Job]:
    return [job for job in day.jobs if job.state in OPEN and now - job.opened_at < OPEN_SECONDS]


def _check_allowance(draft: Draft, day: Day, now: float, limits: Limits) -> None:
    if limits.seconds_per_day and day.seconds + draft.seconds > limits.seconds_per_day:
        raise Refused(
            f"The allowance of {limits.seconds_per_day} seconds of video in 24 hours leaves "
            f"{seconds_left(day.seconds, limits)}, and this job takes {draft.seconds}. {NOTHING}",
            Advice("Tell the user: ", "")
            + f"{_when_free(draft, day, limits)}the setting REFVIDEO_MAX_SECONDS_PER_DAY raises it.",
        )
    still_open = _still_open(day, now)
    if limits.open_jobs and len(still_open) >= limits.open_jobs:
        raise Refused(
            f"{len(still_open)} jobs are open, and {limits.open_jobs} is the limit. {NOTHING}",
            "Wait for one of them: "
            + wait_for(still_open[-1].handle)
            + "; the setting REFVIDEO_MAX_OPEN_JOBS raises the limit.",
        )


def _when_free(draft: Draft, day: Day, limits: Limits) -> str:
    used = day.seconds
    for opened_at, seconds in day.spent():
        used -= seconds
        if used + draft.seconds <= limits.seconds_per_day:
            freed = datetime.fromtimestamp(opened_at + DAY_SECONDS).astimezone()
            return f"enough is free again at {freed:%Y-%m-%d %H:%M %Z}; "
    return ""


def _difference(draft: Draft, job: Job) -> str:
    if job.fingerprint == draft.fingerprint:
        return "" if job.redirected or job.save_to == draft.save_to else "save_to"
    before = job.request or {}
    return ", ".join(sorted(n for n in draft.request.keys() | before if draft.request.get(n) != before.get(n)))
