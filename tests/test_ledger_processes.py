"""Several server processes on one ledger: one per window of an IDE, or several replicas."""

import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from postgres import Postgres
from refvideo_mcp.errors import Refused
from refvideo_mcp.ledger import Day, Draft, Job, Ledger
from refvideo_mcp.ledger.store import BUSY_SECONDS

pytest_plugins = ["ledger_places"]

NOW = 1_800_000_000.0
PROCESSES = 4
ROUNDS = 25

at_once: Barrier  # each process has its own

Act = Callable[[Path | str, Barrier], Any]
Together = Callable[[Act, Path | str], list[Any]]


@pytest.fixture
def ledger(place: Path | str, opened: Callable[[Path | str], Ledger]) -> Ledger:
    """Elsewhere its path, here itself."""
    return opened(place)


@pytest.fixture(scope="module")
def together() -> Iterator[Together]:
    """Runs a function of this file in several processes at once; returns what each of them returned."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    with context.Pool(PROCESSES, _keep, (barrier,)) as pool:

        def run(act: Act, place: Path | str) -> list[Any]:
            barrier.reset()
            # Each waits at the barrier for the others, so no process gets two.
            return pool.starmap(_run, [(act, place)] * PROCESSES, chunksize=1)

        yield run


def _keep(barrier: Barrier) -> None:
    global at_once
    at_once = barrier


def _run(act: Act, place: Path | str) -> Any:
    try:
        return act(place, at_once)
    except BaseException:
        at_once.abort()  # or the others would wait for ever
        raise


def draft(account: str = "ann") -> Draft:
    return Draft(account, {"prompt": "@1 waves"}, "fingerprint", "pictures", 5)


def open_job(ledger: Ledger, account: str = "ann") -> Job:
    new = draft(account)
    return ledger.insert_or_join(new, lambda _: new, NOW, NOW + 120)


def open_unless_known(place: Path | str, at_once: Barrier) -> list[str]:
    ids = []
    with closing(Ledger(place)) as ledger:
        for number in range(ROUNDS):
            new = draft(f"account {number}")

            def decide(day: Day, new: Draft = new) -> Job | Draft:
                return day.jobs[0] if day.jobs else new

            at_once.wait()
            ids.append(ledger.insert_or_join(new, decide, NOW, NOW + 120).id)
    return ids


def test_of_several_that_open_at_once_one_opens_and_the_others_join(place: Path | str, together: Together) -> None:
    """The first round begins with no ledger at all."""
    first, *others = together(open_unless_known, place)
    assert others == [first] * (PROCESSES - 1)
    assert len(set(first)) == ROUNDS


def open_one_key(place: Path | str, at_once: Barrier) -> list[str]:
    def decide(day: Day) -> Job | Draft:
        return next((job for job in day.jobs if job.key == new.key), new)

    ids = []
    with closing(Ledger(place)) as ledger:
        at_once.wait()
        for _ in range(ROUNDS):
            new = replace(draft(), key="nightly-render-0001", key_given=True)
            ids.append(ledger.insert_or_join(new, decide, NOW, NOW + 120).id)
    return ids


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_a_key_means_one_job_whatever_the_database_does_by_default(
    postgres: Postgres, together: Together, isolation: str
) -> None:
    """Under another default a transaction sees the rows as they were before it waited for its turn."""
    ids = [job_id for ids in together(open_one_key, postgres.new_database(isolation)) for job_id in ids]
    assert len(ids) == PROCESSES * ROUNDS
    assert len(set(ids)) == 1


def open_unless_open(place: Path | str, at_once: Barrier) -> list[tuple[float, float]]:
    spans = []

    def decide(day: Day) -> Draft:
        if any(not job.ended for job in day.jobs):
            raise Refused("A job is open.")
        return new

    with closing(Ledger(place)) as ledger:
        at_once.wait()
        for _ in range(ROUNDS):
            new = draft()
            try:
                job = ledger.insert_or_join(new, decide, NOW, NOW + 120)
            except Refused as error:
                if error.happened != "A job is open.":
                    raise
                continue
            begun = time.monotonic()
            assert ledger.newest("ann", 2, ["submitting"]) == [job]
            spans.append((begun, time.monotonic()))
            ledger.update(job.id, lambda job: replace(job, state="failed"))
    return spans


def test_never_more_than_one_job_is_open_where_one_is_allowed(
    place: Path | str, ledger: Ledger, together: Together
) -> None:
    spans = sorted(span for spans in together(open_unless_open, place) for span in spans)
    assert all(ended <= begun for (_, ended), (begun, _) in pairwise(spans))
    assert [job.state for job in ledger.newest("ann", PROCESSES * ROUNDS)] == ["failed"] * len(spans)


def add_one(job: Job) -> Job:
    return replace(job, progress_percent=(job.progress_percent or 0) + 1)


def count_up(place: Path | str, at_once: Barrier) -> None:
    with closing(Ledger(place)) as ledger:
        (job,) = ledger.newest("ann", 2)
        at_once.wait()
        for _ in range(ROUNDS):
            ledger.update(job.id, add_one)


def test_no_update_of_any_process_is_lost(place: Path | str, ledger: Ledger, together: Together) -> None:
    job = open_job(ledger)
    together(count_up, place)
    assert ledger.get(job.id) == replace(job, progress_percent=PROCESSES * ROUNDS)


def test_no_update_of_any_thread_is_lost(ledger: Ledger) -> None:
    job = open_job(ledger)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(ROUNDS):
            threads.submit(ledger.update, job.id, add_one)
    assert ledger.get(job.id) == replace(job, progress_percent=ROUNDS)


def claim_each(place: Path | str, at_once: Barrier) -> list[bool]:
    won = []
    with closing(Ledger(place)) as ledger:
        for job in ledger.newest("ann", ROUNDS):
            at_once.wait()
            won.append(ledger.try_lease(job.id, "saving_until", NOW, NOW + 600))
    return won


def test_one_process_wins_a_claim(place: Path | str, ledger: Ledger, together: Together) -> None:
    for _ in range(ROUNDS):
        open_job(ledger)
    won = together(claim_each, place)
    assert [sum(one_job) for one_job in zip(*won, strict=True)] == [1] * ROUNDS


def tell_each(place: Path | str, at_once: Barrier) -> list[str]:
    ids = []
    with closing(Ledger(place)) as ledger:
        for number in range(ROUNDS):
            at_once.wait()
            ids += [job.id for job in ledger.pop_unreported(f"account {number}", set())]
    return ids


def test_a_finished_video_is_told_by_one_process(place: Path | str, ledger: Ledger, together: Together) -> None:
    finished = [open_job(ledger, f"account {number}").id for number in range(ROUNDS)]
    for job_id in finished:
        ledger.update(job_id, lambda job: replace(job, state="succeeded"))
    told = [job_id for ids in together(tell_each, place) for job_id in ids]
    assert sorted(told) == sorted(finished)


def adopt_each(place: Path | str, at_once: Barrier) -> list[str]:
    ids = []
    with closing(Ledger(place)) as ledger:
        for number in range(ROUNDS):
            stranger = Job(draft().id, "ann", state="queued", task_id=f"task-{number}", opened_at=NOW, changed_at=NOW)
            at_once.wait()
            ids.append(ledger.import_job(stranger).id)
    return ids


def test_a_task_from_elsewhere_is_adopted_by_one_process(place: Path | str, together: Together) -> None:
    first, *others = together(adopt_each, place)
    assert others == [first] * (PROCESSES - 1)


def test_a_ledger_that_is_busy_is_waited_for(tmp_path: Path, opened: Callable[[Path], Ledger]) -> None:
    ledger = opened(tmp_path / "ledger.db")
    job = open_job(ledger)
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE refvideo_jobs SET state = 'queued'")
        done = threading.Timer(0.1, other.execute, ["COMMIT"])
        done.start()
        assert ledger.update(job.id, add_one) == replace(job, state="queued", progress_percent=1)
        done.join()


@pytest.mark.parametrize("is_open", [True, False], ids=["an open ledger", "a new process"])
def test_who_reads_waits_for_nobody(tmp_path: Path, opened: Callable[[Path], Ledger], is_open: bool) -> None:
    ledger = opened(tmp_path / "ledger.db")
    job = ledger.update(open_job(ledger).id, lambda job: replace(job, task_id="task-1"))
    assert job is not None
    reader = ledger if is_open else opened(tmp_path / "ledger.db")
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE refvideo_jobs SET state = 'queued'")
        begun = time.monotonic()
        assert reader.get(job.id) == job
        assert reader.find("ann", "task-1") == job
        assert reader.newest("ann", 5) == reader.unfinished("ann", 0) == reader.by_key_or_id(job.id) == [job]
        assert not reader.belongs_to_other("ann", "task-1")
        assert reader.pop_unreported("ann", set()) == []
        assert time.monotonic() - begun < BUSY_SECONDS / 2


def test_readers_of_a_new_file_are_waited_for(tmp_path: Path, opened: Callable[[Path], Ledger]) -> None:
    """SQLite itself does not wait with its switch to a write-ahead log: of two windows opened together, one failed."""
    path = tmp_path / "ledger.db"
    with closing(Ledger(path)) as ledger:
        job = open_job(ledger)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN")
        other.execute("SELECT * FROM refvideo_jobs").fetchall()
        done = threading.Timer(0.1, other.execute, ["COMMIT"])
        done.start()
        assert opened(path).get(job.id) == job
        done.join()
        assert path.with_name("ledger.db-wal").exists()
