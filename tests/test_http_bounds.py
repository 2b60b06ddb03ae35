"""What one caller of an HTTP server can take of it: some, and never what others need."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest
from anyio.abc import SocketStream

from http_server import serving
from marker import KEY
from misbehaving_router import MisbehavingRouter
from refvideo_mcp.doors.tokens import digest_of, new_token
from refvideo_mcp.sandbox import Sandbox

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows counts its files in another way"),
]

NOBODY = "http://127.0.0.1:1"  # a router that is not reached
TOKENS = {name: new_token() for name in ("alice", "bob")}
JSON = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
WAIT = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "get_task_result", "arguments": {"task_id": "task-1", "wait_seconds": 50}},
}
BUY = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
        "name": "generate_reference_video",
        "arguments": {"prompt": "@1 waves", "subjects": [{"images": ["https://example.com/cat.png"]}]},
    },
}


@contextmanager
def office(home: Path, router_url: str = NOBODY, **patience: float) -> Iterator[str]:
    """A server for alice and bob that is less patient than usual, or holds less, so that a test need not be."""
    (home / "tokens").write_text("".join(f"{name} = sha256:{digest_of(token)}\n" for name, token in TOKENS.items()))
    settings = {"MYROUTER_API_KEY": KEY, "MYROUTER_BASE_URL": router_url, "XDG_STATE_HOME": str(home)}
    settings["REFVIDEO_TOKENS_FILE"] = str(home / "tokens")
    changed = "".join(f"{name.replace('__', '.')} = {value}\n" for name, value in patience.items())
    script = f"import sys\nfrom refvideo_mcp.cli import main\nfrom refvideo_mcp.doors import bounds, http\n{changed}"
    command = [sys.executable, "-c", f"{script}sys.exit(main())", "serve", "--http", "--port", "0", "--auth", "tokens"]
    with serving(*command, **settings) as url:
        yield url


async def knock(url: str, name: str, body: object = PING) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=60) as http:
        return await http.post(
            url, content=json.dumps(body), headers=JSON | {"Authorization": f"Bearer {TOKENS[name]}"}
        )


def head(url: str, name: str, *more: str) -> bytes:
    lines = ["POST /mcp HTTP/1.1", f"Host: {urlsplit(url).netloc}", f"Authorization: Bearer {TOKENS[name]}"]
    return "\r\n".join([*lines, *(f"{key}: {value}" for key, value in JSON.items()), *more, "", ""]).encode()


@asynccontextmanager
async def connected(url: str, begin: bytes = b"") -> AsyncIterator[SocketStream]:
    address = urlsplit(url)
    async with await anyio.connect_tcp(address.hostname or "", address.port or 0) as connection:
        if begin:
            await connection.send(begin)
        yield connection


async def heard(connection: SocketStream) -> str:
    """All that comes until the other side hangs up."""
    answer = b""
    with anyio.fail_after(20):
        try:
            while True:
                answer += await connection.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return answer.decode()


async def all_at_once(url: str, name: str, bodies: Sequence[object]) -> list[httpx2.Response]:
    answers: list[httpx2.Response] = []

    async def call(body: object) -> None:
        answers.append(await knock(url, name, body))

    async with anyio.create_task_group() as tasks:
        for body in bodies:
            tasks.start_soon(call, body)
    return answers


async def test_a_request_that_does_not_arrive_is_not_waited_for(tmp_path: Path) -> None:
    with office(tmp_path, http__HEAD_SECONDS=0.5, bounds__BODY_SECONDS=1.0, http__ARRIVAL_SECONDS=3.0) as url:
        async with (
            connected(url) as silent,
            connected(url, b"POST /mcp HT") as slow_head,
            connected(url, head(url, "alice", "Content-Length: 2000000") + b"{") as slow_body,
            connected(url, head(url, "bob")[:-2] + b"Authorization: x\r\nContent-Length: 9\r\n\r\n") as refused,
        ):
            assert await heard(silent) == ""
            assert await heard(slow_head) == ""
            said = await heard(slow_body)
            after = await heard(refused)
        assert said.startswith("HTTP/1.1 408 ")
        assert said.endswith("The request did not arrive within 1 s: send smaller pictures, or links.")
        assert after.startswith("HTTP/1.1 401 ")
        assert (await knock(url, "bob")).status_code == 200


async def test_more_than_32_megabytes_are_not_read(tmp_path: Path) -> None:
    with office(tmp_path) as url:
        async with connected(url, head(url, "alice", "Content-Length: 33554433", "Connection: close")) as declared:
            said = await heard(declared)
        large = await knock(url, "alice", PING | {"padding": "x" * 34_000_000})
        chunk = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
        async with connected(url, head(url, "alice", "Transfer-Encoding: chunked")) as undeclared:
            for _ in range(33):
                await undeclared.send(chunk)
            with anyio.fail_after(20):
                chunked = (await undeclared.receive()).decode()
        assert (await knock(url, "alice", PING | {"padding": "x" * 27_000_000})).status_code == 200
    assert said.startswith("HTTP/1.1 413 ")
    assert said.endswith("The request is larger than 32 MB: send fewer or smaller pictures, or links to them.")
    assert large.status_code == 413
    assert chunked.startswith("HTTP/1.1 413 ")


async def test_one_account_s_bodies_leave_room_for_another_s(tmp_path: Path) -> None:
    with office(tmp_path, bounds__ROOM_SECONDS=0.5) as url:
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(connected(url, head(url, "alice", "Content-Length: 33000000") + b"{"))
            refused = await knock(url, "alice", PING | {"padding": "x" * 20_000_000})
            small = await knock(url, "alice")
            other = await knock(url, "bob", PING | {"padding": "x" * 20_000_000})
        again = await knock(url, "alice", PING | {"padding": "x" * 20_000_000})
    assert (refused.status_code, refused.text, refused.headers["Retry-After"]) == (
        503,
        "The pictures of other calls fill this server just now: try again in a minute.",
        "30",
    )
    assert (small.status_code, other.status_code, again.status_code) == (200, 200, 200)


async def test_an_account_in_a_loop_is_slowed_down_alone(tmp_path: Path) -> None:
    with office(tmp_path, bounds__REQUESTS_AT_ONCE=20.0, bounds__REQUESTS_PER_SECOND=0.5) as url:
        answers = await all_at_once(url, "alice", [PING] * 30)
        other = await knock(url, "bob")
    slowed = [answer for answer in answers if answer.status_code == 429]
    assert 5 <= len(slowed) <= 10
    assert {answer.text for answer in slowed} == {
        "This account sends requests faster than any work needs: wait some seconds, then try again."
    }
    assert other.status_code == 200


async def test_an_account_waits_in_64_calls_at_once_and_reads_why_not_in_more(tmp_path: Path) -> None:
    """As an answer of the tool, which the agent sees; what HTTP says, clients keep to themselves."""
    async with MisbehavingRouter() as router:
        router.polls_until_done = None
        with office(tmp_path, router.url) as url:
            await knock(url, "alice", BUY)
            answers: list[httpx2.Response] = []

            async def wait() -> None:
                answers.append(await knock(url, "alice", WAIT))

            async with anyio.create_task_group() as tasks:
                for _ in range(80):
                    tasks.start_soon(wait)
                with anyio.fail_after(30):
                    while len(answers) < 16:  # noqa: ASYNC110  # another process answers
                        await anyio.sleep(0.05)
                bought = await knock(url, "bob", BUY)
                tasks.cancel_scope.cancel()
    assert {answer.status_code for answer in answers} == {200}
    assert ["This account has 64 calls under way, which is the most." in answer.text for answer in answers] == [
        True
    ] * 16
    assert "Job task-2 is queued" in bought.text


async def test_connections_without_a_request_make_way_for_others(tmp_path: Path) -> None:
    with office(tmp_path, http__MOST_CONNECTIONS=30) as url:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(connected(url))
            for _ in range(100):
                await stack.enter_async_context(connected(url))
            assert await heard(first) == ""
            assert (await knock(url, "bob")).status_code == 200


async def test_where_every_connection_is_at_work_the_next_one_is_told_so(tmp_path: Path) -> None:
    with office(tmp_path, http__MOST_CONNECTIONS=20) as url:
        async with AsyncExitStack() as stack:
            for _ in range(20):
                begun = head(url, "alice", "Content-Length: 10", "Expect: 100-continue")
                at_work = await stack.enter_async_context(connected(url, begun))
                assert (await at_work.receive()).startswith(b"HTTP/1.1 100 ")
            async with connected(url) as one_more:
                answer = await heard(one_more)
        assert answer.startswith("HTTP/1.1 503 ")
        assert answer.endswith("This server has as many connections as it can hold: try again in a minute.")
        assert (await knock(url, "bob")).status_code == 200


def test_a_server_for_many_imports_nothing_once_it_serves(tmp_path: Path) -> None:
    """With all of its files in use an import fails, and leaves a server that answers 500 for ever."""
    script = """
