"""The rows of jobs: every statement that reads or writes them, made once, for SQLite and PostgreSQL alike."""

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from sqlalchemy import ColumnElement, Connection, Row, Select, Text, and_, bindparam, cast, func, or_, select, union_all

from refvideo_mcp.ledger.errors import Damaged
from refvideo_mcp.ledger.job import ENDED, OPEN, Day, Draft, Job, Video
from refvideo_mcp.ledger.schema import jobs, version
from refvideo_mcp.schemas import JobState

__all__ = ["Rows"]

DAY_SECONDS = 24 * 3600.0
DOUBT_SECONDS = 600.0  # so long at least, whoever decides is shown a job that was first seen uncertain
# A shorter one may be meant for anything; "job-" begins every key of ours.
SHORTEST_BEGINNING = 6
CLOCKS_DIFFER_SECONDS = 60.0
SEARCHED = 20_000  # jobs that are looked through for words
COUNTED_ROWS = 1000
_ANSWER = (
    "progress_percent",
    "eta_seconds",
    "raw_status",
    "reason",
    "seed",
    "videos",
    "warnings",
    "preview",
    "last_frame",
    "expired_at",
    "redirected",
)
# Kept beside the request, in its column: an older window leaves there what it does not know.
_SOURCES = "sources"

MINE = jobs.c.account == bindparam("my_account")
RECENT = jobs.c.opened_at > bindparam("since")
OVERDUE = jobs.c.submit_deadline < bindparam("now")


def _ids(*where: ColumnElement[bool]) -> Select[Any]:
    return select(jobs.c.id).where(*where)


def _padded(ids: Collection[str]) -> list[str]:
    """As many as a power of two, the last one repeated.

    A list of another length is another statement to SQLite: each connection would keep a hundred of them, 100 kB each.
    """
    padded = [*ids]
    return padded + padded[-1:] * ((1 << max(0, len(padded) - 1).bit_length()) - len(padded))


def _is_in(state: JobState) -> ColumnElement[bool]:
    """Whether a job `at(now)` is in a state."""
    match state:
        case "submitting":
            return and_(jobs.c.state == "submitting", ~OVERDUE)
        case "uncertain":
            return or_(jobs.c.state == "uncertain", and_(jobs.c.state == "submitting", OVERDUE))
    return jobs.c.state == state


def _latest(*where: ColumnElement[bool]) -> Select[Any]:
    """So `many` at the most. Others are sorted here, or SQLite takes the index that sorts for the one that finds."""
    return select(jobs).where(*where).order_by(jobs.c.opened_at.desc(), jobs.c.id).limit(bindparam("many"))


BY_ID = select(jobs).where(jobs.c.id == bindparam("job_id"))
BY_ID_TO_WRITE = BY_ID.with_for_update()
HAS_ID = _ids(jobs.c.id == bindparam("job_id"))
BY_IDS = select(jobs).where(jobs.c.id.in_(bindparam("ids", expanding=True)))
BY_TASK_ID = select(jobs).where(jobs.c.task_id == bindparam("handle"))
BY_KEY = select(jobs).where(MINE, jobs.c.key == bindparam("handle"))
BY_KEY_OR_ID = select(jobs).where(or_(jobs.c.key == bindparam("handle"), jobs.c.id == bindparam("handle")))
LATEST = _latest(MINE)
LATEST_IN: dict[JobState, Select[Any]] = {state: _latest(MINE, _is_in(state)) for state in get_args(JobState)}

OLDER = and_(
    jobs.c.opened_at <= bindparam("before"),
    or_(jobs.c.opened_at < bindparam("before"), jobs.c.id > bindparam("before_id")),
)


def _count(*where: ColumnElement[bool]) -> Select[Any]:
    first = select(jobs.c.opened_at).where(MINE, *where).limit(COUNTED_ROWS)
    return select(func.count()).select_from(first.subquery())


