"""The HTTP door: a real server on a real socket, spoken to by the SDK's client in both protocol eras."""

import json
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest
from mcp import Client

from command_line import COMMAND, call
from fake_router import FakeRouter, jobs, process, said, told
from http_server import HttpServer, serving
from marker import KEY
from misbehaving_router import MisbehavingRouter
from refvideo_mcp.ledger import Ledger
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
ORDER = {"prompt": "@1 hums", "duration": 1, "resolution": "540p", "aspect_ratio": "1:1", "seed": 1}
LINKED = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "a script", "version": "1"},
    },
}


def headers_of(era: str) -> dict[str, str]:
    """What a client says beside a call of `generate_reference_video`."""
    newer = {"MCP-Protocol-Version": era, "Mcp-Method": "tools/call", "Mcp-Name": "generate_reference_video"}
    common = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    return common | ({"MCP-Protocol-Version": "2025-11-25"} if era == "legacy" else newer)


def call_of(era: str, arguments: dict[str, Any], capabilities: dict[str, Any]) -> dict[str, Any]:
    prefix = "io.modelcontextprotocol"
    meta = {
        f"{prefix}/protocolVersion": era,
        f"{prefix}/clientInfo": {"name": "a script", "version": "1"},
        f"{prefix}/clientCapabilities": capabilities,
    }
    params = {"name": "generate_reference_video", "arguments": arguments}
    params |= {"_meta": meta} if era != "legacy" else {}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


