"""How the stdio server ends: at once, unless a job is just being paid for."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest
from mcp import Client, MCPError

from fake_router import said
from marker import KEY
from misbehaving_router import Fault, InTurn, MisbehavingRouter, Status
from programs import needs
from refvideo_mcp.ledger import Job, Ledger
from stdio_server import StdioServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT or SIGTERM for one process"),
]

REQUEST = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
either_signal = pytest.mark.parametrize(
    "number",
    [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)],
    ids=lambda number: number.name,
)


@asynccontextmanager
async def posting(home: Path, router: MisbehavingRouter) -> AsyncIterator[tuple[StdioServer, Client]]:
    """A server whose POST the router has accepted and will answer once `router.hold` is set."""
    router.hold = anyio.Event()

    async def submit(client: Client) -> None:
        with suppress(MCPError):  # the server ends before it answers
            await client.call_tool("generate_reference_video", REQUEST)

    async with (
        StdioServer.running(home, router.url) as server,
        Client(server.pipes()) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(submit, client)
        with anyio.fail_after(30):
            await router.until(lambda: bool(router.accepted))
        yield server, client
        tasks.cancel_scope.cancel()


def remembered(server: StdioServer, router: MisbehavingRouter) -> list[Job]:
    ledger = Ledger(server.ledger)
    try:
        return ledger.newest(f"local@{router.url.removeprefix('http://')}", 10)
    finally:
        ledger.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def renderers(folder: Path) -> list[str]:
    """The processes that render clips in this folder."""
    listed = subprocess.run(
        [needs("ps"), "-A", "-ww", "-o", "args="], capture_output=True, encoding="utf-8", check=True
    )
    return [line for line in listed.stdout.splitlines() if str(folder) in line]


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(15):
        while not is_so():  # noqa: ASYNC110  # another process tells nobody
            await anyio.sleep(0.02)


async def says_that_it_waits(server: StdioServer) -> None:
    await until(lambda: b"ending when the router has answered" in (server.home / "stderr").read_bytes())


@either_signal
async def test_a_signal_ends_an_idle_server_at_once_though_stdin_is_open(
    number: signal.Signals, tmp_path: Path
) -> None:
    async with (
        MisbehavingRouter() as router,
        StdioServer.running(tmp_path, router.url) as server,
        Client(server.pipes()) as client,
    ):
        await client.call_tool("list_reference_videos")
        server.process.send_signal(number)
        assert await server.ended() == 128 + number


@either_signal
async def test_a_signal_during_a_post_ends_the_server_when_the_answer_is_recorded(
    number: signal.Signals, tmp_path: Path
) -> None:
    async with MisbehavingRouter() as router, posting(tmp_path, router) as (server, _):
        server.process.send_signal(number)
        await says_that_it_waits(server)
        assert server.process.returncode is None
        assert router.hold
        router.hold.set()
        assert await server.ended() == 128 + number

    (job,) = remembered(server, router)
    assert (job.state, job.task_id, len(router.posts)) == ("queued", "task-1", 1)


async def test_nothing_more_is_bought_once_a_signal_was_heard(tmp_path: Path) -> None:
    async with MisbehavingRouter() as router, posting(tmp_path, router) as (server, client):
        server.process.send_signal(signal.SIGTERM)
        await says_that_it_waits(server)
        answer = await client.call_tool("generate_reference_video", REQUEST | {"prompt": "@1 sleeps"})
        assert router.hold is not None
        router.hold.set()
        await server.ended()
    assert said(answer) == "This server is about to end. Nothing was bought: try again when it is back."
    assert len(router.posts) == 1


async def test_a_submission_that_waits_out_a_rate_limit_is_not_sent_after_a_signal(tmp_path: Path) -> None:
    async def submit(client: Client) -> None:
        with suppress(MCPError):  # the server ends before it answers
            await client.call_tool("generate_reference_video", REQUEST)

    async with MisbehavingRouter() as router:
        router.submit_fault = InTurn(Status(429, "RATE_LIMIT_EXCEEDED", retry_after=20), Fault.NONE)
        async with (
            StdioServer.running(tmp_path, router.url) as server,
            Client(server.pipes()) as client,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(submit, client)
            with anyio.fail_after(30):
                await router.until(lambda: bool(router.posts))
            await anyio.sleep(0.5)  # it waits by now
            server.process.send_signal(signal.SIGTERM)
            with anyio.fail_after(10):
                assert await server.ended() == 128 + signal.SIGTERM
            tasks.cancel_scope.cancel()
    (job,) = remembered(server, router)
    assert (job.state, len(router.posts)) == ("rejected", 1)


async def test_the_second_signal_ends_the_server_at_once(tmp_path: Path) -> None:
    async with MisbehavingRouter() as router, posting(tmp_path, router) as (server, _):
        server.process.send_signal(signal.SIGINT)
        await says_that_it_waits(server)
        server.process.send_signal(signal.SIGINT)
        assert await server.ended() == -signal.SIGINT

    (job,) = remembered(server, router)
    assert (job.state, job.task_id) == ("submitting", None)


async def test_a_signal_ends_the_sandbox_of_the_server_too(tmp_path: Path) -> None:
    """Its folder, and a clip that is just being rendered."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    settings = {"MYROUTER_API_KEY": "sandbox", "TMPDIR": str(temporary)}
    order = REQUEST | {"duration": 10, "resolution": "1080p"}  # rendering takes some 20 s
    async with StdioServer.running(home, "", **settings) as server, Client(server.pipes()) as client:
        await client.call_tool("generate_reference_video", order)
        await until(lambda: bool(renderers(temporary)))
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 128 + signal.SIGTERM

    await until(lambda: not renderers(temporary))
    assert [path for path in temporary.rglob("*") if path.name != f"refvideo-sandbox-cache-{os.getuid()}"] == []