# By state (None: any), and whether only older ones.
COUNTS = {
    (state, older): _count(*([_is_in(state)] if state else []), *([OLDER] if older else []))
    for state in (None, *get_args(JobState))
    for older in (False, True)
}
UNFINISHED = select(jobs).where(
    jobs.c.id.in_(
        union_all(
            _ids(MINE, RECENT, jobs.c.state.in_(OPEN)),
            _ids(MINE, RECENT, jobs.c.state == "uncertain", jobs.c.task_id.is_not(None)),
            _ids(MINE, RECENT, jobs.c.state == "succeeded", jobs.c.saved_to.is_(None)),
        )
    )
)
IS_UNREPORTED = (
    MINE,
    jobs.c.state == "succeeded",
    jobs.c.told.is_(False),
    jobs.c.id.not_in(bindparam("except_ids", expanding=True)),
)
FIRST_UNREPORTED = _ids(*IS_UNREPORTED).limit(1)
UNREPORTED = select(jobs).where(*IS_UNREPORTED).with_for_update()
REPORT = jobs.update().where(jobs.c.id.in_(bindparam("ids", expanding=True))).values(told=True)
UPDATE = jobs.update().where(jobs.c.id == bindparam("job_id"))
DELETE_ENDED = jobs.delete().where(jobs.c.opened_at < bindparam("now"), or_(*(_is_in(state) for state in ENDED)))
COUNTED = (MINE, RECENT, jobs.c.state != "rejected")
OF_THE_DAY = select(jobs).where(
    jobs.c.id.in_(
        union_all(
            *(_ids(MINE, RECENT, jobs.c.state == state) for state in ("queued", "processing", "uncertain")),
            # With the sum no index finds the time: SQLite would rather look through the whole day than for the key.
            _ids(MINE, jobs.c.opened_at + 0.0 > bindparam("since"), jobs.c.key == bindparam("handle")),
            _ids(MINE, RECENT, jobs.c.fingerprint == bindparam("same"), jobs.c.delivered.is_(False)),
            # Of whatever day, for a machine may have slept for some.
            _ids(MINE, jobs.c.state == "submitting"),
            _ids(MINE, jobs.c.state == "uncertain", jobs.c.changed_at > bindparam("doubted_since")),
            _ids(jobs.c.id.in_(bindparam("ids", expanding=True))),
        )
    )
)
SECONDS = select(func.coalesce(func.sum(jobs.c.seconds), 0)).where(*COUNTED)
SPENT = select(jobs.c.opened_at, jobs.c.seconds).where(*COUNTED).order_by(jobs.c.opened_at)
# The sum again: of what is named, no other index is to be looked through.
RECENT_AMONG = _ids(jobs.c.opened_at + 0.0 > bindparam("since"), jobs.c.id.in_(bindparam("ids", expanding=True)))