import base64, io, sys
from pathlib import Path
import anyio, jsonschema  # the client checks answers with it
from mcp import Client
from refvideo_mcp.startup import hastened, import_all
with hastened():
    from refvideo_mcp.app import build_server
    from refvideo_mcp.doors import http
    from refvideo_mcp.settings import Settings
import_all()
from PIL import Image
_, router, folder = sys.argv
picture = io.BytesIO()
Image.new("RGB", (300, 300), "teal").save(picture, "PNG")
image = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
job = {"prompt": "@1 hums", "duration": 1, "resolution": "540p", "subjects": [{"images": [image]}]}
settings = Settings(
    api_key="x" * 9, base_url=router, http=True, database=Path(folder) / "ledger.db", output_dir=Path(folder)
)
with hastened():
    server = build_server(settings)
known = set(sys.modules)

async def work():
    async with Client(server) as client:
        started = await client.call_tool("generate_reference_video", job)
        done = await client.call_tool("get_task_result", {"task_id": started.structured_content["task_id"]})
        assert done.structured_content["state"] == "succeeded", done
        await client.call_tool("list_reference_videos", {})

anyio.run(work)
print(sorted(set(sys.modules) - known))
"""
    with Sandbox(seconds=0.2) as sandbox:
        ended = subprocess.run(
            [sys.executable, "-c", script, sandbox.url, str(tmp_path)],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "[]\n"
