"""A process that ends while it saves a video, in order or not: the next one need not wait for it."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest
from mcp import Client

from command_line import run_in, running
from fake_router import said, told
from http_server import HttpServer
from marker import KEY
from misbehaving_router import Fault, MisbehavingRouter, Status
from refvideo_mcp.ledger import Job, Ledger
from stdio_server import StdioServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT or SIGTERM for one process"),
]

REQUEST = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
ELSEWHERE = "Another window is saving it just now."


@pytest.fixture
async def router() -> AsyncIterator[MisbehavingRouter]:
    """Its video comes byte by byte, and does not end."""
    async with MisbehavingRouter() as router:
        router.video_fault = Fault.DRIP
        yield router


@asynccontextmanager
async def served(home: Path, router: MisbehavingRouter, videos: Path) -> AsyncIterator[tuple[StdioServer, Client]]:
    async with (
        StdioServer.running(home, router.url, REFVIDEO_OUTPUT_DIR=str(videos)) as server,
        Client(server.pipes()) as client,
    ):
        yield server, client


@asynccontextmanager
async def saving(home: Path, router: MisbehavingRouter, videos: Path) -> AsyncIterator[StdioServer]:
    """A server that is fetching the video of a finished job."""
    downloads, before = len(router.downloads), len(names(videos))
    async with served(home, router, videos) as (server, client):
        if not router.posts:
            await client.call_tool("generate_reference_video", REQUEST)
        with anyio.fail_after(30):
            await router.until(lambda: len(router.downloads) > downloads)
            while len(names(videos)) == before:  # noqa: ASYNC110  # another process tells nobody
                await anyio.sleep(0.02)
        yield server


def names(videos: Path) -> list[str]:
    return [file.name for file in videos.iterdir()] if videos.exists() else []


def settings_of(home: Path, router: MisbehavingRouter, videos: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "MYROUTER_API_KEY": KEY,
        "MYROUTER_BASE_URL": router.url,
        "REFVIDEO_OUTPUT_DIR": str(videos),
    }


async def result(client: Client, seconds: int = 45) -> str:
    return said(await client.call_tool("get_task_result", {"task_id": "task-1", "wait_seconds": seconds}))


def claim(ledger: Path) -> float | None:
    with closing(sqlite3.connect(ledger)) as database:
        (until,) = database.execute("SELECT saving_until FROM refvideo_jobs").fetchone()
    return None if until is None else float(until)


async def is_saved_by_the_next_one(home: Path, router: MisbehavingRouter, videos: Path) -> None:
    """At once, not when a claim lapses, and once."""
    router.video_fault = Fault.NONE
    async with served(home, router, videos) as (_, client):
        started = time.monotonic()
        answer = await result(client)
        assert answer.startswith("Done: the video is saved at")
        assert time.monotonic() - started < 15
    assert len(names(videos)) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_a_server_that_gets_a_signal_gives_its_claim_back_and_leaves_no_part(
    number: signal.Signals, tmp_path: Path, router: MisbehavingRouter, videos: Path
) -> None:
    async with saving(tmp_path, router, videos) as server:
        started = time.monotonic()
        server.process.send_signal(number)
        assert await server.ended() == 128 + number
        assert time.monotonic() - started < 8
        assert claim(server.ledger) is None
        assert names(videos) == []
    await is_saved_by_the_next_one(tmp_path, router, videos)


async def test_a_server_whose_client_is_gone_gives_its_claim_back(
    tmp_path: Path, router: MisbehavingRouter, videos: Path
) -> None:
    async with saving(tmp_path, router, videos) as server:
        assert server.process.stdin
        await server.process.stdin.aclose()
        assert await server.ended() == 0
        assert claim(server.ledger) is None
    await is_saved_by_the_next_one(tmp_path, router, videos)


async def test_a_server_over_http_gives_its_claim_back(tmp_path: Path, router: MisbehavingRouter, videos: Path) -> None:
    async with HttpServer.running(tmp_path, router.url, REFVIDEO_OUTPUT_DIR=str(videos)) as server:
        async with Client(server.url) as client:
            await client.call_tool("generate_reference_video", REQUEST)
            with anyio.fail_after(30):
                await router.until(lambda: bool(router.downloads))
        assert claim(server.ledger) is not None
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        await server.ended()
        assert time.monotonic() - started < 12
        assert claim(server.ledger) is None
    assert names(videos) == []


@pytest.mark.parametrize("command", [["result", "task-1"], ["save", "task-1"]], ids=lambda command: command[0])
async def test_a_command_that_gets_ctrl_c_gives_its_claim_back(
    command: list[str], tmp_path: Path, router: MisbehavingRouter, videos: Path
) -> None:
    """So that the command which it then suggests does not hang."""
    router.accepted.append("task-1")
    ledger = tmp_path / "state" / "refvideo-mcp" / "ledger.db"
    with closing(Ledger(ledger)) as known:
        account = f"local@{router.url.removeprefix('http://')}"
        known.import_job(Job("a" * 32, account, state="queued", task_id="task-1", opened_at=time.time()))
    settings = settings_of(tmp_path, router, videos)
    with running(*command, stdin=subprocess.DEVNULL, settings=settings) as process:
        with anyio.fail_after(30):
            await router.until(lambda: bool(router.downloads))
        assert claim(ledger) is not None
        process.send_signal(signal.SIGINT)
        _, said_last = await anyio.to_thread.run_sync(process.communicate)
        assert process.returncode == 130
    assert claim(ledger) is None
    assert names(videos) == []
    assert b"Traceback" not in said_last


async def test_a_command_that_gets_ctrl_c_once_the_file_is_there_remembers_it(
    tmp_path: Path, router: MisbehavingRouter, videos: Path
) -> None:
    """Its preview is still being drawn; without the file's name in the ledger the video would be saved twice."""
    router.video_fault = Fault.NONE
    router.accepted.append("task-1")
    settings = settings_of(tmp_path, router, videos)
    with running("result", "task-1", stdin=subprocess.DEVNULL, settings=settings) as process:
        with anyio.fail_after(30):
            while not any(name.endswith(".mp4") for name in names(videos)):  # noqa: ASYNC110  # as above
                await anyio.sleep(0.005)
        process.send_signal(signal.SIGINT)
        await anyio.to_thread.run_sync(process.communicate)
    with closing(sqlite3.connect(tmp_path / "state" / "refvideo-mcp" / "ledger.db")) as database:
        rows = database.execute("SELECT saved_to, saving_until FROM refvideo_jobs").fetchall()
    (name,) = names(videos)
    assert rows == [(str(videos / name), None)]