class Rows:
    """The jobs as one transaction sees and changes them. Several are read newest first.

    Raises:
        Damaged: a row is not as it was written.
    """

    def __init__(self, connection: Connection):
        self._connection = connection

    def insert(self, job: Job) -> None:
        self._connection.execute(jobs.insert(), _values(job))

    def update(self, before: Job, job: Job) -> None:
        """Write what has changed, and no more: SQLite writes the indexes of all columns that are named."""
        known = _values(before)
        if changed := {name: value for name, value in _values(job).items() if value != known[name]}:
            self._connection.execute(UPDATE, changed | {"job_id": job.id})

    def by_id(self, job_id: str, *, to_write: bool = False) -> Job | None:
        return next(iter(self._read(BY_ID_TO_WRITE if to_write else BY_ID, job_id=job_id)), None)

    def by_task_id(self, task_id: str) -> list[Job]:
        """Of whatever account."""
        return self._read(BY_TASK_ID, handle=task_id)

    def by_key(self, account: str, key: str) -> list[Job]:
        return self._read(BY_KEY, my_account=account, handle=key)

    def by_key_or_id(self, name: str) -> list[Job]:
        """Of whatever account."""
        return self._read(BY_KEY_OR_ID, handle=name)

    def that_begins(self, text: str, account: str | None = None) -> Job | None:
        """The only job whose task id or key begins so: as a list or a memory cuts it off."""
        if len(text) < SHORTEST_BEGINNING:
            return None
        begins = or_(*(column.startswith(text, autoescape=True) for column in (jobs.c.task_id, jobs.c.key)))
        found = self._read(_latest(begins if account is None else and_(MINE, begins)), my_account=account, many=2)
        return found[0] if len(found) == 1 else None

    def newest(
        self,
        account: str,
        limit: int,
        states: Sequence[JobState],
        now: float,
        before: tuple[float, str] | None = None,
    ) -> list[Job]:
        # One by one: there is an index by which those of one state are found.
        queries = [LATEST_IN[state] for state in states] or [LATEST]
        named = {"my_account": account, "now": now, "many": limit}
        statements = [_older(query, named, before) for query in queries]
        found = [job for statement, values in statements for job in self._read(statement, **values)]
        return sorted(found, key=_newest_first)[:limit]

    def count(
        self, account: str, states: Sequence[JobState], now: float, before: tuple[float, str] | None = None
    ) -> int:
        """1,000 at the most: nobody goes on from there page by page, and others would wait for a count of all."""
        at, job_id = before or (0.0, "")
        named = {"my_account": account, "now": now, "before": at, "before_id": job_id}
        wanted: Sequence[JobState | None] = states or [None]
        queries = [COUNTS[state, before is not None] for state in wanted]
        return min(sum(int(self._connection.execute(query, named).scalar_one()) for query in queries), COUNTED_ROWS)

    def that_have(
        self,
        words: Sequence[str],
        account: str,
        limit: int,
        states: Sequence[JobState],
        before: tuple[float, str] | None,
        now: float,
    ) -> tuple[list[Job], int]:
        """The newest jobs that have all words, and how many there are, of the newest 20,000 that may."""
        folded = [_folded(word) for word in words]
        in_state = [or_(*map(_is_in, states))] if states else []
        query = select(jobs.c.id, jobs.c.request, jobs.c.saved_to).where(MINE, *in_state, *map(_may_have, folded))
        newest = query.order_by(jobs.c.opened_at.desc(), jobs.c.id).limit(SEARCHED)
        candidates = self._connection.execute(*_older(newest, {"my_account": account, "now": now}, before))
        ids = [job_id for job_id, request, file in candidates if _has(folded, request, file)]
        return self._read(BY_IDS, ids=_padded(ids[:limit])), min(len(ids), COUNTED_ROWS)

    def unfinished(self, account: str, since: float) -> list[Job]:
        return self._read(UNFINISHED, my_account=account, since=since)

    def has_unreported(self, account: str, except_ids: Collection[str]) -> bool:
        named = {"my_account": account, "except_ids": _padded(except_ids)}
        return self._connection.execute(FIRST_UNREPORTED, named).first() is not None

    def pop_unreported(self, account: str, except_ids: Collection[str]) -> list[Job]:
        found = self._read(UNREPORTED, my_account=account, except_ids=_padded(except_ids))
        self._connection.execute(REPORT, {"ids": _padded([job.id for job in found])})
        return found

    def lease(self, job_id: str, column: str, free_before: float, value: float) -> bool:
        """Whether this process got it, or there is no such row."""
        field = jobs.c[column]
        # A later time than ours would be was written by a clock that has since been set back.
        free = or_(field.is_(None), field <= free_before, field > value + CLOCKS_DIFFER_SECONDS)
        done = self._connection.execute(UPDATE.where(free).values({column: value}), {"job_id": job_id})
        return done.rowcount == 1 or self._connection.execute(HAS_ID, {"job_id": job_id}).first() is None

    def delete_ended(self, before: float) -> int:
        return self._connection.execute(DELETE_ENDED, {"now": before}).rowcount

    def schema_version(self) -> int:
        return int(self._connection.execute(select(version.c.version)).scalar_one())

    def day(self, draft: Draft, now: float, also: Collection[str]) -> tuple[Day, list[tuple[Job, Job]]]:
        """The day of a draft's account, and those of its jobs whose answer is seen to be overdue: before, and now."""
        day = {"my_account": draft.account, "since": now - DAY_SECONDS}
        one = {
            "handle": draft.key,
            "same": draft.fingerprint,
            "doubted_since": now - DOUBT_SECONDS,
            "ids": _padded(also),
        }
        found = self._read(OF_THE_DAY, **day, **one)
        known = [job.at(now) for job in found]
        older = [job for job in known if job.opened_at <= now - DAY_SECONDS]
        spent_before = [(job.opened_at, job.seconds) for job in reversed(older) if job.state != "rejected"]

        def spent() -> Iterator[tuple[float, int]]:
            yield from spent_before
            yield from ((at, seconds) for at, seconds in self._connection.execute(SPENT, day))

        def includes(ids: Collection[str]) -> Collection[str]:
            of_today = self._connection.execute(RECENT_AMONG, day | {"ids": _padded(ids)}).scalars() if ids else ()
            return {*of_today, *(job.id for job in older if job.id in ids)}

        seconds = self._connection.execute(SECONDS, day).scalar_one() + sum(seconds for _, seconds in spent_before)
        lapsed = [(before, job) for before, job in zip(found, known, strict=True) if job is not before]
        return Day(known, int(seconds), spent, includes), lapsed

    def _read(self, query: Select[Any], **named: Any) -> list[Job]:
        try:
            return sorted(map(_job, self._connection.execute(query, named)), key=_newest_first)
        except ValueError as error:  # no JSON where there should be: SQLite does not notice every damage
            raise Damaged from error


