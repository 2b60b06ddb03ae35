"""A PostgreSQL server that stands still: nobody waits for it for long, and afterwards all goes on by itself."""

import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult

from fake_router import FakeRouter, process, said, told
from postgres import Postgres
from refvideo_mcp.errors import Refused
from refvideo_mcp.jobs import Clock
from refvideo_mcp.ledger import Draft, Job, Ledger

pytest_plugins = ["ledger_places"]

NOW = 1_800_000_000.0
BOUND_SECONDS = 16.0  # 10 to 12, and something for a loaded machine
SUBJECTS = [{"id": "1", "images": ["https://pictures.example/cat.png"]}]

AsLedger = Callable[[Path | str], Ledger]
Result = TypeVar("Result")

InTime = Callable[..., list[object]]


@pytest.fixture
def place(postgres: Postgres) -> str:
    return postgres.new_place()


@pytest.fixture
def in_time() -> Iterator[InTime]:
    """Runs a function that may wait for the server; what it returned or raised, which must come in time."""
    with ThreadPoolExecutor(40) as threads:

        def run(*functions: Callable[[], object]) -> list[object]:
            running = [threads.submit(function) for function in functions]
            done, _ = wait(running, BOUND_SECONDS)
            assert len(done) == len(running)
            return [future.exception() or future.result() for future in running]

        yield run


def soon(function: Callable[[], Result]) -> Result:
    """What it returns as soon as the ledger can be used again."""
    for _ in range(100):
        with suppress(Refused):
            return function()
        time.sleep(0.1)
    return function()


def open_job(ledger: Ledger, key: str = "nightly-render-0001", within: float = 30.0) -> Job:
    draft = Draft("ann", {"prompt": "@1 waves"}, "fingerprint", "pictures", 5, key=key)
    return ledger.insert_or_join(draft, lambda known: draft, NOW, NOW + 120, within)


def test_no_function_waits_for_a_server_that_hangs(
    postgres: Postgres, place: str, opened: AsLedger, in_time: InTime
) -> None:
    ledger, another = opened(place), opened(place)
    job = open_job(ledger)
    with postgres.frozen():
        answers = in_time(
            lambda: open_job(ledger),
            lambda: open_job(another),
            lambda: ledger.get(job.id),
            lambda: ledger.find("ann", "task-1"),
            lambda: ledger.newest("ann", 5),
            lambda: ledger.update(job.id, lambda job: replace(job, told=True)),
            lambda: ledger.try_lease(job.id, "saving_until", NOW, NOW + 600),
            lambda: ledger.pop_unreported("ann", set()),
        )
    for answer in answers:
        assert isinstance(answer, Refused)
        assert "another program holds it locked, or it hangs" in str(answer) or "cannot be reached" in str(answer)
    assert soon(lambda: ledger.get(job.id)) == soon(lambda: another.get(job.id)) == job
    assert ledger.newest("ann", 5) == [job]


def test_a_process_ends_though_the_server_hangs(
    postgres: Postgres, place: str, opened: AsLedger, in_time: InTime
) -> None:
    ledger = opened(place)
    open_job(ledger)
    with postgres.frozen():
        assert in_time(ledger.close) == [None]


def test_a_server_whose_sessions_hang_is_asked_in_a_new_one(
    postgres: Postgres, place: str, opened: AsLedger, in_time: InTime
) -> None:
    ledger = opened(place)
    job = open_job(ledger)
    with postgres.frozen(only_sessions=True):
        assert in_time(lambda: ledger.get(job.id)) == [job]


def stand_still_in_the_middle(place: str) -> None:
    """A process that is frozen while it opens a job, as a paused container is."""

    def decide(_: object) -> Draft:
        os.kill(os.getpid(), signal.SIGSTOP)
        raise AssertionError

    with closing(Ledger(place)) as ledger:
        ledger.insert_or_join(Draft("ann", {}, "other", "pictures", 5), decide, NOW, NOW + 120)


def test_a_process_that_stands_still_keeps_the_others_out_only_for_seconds(
    place: str, opened: AsLedger, in_time: InTime
) -> None:
    ledger = opened(place)
    open_job(ledger)
    process = multiprocessing.get_context("spawn").Process(target=stand_still_in_the_middle, args=(place,))
    process.start()
    try:
        assert process.pid is not None
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        waited = in_time(lambda: open_job(ledger))
        again = in_time(lambda: soon(lambda: open_job(ledger)))
    finally:
        process.kill()
        process.join()
    assert isinstance(waited[0], Job) or "another program holds it locked" in str(waited[0])
    assert isinstance(again[0], Job)