async def knock(url: str, body: Any = HELLO, **headers: str) -> httpx2.Response:
    """One POST, as an HTTP program makes it."""
    given = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    async with httpx2.AsyncClient(timeout=60) as http:
        return await http.post(url, content=json.dumps(body), headers=given | headers)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose router nobody reaches."""
    state = str(tmp_path_factory.mktemp("state"))
    settings = {"MYROUTER_API_KEY": KEY, "MYROUTER_BASE_URL": "http://127.0.0.1:1", "XDG_STATE_HOME": state}
    with serving(*COMMAND, "serve", "--http", "--port", "0", **settings) as url:
        yield url


@pytest.mark.parametrize(
    ("era", "capabilities"),
    [
        ("legacy", {}),
        ("2026-07-28", {}),
        ("2026-07-28", {"extensions": {"io.modelcontextprotocol/tasks": {}}}),
    ],
    ids=["legacy", "2026-07-28", "tasks"],
)
async def test_a_client_that_hangs_up_at_any_moment_and_calls_again_buys_one_job(
    tmp_path: Path, era: str, capabilities: dict[str, Any]
) -> None:
    """Its answer may be on the way by then, to a socket that nobody reads any more: it was told nothing."""
    async with MisbehavingRouter() as router:
        router.answer_delay = (0.0, 0.05)
        async with HttpServer.running(tmp_path, router.url, REFVIDEO_MAX_OPEN_JOBS="0") as server:
            address = urlsplit(server.url)

            async def hangs_up_and_calls_again(hundredths: int) -> None:
                body = call_of(era, LINKED | {"prompt": f"@1 waves {hundredths}"}, capabilities)
                content = json.dumps(body).encode()
                headers = headers_of(era) | {"Host": address.netloc, "Content-Length": str(len(content))}
                head = "\r\n".join(["POST /mcp HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items()), "\r\n"])
                async with await anyio.connect_tcp("127.0.0.1", address.port or 0) as connection:
                    await connection.send(head.encode() + content)
                    await anyio.sleep(hundredths / 100)
                again = await knock(server.url, body | {"id": 2}, **headers_of(era))
                assert "task-" in again.text

            async with anyio.create_task_group() as tasks:
                for hundredths in range(30):
                    tasks.start_soon(hangs_up_and_calls_again, hundredths)
    sent = [json.loads(post.body)["prompt"] for post in router.posts]
    assert sorted(sent) == sorted(f"@1 waves {hundredths}" for hundredths in range(30))


async def test_a_request_sent_again_under_its_id_right_after_its_answer_is_one_job(tmp_path: Path) -> None:
    """Whatever is between client and server may have dropped the answer; another take has an id of its own."""
    headers, body = headers_of("legacy"), call_of("legacy", LINKED, {})
    async with MisbehavingRouter() as router, HttpServer.running(tmp_path, router.url) as server:
        answers = [await knock(server.url, body | {"id": number}, **headers) for number in (1, 1, 2)]
    assert [re.findall(r"task-\d", answer.text)[0] for answer in answers] == ["task-1", "task-1", "task-2"]
    assert len(router.posts) == 2


async def test_a_2025_client_that_cancels_at_any_moment_and_calls_again_buys_one_job(tmp_path: Path) -> None:
    """It says so by a request of its own, and leaves open the connection that it waited at."""
    prompts = [f"@1 waves {hundredths}" for hundredths in range(0, 30, 2)]
    async with MisbehavingRouter() as router:
        router.answer_delay = (0.05, 0.1)
        async with (
            HttpServer.running(tmp_path, router.url, REFVIDEO_MAX_OPEN_JOBS="0") as server,
            Client(server.url, mode="legacy") as client,
        ):
            for hundredths, prompt in enumerate(prompts):
                call = partial(client.call_tool, "generate_reference_video", LINKED | {"prompt": prompt})
                with anyio.move_on_after(hundredths / 100) as patience:
                    await call()
                if patience.cancelled_caught:
                    await call()
    assert Counter(json.loads(post.body)["prompt"] for post in router.posts) == Counter(prompts)


async def test_a_2025_request_cancelled_after_its_answer_was_sent_told_nobody(tmp_path: Path) -> None:
    headers, body = headers_of("legacy"), call_of("legacy", LINKED, {})
    gave_up = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    async with MisbehavingRouter() as router, HttpServer.running(tmp_path, router.url) as server:
        answers = [
            await knock(server.url, message, **headers)
            for message in (body, gave_up, body | {"id": 2}, body | {"id": 3})
        ]
    assert [re.findall(r"task-\d", answer.text)[:1] for answer in answers] == [["task-1"], [], ["task-1"], ["task-2"]]
    assert answers[1].status_code == 202


async def test_nothing_is_saved_where_no_folder_is_set(tmp_path: Path) -> None:
    async with MisbehavingRouter() as router, HttpServer.running(tmp_path, router.url) as server:
        async with Client(server.url) as client:
            await client.call_tool("generate_reference_video", LINKED)
            done = await client.call_tool("get_task_result", {"task_id": "task-1"})
        server.process.terminate()
        await server.ended()

    assert told(done)["videos"][0]["url"] == router.video_url("task-1")
    assert router.downloads == []


async def test_a_saved_video_s_dead_link_is_replaced_by_a_fresh_one(tmp_path: Path) -> None:
    """On stdio the file is enough; here the link is all that a caller can use."""
    lives = 3600
    answers: list[str] = []

    def dated(task_id: str) -> dict[str, object]:
        answers.append(f"{router.video_url(task_id)}&take={len(answers) + 1}")
        video = {"video_url": answers[-1], "video_url_ttl": str(lives), "video_type": "mp4"}
        return {"task": {"task_id": task_id, "status": "TASK_STATUS_SUCCEED"}, "videos": [video]}

    async with MisbehavingRouter() as router:
        router.job_answer = dated
        folder = str(tmp_path / "videos")
        async with (
            HttpServer.running(tmp_path, router.url, REFVIDEO_OUTPUT_DIR=folder) as server,
            Client(server.url) as client,
        ):
            lives = 30  # a link that dies within the minute is no longer given out
            await client.call_tool("generate_reference_video", LINKED)
            first = await client.call_tool("get_task_result", {"task_id": "task-1"})
            lives = 3600
            second = await client.call_tool("get_task_result", {"task_id": "task-1"})
            third = await client.call_tool("get_task_result", {"task_id": "task-1"})

    given = [told(result)["videos"][0]["url"] for result in (first, second, third)]
    assert given == [answers[0], answers[1], answers[1]]
    assert len(router.downloads) == 1


@ERAS
@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (
            {"subjects": [{"images": ["/etc/hostname"]}]},
            "This server is reached over HTTP and reads no local files, such as /etc/hostname: use an https URL or a "
            "data URI, or run refvideo-mcp as a stdio server where the picture is.",
        ),
        (
            {"save_to": "/srv/videos"},
            "This server is reached over HTTP and saves no video where a call says: leave save_to out, and the answer "
            "has a link to it. Nothing was sent.",
        ),
    ],
    ids=["a local picture", "save_to"],
)
async def test_the_server_s_own_files_are_out_of_reach(
    url: str, era: str, change: dict[str, Any], refusal: str
) -> None:
    async with Client(url, mode=era) as client:
        refused = await client.call_tool("generate_reference_video", LINKED | change)
        listed = await jobs(client)
    assert refused.is_error
    assert said(refused) == refusal
    assert said(listed).startswith("No jobs yet.")


async def test_a_broken_ledger_is_not_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "state" / "refvideo-mcp" / "ledger.db").mkdir(parents=True)
    async with HttpServer.running(tmp_path, "http://127.0.0.1:1") as server, Client(server.url) as client:
        refused = await client.call_tool("generate_reference_video", LINKED)
    assert said(refused).startswith("The job ledger cannot be used: it cannot be opened. Ask the user to ")


async def test_a_video_finished_meanwhile_is_news_by_its_task_id(tmp_path: Path) -> None:
    clock = VirtualClock()
    client = process(FakeRouter(clock), tmp_path / "ledger.db", http=True, output_dir=tmp_path / "videos")
    async with clock.passing(), client:
        await client.call_tool("generate_reference_video", LINKED)
        await clock.sleep(120)
        listed = await client.call_tool("list_reference_videos", {"state": "failed"})
    assert len(list((tmp_path / "videos").iterdir())) == 1
    assert said(listed).endswith("Since you last looked, 1 more video finished: task-1.")


async def test_only_this_machine_s_programs_are_let_in(url: str) -> None:
    """A web page can send requests here too, under its own name or under one that it makes point here."""
    port = url.rpartition(":")[2].removesuffix("/mcp")
    statuses = {
        name: (await knock(url, **headers)).status_code
        for name, headers in {
            "no browser": {},
            "a page of this machine": {"Origin": "http://localhost:3000"},
            "a foreign page": {"Origin": "https://evil.example"},
            "a foreign name": {"Host": f"evil.example:{port}"},
            "a foreign name, 2026": {"Host": f"evil.example:{port}", "MCP-Protocol-Version": "2026-07-28"},
        }.items()
    }
    assert statuses == {
        "no browser": 200,
        "a page of this machine": 200,
        "a foreign page": 403,
        "a foreign name": 421,
        "a foreign name, 2026": 421,
    }


async def test_a_call_may_carry_20_megabytes_but_not_any_amount(url: str) -> None:
    fits = await knock(url, HELLO | {"padding": "x" * 27_000_000})
    bursts = await knock(url, HELLO | {"padding": "x" * 34_000_000})
    assert (fits.status_code, bursts.status_code) == (200, 413)


def test_a_port_without_http_is_not_silently_ignored() -> None:
    result = call("serve", "--port", "8766")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", "refvideo-mcp: --port is for --http.\n")


def test_a_taken_port_is_one_line_on_stderr() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = call("serve", "--http", "--port", port, MYROUTER_API_KEY="sandbox")
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(
        rf"refvideo-mcp: 127\.0\.0\.1:{port} cannot be listened on: .+\. Choose another --port\.\n", result.stderr
    )


async def test_no_client_holds_a_stream_open_that_nothing_is_sent_on(url: str) -> None:
    async with httpx2.AsyncClient() as http:
        refused = await http.get(url, headers={"Accept": "text/event-stream"})
    assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT or SIGTERM for one process")
@pytest.mark.parametrize(
    "number",
    [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)],
    ids=lambda number: number.name,
)
async def test_a_signal_during_a_post_ends_the_server_when_its_caller_has_the_answer(
    number: signal.Signals, tmp_path: Path
) -> None:
    answers: list[httpx2.Response] = []
    params = {"name": "generate_reference_video", "arguments": LINKED}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}

    async with MisbehavingRouter() as router, HttpServer.running(tmp_path, router.url) as server:
        router.hold = anyio.Event()

        async def submit() -> None:
            answers.append(await knock(server.url, call))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(submit)
            with anyio.fail_after(30):
                await router.until(lambda: bool(router.accepted))
            server.process.send_signal(number)
            await server.says("ending when the router has answered")
            assert server.process.returncode is None
            # Longer than it takes a library below to notice the signal, which once ended the caller's stream.
            with pytest.raises(TimeoutError), anyio.fail_after(1):
                await server.process.wait()
            router.hold.set()
        await server.ended()
        ledger = Ledger(server.ledger)
        try:
            (job,) = ledger.newest(f"local@{router.url.removeprefix('http://')}", 10)
        finally:
            ledger.close()
        stderr = (tmp_path / "stderr").read_text(encoding="utf-8")

    assert ["Job task-1 is queued." in answer.text for answer in answers] == [True]
    assert (job.state, job.task_id, len(router.posts)) == ("queued", "task-1", 1)
    assert "Traceback" not in stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT or SIGTERM for one process")
async def test_the_second_signal_ends_the_server_at_once(tmp_path: Path) -> None:
    params = {"name": "generate_reference_video", "arguments": LINKED}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}

    async with MisbehavingRouter() as router, HttpServer.running(tmp_path, router.url) as server:
        router.hold = anyio.Event()

        async def submit() -> None:
            with suppress(httpx2.TransportError):  # the server ends before it answers
                await knock(server.url, call)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(submit)
            with anyio.fail_after(30):
                await router.until(lambda: bool(router.accepted))
            server.process.terminate()
            await server.says("ending when the router has answered")
            server.process.terminate()
            assert await server.ended() == -signal.SIGTERM


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT or SIGTERM for one process")
async def test_a_signal_ends_a_wait_with_the_last_state_and_not_with_a_broken_connection(tmp_path: Path) -> None:
    answers: list[httpx2.Response] = []
    params = {"name": "get_task_result", "arguments": {"task_id": "task-1", "wait_seconds": 50}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}

    async with MisbehavingRouter() as router, HttpServer.running(tmp_path, router.url) as server:
        router.polls_until_done = None
        router.accepted.append("task-1")

        async def wait() -> None:
            answers.append(await knock(server.url, call))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            with anyio.fail_after(30):
                await router.until(lambda: len(router.looks) > 1)
            server.process.terminate()
        await server.ended()
        stderr = (tmp_path / "stderr").read_text(encoding="utf-8")

    assert ["Job task-1 is processing" in answer.text for answer in answers] == [True]
    assert "Traceback" not in stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT or SIGTERM for one process")
async def test_the_answer_is_recorded_though_its_caller_went_away_before_the_signal(tmp_path: Path) -> None:
    async with MisbehavingRouter() as router, HttpServer.running(tmp_path, router.url) as server:
        router.hold = anyio.Event()

        async def submit() -> None:
            async with Client(server.url, mode="2026-07-28") as client:
                await client.call_tool("generate_reference_video", LINKED)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(submit)
            with anyio.fail_after(30):
                await router.until(lambda: bool(router.accepted))
            tasks.cancel_scope.cancel()
        server.process.terminate()
        await server.says("ending when the router has answered")
        router.hold.set()
        await server.ended()
        ledger = Ledger(server.ledger)
        try:
            (job,) = ledger.newest(f"local@{router.url.removeprefix('http://')}", 10)
        finally:
            ledger.close()

    assert (job.state, job.task_id) == ("queued", "task-1")
