"""The ledger's file is moved away, deleted or replaced while servers run: no job goes into a file without a name."""

import multiprocessing
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

import anyio
import pytest
from mcp_types import CallToolResult

from fake_router import LOST, FakeRouter, Reply, process, refused, said, told
from marker import KEY
from refvideo_mcp.app import running
from refvideo_mcp.errors import Refused
from refvideo_mcp.ledger import Draft, Job, Ledger
from refvideo_mcp.settings import Settings
from virtual_time import EPOCH, VirtualClock

pytest_plugins = ["ledger_places"]

NOW = 1_800_000_000.0
AsLedger = Callable[[Path | str], Ledger]


def open_job(ledger: Ledger) -> Job:
    draft = Draft("ann", {"prompt": "@1 waves"}, "fingerprint", "pictures", 5)
    return ledger.insert_or_join(draft, lambda known: draft, NOW, NOW + 120)


def ids(ledger: Ledger) -> set[str]:
    return {job.id for job in ledger.newest("ann", 1000)}


def ids_in(file: Path) -> set[str]:
    """What a file holds by itself, without any log beside it."""
    with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as database:
        return {row[0] for row in database.execute("SELECT id FROM refvideo_jobs")}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


def delete_alone(file: Path) -> None:
    file.unlink()


def delete_with_logs(file: Path) -> None:
    for path in file.parent.iterdir():
        path.unlink()


def delete_folder(file: Path) -> None:
    delete_with_logs(file)
    file.parent.rmdir()


def move_alone(file: Path) -> None:
    file.rename(file.with_name("old.db"))


def move_with_logs(file: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).rename(file.with_name("old.db" + suffix))


def move_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("old"))


HARMS = [delete_alone, delete_with_logs, delete_folder, move_alone, move_with_logs, move_folder]


@pytest.mark.parametrize("harm", HARMS)
def test_the_next_job_goes_into_the_file_at_the_path(
    file: Path, opened: AsLedger, harm: Callable[[Path], None]
) -> None:
    ledger, another = opened(file), opened(file)
    before = {open_job(ledger).id, open_job(another).id}
    harm(file)
    after = {open_job(ledger).id, open_job(another).id, open_job(ledger).id}
    assert ids(ledger) == ids(another) == after
    ledger.close()
    another.close()
    assert ids_in(file) == after
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    for old in (file.with_name("old.db"), file.parent.with_name("old") / "ledger.db"):
        if old.exists():
            assert ids_in(old) == before  # though its log stayed behind
    assert oct(file.stat().st_mode)[-3:] == "600"


@pytest.mark.parametrize("harm", [delete_alone, move_alone])
def test_a_new_process_does_not_take_the_log_of_others_for_its_own(
    file: Path, opened: AsLedger, harm: Callable[[Path], None]
) -> None:
    ledger = opened(file)
    before = {open_job(ledger).id}
    harm(file)
    new = opened(file)
    after = {open_job(new).id, open_job(ledger).id, open_job(new).id}
    assert ids(ledger) == ids(new) == after
    ledger.close()
    new.close()
    assert ids_in(file) == after
    if harm is move_alone:
        assert ids_in(file.with_name("old.db")) == before


def test_another_file_at_the_path_is_the_ledger_from_then_on(file: Path, tmp_path: Path, opened: AsLedger) -> None:
    ledger, another = opened(file), opened(file)
    open_job(ledger)
    open_job(another)
    with closing(Ledger(tmp_path / "backup.db")) as backup:
        job = open_job(backup)
    (tmp_path / "backup.db").replace(file)
    assert ledger.newest("ann", 5) == [job]
    after = {job.id, open_job(ledger).id, open_job(another).id, open_job(ledger).id}
    assert ids(ledger) == ids(another) == after
    ledger.close()
    another.close()
    assert ids_in(file) == after