class Line:
    """A way to the server on which no answer to the next COMMIT arrives."""

    def __init__(self, postgres: Postgres, folder: Path):
        self.loses_answers = False
        self._server = str(postgres.folder / ".s.PGSQL.5432")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                broken = threading.Event()
                threading.Thread(target=self._pass, args=(client, server, broken, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, broken, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, broken: threading.Event, is_client: bool) -> None:
        with source, suppress(OSError):
            while said := source.recv(65536):
                if is_client and self.loses_answers and b"COMMIT\0" in said:
                    broken.set()
                if is_client or not broken.is_set():
                    target.sendall(said)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def line(postgres: Postgres) -> Iterator[tuple[Line, str]]:
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        line = Line(postgres, Path(folder))
        yield line, postgres.new_place().replace(str(postgres.folder), folder)
        line.close()


def test_a_row_that_appears_though_its_caller_gave_up_is_rejected(
    postgres: Postgres, line: tuple[Line, str], opened: AsLedger, in_time: InTime
) -> None:
    """Nothing was sent for it; as `submitting` it would keep its user from trying again, and then look uncertain."""
    way, place = line
    ledger, another = opened(place), opened(place)
    earlier = open_job(ledger)
    way.loses_answers = True
    (answer,) = in_time(lambda: open_job(ledger, within=1.5))
    assert isinstance(answer, Refused)
    way.loses_answers = False
    assert [job.state for job in another.newest("ann", 5)] == ["submitting", "submitting"]  # it did appear

    late = [job for job in soon(lambda: ledger.newest("ann", 5)) if job != earlier]
    assert [(job.state, job.reason) for job in late] == [
        ("rejected", "The ledger took too long to remember it, so nothing was sent.")
    ]
    assert another.newest("ann", 5) == ledger.newest("ann", 5)
    assert another.get(earlier.id) == earlier


# Through a server


@pytest.fixture
def router() -> FakeRouter:
    return FakeRouter(Clock(), takes=0.0)


async def generate(client: Client, prompt: str = "@1 waves") -> CallToolResult:
    return await client.call_tool("generate_reference_video", {"prompt": prompt, "subjects": SUBJECTS})


@pytest.mark.anyio
async def test_while_the_ledger_hangs_a_job_is_asked_for_at_the_router_and_nothing_is_bought(
    postgres: Postgres, place: str, router: FakeRouter
) -> None:
    answers: dict[str, CallToolResult] = {}
    async with process(router, place, output_dir=None) as client:
        task_id = told(await generate(client))["task_id"]

        async def ask(name: str, asking: Awaitable[CallToolResult]) -> None:
            answers[name] = await asking

        with postgres.frozen():
            with anyio.fail_after(BOUND_SECONDS):
                async with anyio.create_task_group() as tasks:
                    result = partial(client.call_tool, "get_task_result")
                    tasks.start_soon(ask, "known", result({"task_id": task_id}))
                    tasks.start_soon(ask, "elsewhere", result({"task_id": "task-1", "wait_seconds": 40}))
                    for number in range(8):
                        tasks.start_soon(ask, f"buy {number}", generate(client, f"@1 jumps {number} times"))
                        tasks.start_soon(ask, f"list {number}", client.call_tool("list_reference_videos", {}))
        states: list[str] = []
        with anyio.fail_after(BOUND_SECONDS):
            while "succeeded" not in states:
                await anyio.sleep(0.5)  # the ledger has no event for "written by now"
                listed = await client.call_tool("list_reference_videos", {})
                states = [] if listed.is_error else [job["state"] for job in told(listed)["jobs"]]
        bought = await generate(client, "@1 jumps")

    assert told(answers["known"])["state"] == "succeeded"
    assert told(answers["elsewhere"])["state"] == "succeeded"
    for name in (f"{what} {number}" for what in ("buy", "list") for number in range(8)):
        assert "cannot be used: " in said(answers[name])
    assert states == ["succeeded"]
    assert told(bought)["task_id"] == "task-2"
    assert len(router.posts) == 2