def _older(
    query: Select[Any], named: dict[str, Any], before: tuple[float, str] | None
) -> tuple[Select[Any], dict[str, Any]]:
    """A statement and its values, where only jobs before one are wanted."""
    if before is None:
        return query, named
    return query.where(OLDER), named | {"before": before[0], "before_id": before[1]}


def _may_have(word: str) -> ColumnElement[bool]:
    """Whether a job may have a word: what of it is plain ASCII is looked for here.

    What this cannot judge passes: JSON writes other letters as `\\u…`, and which of them are the same each database
    decides for itself.
    """
    part = max(re.findall(r"[a-z0-9]+", word), key=len, default="")
    request, file = cast(jobs.c.request, Text), func.lower(jobs.c.saved_to)
    return or_(
        func.lower(request).contains(part),
        request.contains("\\u", autoescape=True),
        func.coalesce(file, "").contains(part),
    )


def _has(words: Sequence[str], request: dict[str, Any] | None, saved_to: str | None) -> bool:
    ids = [subject["id"] for subject in request["subjects"]] if request else []
    text = _folded("\n".join([request["prompt"] if request else "", *ids, Path(saved_to or "").name]))
    return all(word in text for word in words)


def _folded(text: str) -> str:
    """As texts are compared: small letters, and one way of writing each."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _newest_first(job: Job) -> tuple[float, str]:
    return -job.opened_at, job.id


def _values(job: Job) -> dict[str, Any]:
    row = dict(vars(job))
    answer = {name: row.pop(name) for name in _ANSWER} | {"videos": [vars(video) for video in job.videos]}
    if sources := row.pop(_SOURCES):
        row["request"] = (job.request or {}) | {_SOURCES: sources}
    return row | {"key": job.key or None, "answer": answer}


def _job(row: Row[Any]) -> Job:
    known = row._asdict()
    answer = known.pop("answer")
    known["key"] = known["key"] or ""
    known[_SOURCES] = known["request"].pop(_SOURCES, {}) if known["request"] else {}
    videos = tuple(Video(**video) for video in answer.get("videos") or ())
    warnings = tuple(answer.get("warnings") or ())
    lists = {"videos": videos, "warnings": warnings, "redirected": bool(answer.get("redirected"))}
    return Job(**known | {name: answer.get(name) for name in _ANSWER} | lists)