def test_what_cannot_be_made_again_is_refused(file: Path, opened: AsLedger) -> None:
    ledger = opened(file)
    open_job(ledger)
    move_folder(file)
    file.parent.write_text("This is a file.")
    with pytest.raises(Refused, match="it cannot be opened"):
        open_job(ledger)
    file.parent.unlink()
    assert ids(ledger) == set()


def keep_opening(file: Path, rounds: int) -> list[str]:
    found: list[str] = []
    with closing(Ledger(file)) as ledger:
        while len(found) < rounds:
            with suppress(Refused):  # it may have been moved twice during one call
                found.append(open_job(ledger).id)
    return found


def test_no_row_is_lost_between_several_processes(file: Path, tmp_path: Path) -> None:
    """They notice at different times, and each finds the logs of the others at the same names."""
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.starmap(keep_opening, [(file, 1)] * 3)
        running = pool.starmap_async(keep_opening, [(file, 150)] * 3)
        moved: list[Path] = []
        while not running.ready():
            running.wait(0.3)
            moved.append(tmp_path / f"old-{len(moved)}.db")
            with suppress(FileNotFoundError):  # nobody has noticed the last time yet
                file.rename(moved[-1])
        opened_ids = {job_id for found in running.get() for job_id in found}
    kept = set[str]()
    for path in (*moved, file):
        if path.exists():
            with closing(sqlite3.connect(path)) as database:
                assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)], path
                if database.execute("SELECT * FROM sqlite_master").fetchall():  # not moved before it had its tables
                    kept |= {row[0] for row in database.execute("SELECT id FROM refvideo_jobs")}
    assert opened_ids <= kept


@pytest.mark.anyio
@pytest.mark.parametrize("harm", HARMS)
async def test_a_job_that_is_followed_goes_on_in_the_new_file(
    file: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    clock = VirtualClock()
    router = FakeRouter(clock, submissions=[Reply(), Reply(after=20)])
    request = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
    answers: list[CallToolResult] = []
    async with clock.passing():
        async with process(router, file, output_dir=tmp_path / "videos") as client, anyio.create_task_group() as tasks:
            await client.call_tool("generate_reference_video", request)

            async def call() -> None:
                answers.append(await client.call_tool("generate_reference_video", request | {"seed": 2}))

            tasks.start_soon(call)
            await clock.sleep(10)
            harm(file)
            await clock.sleep(20)
            key = told(answers[0])["task_id"]
            again = await client.call_tool("generate_reference_video", request | {"seed": 3})
            await clock.sleep(120)
        async with process(router, file, output_dir=tmp_path / "videos") as client:
            listed = await client.call_tool("list_reference_videos", {})

    assert (key, told(again)["task_id"]) == ("task-2", "task-3")
    jobs = told(listed)["jobs"]
    assert {job["task_id"]: job["state"] for job in jobs} == dict.fromkeys(["task-1", "task-2", "task-3"], "succeeded")
    assert len(jobs) == 3
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == len(router.posts) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("harm", [delete_with_logs, move_alone])
@pytest.mark.parametrize(
    ("reply", "patience", "key"),
    [(Reply(after=20), 5, None), (Reply(after=4), 3, None), (LOST, 45, None), (Reply(), 45, "order-2026-11-23-0007")],
    ids=["while it is sent", "before its answer was heard", "its answer lost", "by its key"],
)
async def test_a_call_repeated_after_the_file_is_gone_buys_nothing_again(
    file: Path, harm: Callable[[Path], None], reply: Reply, patience: float, key: str | None
) -> None:
    """The new file knows nothing of the job; this process does."""
    clock = VirtualClock()
    router = FakeRouter(clock, submissions=[reply])
    call = {"prompt": "@1 waves", "subjects": [{"images": ["https://example.com/cat.png"]}], "idempotency_key": key}
    async with clock.passing(), process(router, file) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "generate_reference_video", call)
            await clock.sleep(patience)
            tasks.cancel_scope.cancel()
        harm(file)
        again = await client.call_tool("generate_reference_video", call)
        await clock.sleep(5)
        listed = await client.call_tool("list_reference_videos", {})

    assert len(router.posts) == 1
    if reply.body is None:
        assert told(again)["task_id"] == "task-1"
        assert [job["task_id"] for job in told(listed)["jobs"]] == ["task-1"]
    else:
        assert again.is_error