async def test_an_answer_that_comes_after_stdin_closed_is_recorded(tmp_path: Path) -> None:
    async with MisbehavingRouter() as router, posting(tmp_path, router) as (server, _):
        assert server.process.stdin
        await server.process.stdin.aclose()
        # As the SDK's client does, which kills 2 s later.
        with anyio.move_on_after(2) as patience:
            await server.process.wait()
        assert patience.cancelled_caught
        server.process.terminate()
        assert router.hold
        router.hold.set()
        assert await server.ended() in (0, 128 + signal.SIGTERM)

    (job,) = remembered(server, router)
    assert (job.state, job.task_id) == ("queued", "task-1")


async def test_a_repeated_call_in_the_next_process_joins_what_the_last_one_was_submitting(tmp_path: Path) -> None:
    async with MisbehavingRouter() as router:
        async with posting(tmp_path, router) as (server, _):
            server.process.kill()
            await server.ended()
        async with StdioServer.running(tmp_path, router.url) as next_one, Client(next_one.pipes()) as client:
            with anyio.move_on_after(2) as patience:  # the job of the last one is not answered yet
                await client.call_tool("generate_reference_video", REQUEST)
            assert patience.cancelled_caught
            listed = await client.call_tool("list_reference_videos")

    assert listed.structured_content
    (job,) = listed.structured_content["jobs"]
    assert job["state"] == "submitting"
    assert job["idempotency_key"]
    assert len(router.posts) == 1


async def test_the_key_reaches_the_router_and_no_output_or_file(tmp_path: Path) -> None:
    """At the log level `debug`, over a whole job and an error that echoes the key."""
    async with (
        MisbehavingRouter() as router,
        StdioServer.running(tmp_path, router.url, REFVIDEO_OUTPUT_DIR=str(tmp_path / "videos")) as server,
        Client(server.pipes()) as client,
    ):
        done = await client.call_tool("generate_reference_video", REQUEST)
        await client.call_tool("get_task_result", {"task_id": "task-1"})
        router.result_fault = router.submit_fault = Status(400, "INVALID_REQUEST_BODY", message=f"who is {KEY}?")
        failed = await client.call_tool("generate_reference_video", REQUEST | {"seed": 1})

    assert (done.is_error, failed.is_error) == (False, True)
    assert {request.authorization for request in router.posts + router.looks} == {f"Bearer {KEY}"}
    assert [download.authorization for download in router.downloads] == [None]
    written = contents(tmp_path)
    assert {"stdout", "stderr", "ledger.db"} <= written.keys()
    assert [name for name, content in written.items() if KEY.encode() in content] == []
    assert b"who is [key]?" in written["stdout"]
    assert b"DEBUG" in written["stderr"]
