"""When the ledger cannot be used: a sentence that says why, before anything is bought, and no harm done."""

import logging
import os
import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_types import CallToolResult
from sqlalchemy import Engine, event

from command_line import call
from fake_router import FakeRouter, Reply, process, said, told
from refvideo_mcp.errors import Refused
from refvideo_mcp.images import LoadedRequest, Picture
from refvideo_mcp.jobs import Clock
from refvideo_mcp.jobs import submit as submitting
from refvideo_mcp.jobs.draft import draft_of
from refvideo_mcp.ledger import Draft, Job, Ledger
from refvideo_mcp.schemas import ReferenceVideoRequest
from virtual_time import VirtualClock

pytest_plugins = ["ledger_places"]

NOW = 1_800_000_000.0
NOTHING = "Nothing was sent: a job that cannot be remembered is not bought."
KEY_OF_USER = "nightly-render-0001"
AsLedger = Callable[[Path | str], Ledger]


def open_job(ledger: Ledger) -> Job:
    draft = Draft("ann", {"prompt": "@1 waves"}, "fingerprint", "pictures", 5)
    return ledger.insert_or_join(draft, lambda known: draft, NOW, NOW + 120)


def refusal(ledger: Ledger) -> str:
    with pytest.raises(Refused) as raised:
        open_job(ledger)
    return str(raised.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ledger with one job in it, closed."""
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        open_job(ledger)
    return tmp_path / "ledger.db"


def test_only_its_owner_may_read_a_ledger(tmp_path: Path, opened: AsLedger) -> None:
    before = os.umask(0)
    try:
        open_job(opened(tmp_path / "state" / "ledger.db"))
    finally:
        os.umask(before)
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "state").iterdir()}
    assert modes == {"ledger.db": "0o600", "ledger.db-shm": "0o600", "ledger.db-wal": "0o600"}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_importing_the_ledger_does_not_import_its_database_layer() -> None:
    """A server answers its first `tools/list` sooner for it."""
    code = "import refvideo_mcp.ledger, sys; print('sqlalchemy' in sys.modules, 'psycopg' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_pictures_and_secrets_of_their_addresses_never_reach_the_file(tmp_path: Path, opened: AsLedger) -> None:
    secrets = "https://user:PASSWORD@img.example/cat.png?sig=SIGNATURE#FRAGMENT"
    request = ReferenceVideoRequest.model_validate(
        {"prompt": "@1 waves", "subjects": [{"images": ["cat.png"]}, {"images": [secrets]}]}
    )
    picture = Picture("cat.png", b"PICTURE-BYTES", "png", 1, 1)
    draft = draft_of("ann", LoadedRequest(request, {"cat.png": picture}, (), ()))
    opened(tmp_path / "ledger.db").insert_or_join(draft, lambda known: draft, NOW, NOW + 120)
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"https://img.example/cat.png" in written
    for secret in (b"PICTURE-BYTES", b"UElDVFVSRS1CWVRFUw", b"PASSWORD", b"SIGNATURE", b"FRAGMENT"):
        assert secret not in written


def test_a_newer_ledger_is_refused_and_left_as_it_was(file: Path, opened: AsLedger) -> None:
    with closing(sqlite3.connect(file)) as newer:
        newer.executescript("UPDATE refvideo_schema SET version = 7; PRAGMA journal_mode=DELETE")
    before = file.read_bytes()
    assert refusal(opened(file)) == (
        "The ledger was written by a newer refvideo-mcp (its version is 7, this one reads 2). "
        "Ask the user to update refvideo-mcp."
    )
    assert file.read_bytes() == before


def test_a_file_that_is_no_ledger_is_refused_and_left_as_it_was(tmp_path: Path, opened: AsLedger) -> None:
    file = tmp_path / "full of readonly permissions.db"  # words of other troubles
    file.write_text("These are my holiday notes.\n" * 100)
    before = file.read_bytes()
    assert refusal(opened(file)) == (
        f"The job ledger ({file}) cannot be used: the file is no ledger. "
        "Ask the user to move it away (it was left as it is)."
    )
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("harm", ["a page is overwritten", "the end is missing", "a row is no JSON"])
def test_a_damaged_ledger_is_refused_and_left_as_it_was(file: Path, opened: AsLedger, harm: str) -> None:
    content = bytearray(file.read_bytes())
    if harm == "a page is overwritten":
        content[4096:] = b"\xa5" * (len(content) - 4096)
    elif harm == "the end is missing":
        del content[4096:]
    else:
        content = content.replace(b'{"prompt": ', b'{"prompt"; ')
    file.write_bytes(content)
    assert refusal(opened(file)) == (
        f"The job ledger ({file}) cannot be used: it is damaged. "
        "Ask the user to move it away, with its -wal and -shm files (it was left as it is)."
    )
    assert file.read_bytes() == content


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """For root nothing is read-only."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may reach and write to; pytest's own is for its owner only."""
    with tempfile.TemporaryDirectory(prefix="refvideo-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def read_only_file(file: Path) -> None:
    with closing(Ledger(file)) as ledger:
        open_job(ledger)
    file.chmod(0o444)


def read_only_folder(file: Path) -> None:
    file.parent.chmod(0o555)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (read_only_file, "it is read-only. Ask the user to make it writable or set REFVIDEO_DATABASE_URL"),
        (
            read_only_folder,
            "it may not be opened. Ask the user to mend its permissions or set REFVIDEO_DATABASE_URL",
        ),
    ],
)
def test_a_ledger_that_may_not_be_written_is_refused(
    open_folder: Path, made: Callable[[Path], None], said: str
) -> None:
    file = open_folder / "ledger.db"
    made(file)
    with as_ordinary_user(), closing(Ledger(file)) as ledger:
        assert refusal(ledger) == f"The job ledger ({file}) cannot be used: {said}."


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, opened: AsLedger) -> None:
    (tmp_path / "state").write_text("This is a file.")
    file = tmp_path / "state" / "ledger.db"
    assert refusal(opened(file)) == (
        f"The job ledger ({file}) cannot be used: it cannot be opened. "
        "Ask the user to check its folder and permissions or set REFVIDEO_DATABASE_URL."
    )