@pytest.mark.anyio
@pytest.mark.parametrize("gives_up", [True, False])
async def test_a_call_repeated_a_day_after_the_file_was_gone_buys_nothing_while_the_first_is_sent(
    file: Path, gives_up: bool
) -> None:
    """The machine slept: this process remembers the job however old it is by the clock on the wall."""
    clock = VirtualClock()
    router = FakeRouter(clock, submissions=[Reply(after=20)])
    call = {"prompt": "@1 waves", "subjects": [{"images": ["https://example.com/cat.png"]}]}
    async with clock.passing(), process(router, file) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.call_tool, "generate_reference_video", call)
        await clock.sleep(5)
        if gives_up:
            tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            delete_with_logs(file)
            clock.set_by += 26 * 3600
            again = await client.call_tool("generate_reference_video", call)

    assert again.is_error
    assert len(router.posts) == 1


@pytest.mark.anyio
async def test_what_was_bought_before_the_file_was_gone_counts_in_the_allowance_and_what_was_rejected_does_not(
    file: Path,
) -> None:
    clock = VirtualClock()
    router = FakeRouter(clock, submissions=[refused(400, "ILLEGAL_PROMPT")])
    subjects = [{"images": ["https://example.com/cat.png"]}]
    async with clock.passing(), process(router, file, max_seconds_per_day=12) as client:
        for prompt in ("@1 waves", "@1 runs"):
            await client.call_tool("generate_reference_video", {"prompt": prompt, "subjects": subjects})
        await clock.sleep(90)
        delete_with_logs(file)
        answer, refusal = [
            await client.call_tool("generate_reference_video", {"prompt": prompt, "subjects": subjects})
            for prompt in ("@1 sits", "@1 sleeps")
        ]

    assert said(answer).endswith("Allowance: 2 of 12 s of video left in these 24 hours.")
    freed = datetime.fromtimestamp(EPOCH + 24 * 3600).astimezone()  # a day after the second call, not after the third
    assert f"enough is free again at {freed:%Y-%m-%d %H:%M %Z}" in said(refusal)


@pytest.mark.anyio
async def test_a_person_can_release_an_uncertain_job_though_its_file_is_gone(file: Path) -> None:
    clock = VirtualClock()
    router = FakeRouter(clock, submissions=[LOST])
    call = {"prompt": "@1 waves", "subjects": [{"images": ["https://example.com/cat.png"]}]}
    async with clock.passing(), process(router, file) as client:
        lost = await client.call_tool("generate_reference_video", call)
        delete_with_logs(file)
        again = await client.call_tool("generate_reference_video", call)
        with closing(Ledger(file)) as command:
            (job,) = command.by_key_or_id(told(lost)["idempotency_key"])
            command.release(job.id)
        answer = await client.call_tool("generate_reference_video", call)

    assert job.key in said(again)
    assert job.state == "uncertain"
    assert told(answer)["task_id"] == "task-2"


@pytest.mark.anyio
async def test_a_video_can_be_saved_once_more_though_the_file_is_gone(file: Path, tmp_path: Path) -> None:
    clock = VirtualClock()
    router = FakeRouter(clock, takes=5)
    settings = Settings(api_key=KEY, database=file, output_dir=tmp_path / "videos")
    call = {"prompt": "@1 waves", "subjects": [{"images": ["https://example.com/cat.png"]}]}
    async with clock.passing():
        async with process(router, file) as client:
            await client.call_tool("generate_reference_video", call)
            await clock.sleep(10)
        delete_with_logs(file)
        async with running(settings, transport=router.transport, clock=clock) as state:
            job = await state.account.save("task-1")
    assert job.saved_to
    assert await anyio.Path(job.saved_to).is_file()