async def test_a_person_whose_network_refuses_the_video_is_told_so_and_keeps_the_link(
    tmp_path: Path, router: MisbehavingRouter, videos: Path
) -> None:
    router.video_fault = Status(403)
    router.accepted.append("task-1")
    settings = settings_of(tmp_path, router, videos)

    def ran(*command: str) -> subprocess.CompletedProcess[str]:
        return run_in(tmp_path, *command, **settings)

    refused = await anyio.to_thread.run_sync(ran, "save", "task-1", "--json")
    looked = await anyio.to_thread.run_sync(ran, "result", "task-1", "--no-wait")

    happened = "The video could not be fetched yet: its host answered 403."
    assert refused.returncode == 1
    assert f"refvideo-mcp: {happened} The job is not affected: try again in a few minutes" in refused.stderr
    assert "new job" not in refused.stderr
    told_of = json.loads(refused.stdout)
    assert (told_of["state"], told_of["warnings"]) == ("succeeded", [happened])
    assert told_of["videos"][0]["url"] == router.video_url("task-1")
    assert looked.returncode in (1, 3)  # it was refused once more, or is being tried
    assert looked.stdout == f"{router.video_url('task-1')}\n"
    assert "refvideo-mcp save task-1 --to FOLDER saves it" in looked.stderr
    assert names(videos) == []


async def test_a_server_that_is_killed_is_waited_for_half_a_minute_and_whoever_asks_is_told(
    tmp_path: Path, router: MisbehavingRouter, videos: Path
) -> None:
    async with saving(tmp_path, router, videos) as server:
        server.process.kill()
        await server.ended()
        until = claim(server.ledger)
        assert until is not None
        assert time.time() < until <= time.time() + 30
    async with served(tmp_path, router, videos) as (_, client):
        answer = await client.call_tool("get_task_result", {"task_id": "task-1", "wait_seconds": 2})
        assert ELSEWHERE in said(answer)
        assert ELSEWHERE in told(answer)["warnings"]
        assert len(router.downloads) == 1
        router.video_fault = Fault.NONE
        with closing(sqlite3.connect(server.ledger)) as database, database:
            database.execute("UPDATE refvideo_jobs SET saving_until = ?", [time.time()])  # half a minute later
        assert (await result(client)).startswith("Done: the video is saved at")


async def test_a_claim_is_renewed_while_the_video_comes(
    tmp_path: Path, router: MisbehavingRouter, videos: Path
) -> None:
    async with saving(tmp_path, router, videos) as server:
        first = claim(server.ledger)
        assert first is not None
        with anyio.fail_after(15):
            while (now := claim(server.ledger)) == first:  # noqa: ASYNC110  # as above
                await anyio.sleep(0.1)
        assert now is not None
        assert first + 9 < now <= time.time() + 30


async def test_a_process_that_was_frozen_leaves_the_video_to_the_one_that_took_over(
    tmp_path: Path, router: MisbehavingRouter, videos: Path
) -> None:
    """Or there would be two files of it."""
    async with saving(tmp_path, router, videos) as frozen:
        frozen.process.send_signal(signal.SIGSTOP)
        with closing(sqlite3.connect(frozen.ledger)) as database, database:
            database.execute("UPDATE refvideo_jobs SET saving_until = ?", [time.time()])  # half a minute later
        (old,) = names(videos)
        async with saving(tmp_path, router, videos):
            taken = claim(frozen.ledger)
            (new,) = {*names(videos)} - {old}
            frozen.process.send_signal(signal.SIGCONT)
            with anyio.fail_after(20):
                while old in names(videos):  # noqa: ASYNC110  # as above
                    await anyio.sleep(0.1)
            for _ in range(20):
                assert (claim(frozen.ledger) or 0) >= (taken or 0)
                await anyio.sleep(0.1)
            assert names(videos) == [new]