@contextmanager
def full_disk() -> Iterator[None]:
    """SQLite's own limit gives the same answer as a disk without space."""

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA max_page_count=1")

    event.listen(Engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(Engine, "connect", limit)


@contextmanager
def failing_disk() -> Iterator[None]:
    """No file may grow, new ones neither."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("known", [True, False], ids=["a known ledger", "a new ledger"])
@pytest.mark.parametrize(
    ("disk", "said"),
    [
        (full_disk, "the disk is full. Ask the user to free some space"),
        (failing_disk, "the disk is full or reports errors. Ask the user to check it"),
    ],
)
def test_a_full_disk_refuses_the_job(
    tmp_path: Path, opened: AsLedger, disk: Callable[[], AbstractContextManager[None]], said: str, known: bool
) -> None:
    file = tmp_path / "ledger.db"
    with closing(Ledger(file)) as before:
        jobs = [open_job(before) for _ in range(20 if known else 0)]
    with disk(), closing(Ledger(file)) as ledger, pytest.raises(Refused) as refused:
        jobs.extend(open_job(ledger) for _ in range(20))  # some may still fit into what the file holds already
    assert str(refused.value) == f"The job ledger ({file}) cannot be used: {said}."
    assert {job.id for job in opened(file).newest("ann", 100)} == {job.id for job in jobs}


def test_a_row_that_a_slow_disk_was_too_slow_for_is_rejected(tmp_path: Path, opened: AsLedger) -> None:
    """Its caller has given up, and sends nothing."""

    def dawdle(_: object) -> None:
        time.sleep(0.3)

    ledger = opened(tmp_path / "ledger.db")
    in_time = open_job(ledger)
    event.listen(Engine, "commit", dawdle)
    try:
        draft = Draft("ann", {"prompt": "@1 waves"}, "fingerprint", "pictures", 5)
        with pytest.raises(Refused, match="another program holds it locked, or it hangs"):
            ledger.insert_or_join(draft, lambda known: draft, NOW, NOW + 120, within=0.2)
    finally:
        event.remove(Engine, "commit", dawdle)
    late = ledger.get(draft.id)
    assert late is not None
    assert (late.state, late.holds_key) == ("rejected", False)
    assert ledger.get(in_time.id) == in_time


@pytest.mark.anyio
async def test_calls_on_a_locked_ledger_end_in_time_and_who_only_reads_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "ANSWER_SECONDS", 4.0)  # real seconds: the lock is outside of our clock
    file, router = tmp_path / "ledger.db", FakeRouter(Clock())
    request = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
    answers: dict[str, CallToolResult] = {}
    async with process(router, file) as client:
        task_id = told(await client.call_tool("generate_reference_video", request))["task_id"]

        async def call(name: str, tool: str, arguments: Any) -> None:
            answers[name] = await client.call_tool(tool, arguments)

        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with anyio.fail_after(4.0 + 4.0):  # the second half is for a loaded machine
                async with anyio.create_task_group() as tasks:
                    for seed in range(8):
                        tasks.start_soon(call, f"buy {seed}", "generate_reference_video", request | {"seed": seed + 1})
                    await anyio.sleep(0.5)
                    with anyio.fail_after(2.0):
                        listed = await client.call_tool("list_reference_videos", {})
                    assert not [name for name in answers if name.startswith("buy")]
            other.execute("ROLLBACK")
        again = await client.call_tool("generate_reference_video", request | {"seed": 9})
    assert [job["task_id"] for job in told(listed)["jobs"]] == [task_id]
    assert len(answers) == 8
    for answer in answers.values():
        assert "locked" in said(answer) or "too long" in said(answer)
    assert told(again)["task_id"] == "task-2"


def fill(disk: Path) -> None:
    with (disk / "holiday.mp4").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (fill, "the disk is full or reports errors. Ask the user to check it"),
        (
            make_read_only,
            "it cannot be opened. Ask the user to check its folder and permissions or set REFVIDEO_DATABASE_URL",
        ),
    ],
    ids=["full", "read-only"],
)
async def test_on_a_full_or_read_only_disk_nothing_is_sent(
    small_disk: Path, spoil: Callable[[Path], None], why: str
) -> None:
    clock, file = VirtualClock(), small_disk / "ledger.db"
    router = FakeRouter(clock)
    request = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
    async with clock.passing():
        async with process(router, file) as client:
            assert not (await client.call_tool("generate_reference_video", request)).is_error
        spoil(small_disk)
        async with process(router, file) as client:
            refused = await client.call_tool("generate_reference_video", request | {"seed": 1})
    assert refused.is_error
    assert said(refused) == f"The job ledger ({file}) cannot be used: {why}. {NOTHING}"
    assert len(router.posts) == 1


@pytest.mark.anyio
async def test_a_task_id_that_cannot_be_written_is_in_the_log_at_once(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be lost with this process."""
    clock, file = VirtualClock(), small_disk / "ledger.db"
    router = FakeRouter(clock, submission=Reply(after=5))
    request = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
    async with clock.passing(), process(router, file) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.call_tool, "generate_reference_video", request | {"idempotency_key": KEY_OF_USER})
        await clock.sleep(4)
        fill(small_disk)
        await clock.sleep(2)
        (line,) = (record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)
        (small_disk / "holiday.mp4").unlink()
    assert line == (
        f"not written down: task task-1 (idempotency_key {KEY_OF_USER}) is queued. "
        f"The job ledger ({file}) cannot be used: the disk is full."
    )


@pytest.mark.anyio
async def test_only_a_purchase_is_told_that_nothing_was_bought(tmp_path: Path) -> None:
    clock, file = VirtualClock(), tmp_path / "ledger.db"
    file.write_text("These are my holiday notes.\n" * 100)
    request = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
    async with clock.passing(), process(FakeRouter(clock), file) as client:
        bought = await client.call_tool("generate_reference_video", request)
        listed = await client.call_tool("list_reference_videos", {})
    forgotten = call(
        "forget", "--older-than", "9", MYROUTER_API_KEY="k" * 20, REFVIDEO_DATABASE_URL=f"sqlite:///{file.as_posix()}"
    )
    why = f"The job ledger ({file}) cannot be used: the file is no ledger."
    assert said(bought) == f"{why} Ask the user to move it away (it was left as it is). {NOTHING}"
    assert said(listed) == f"{why} Ask the user to move it away (it was left as it is)."
    assert forgotten.returncode == 2
    assert forgotten.stderr.endswith("the file is no ledger. Move it away (it was left as it is).\n")
