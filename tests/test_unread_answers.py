"""Over stdio an answer that nobody has read was not delivered: the same call in the next process joins its job."""

import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from io import RawIOBase
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest
from mcp import Client

from command_line import COMMAND, environment
from fake_router import said, told
from marker import KEY
from misbehaving_router import MisbehavingRouter
from refvideo_mcp.app import build_server
from refvideo_mcp.ledger import Ledger
from refvideo_mcp.settings import Settings

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell all of it"),
]

ERAS = pytest.mark.parametrize("era", ["2025-06-18", "2026-07-28"])
ORDER = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
CLIENT = {"name": "raw", "version": "1"}
PREFIX = "io.modelcontextprotocol"
MODERN = {"protocolVersion": "2026-07-28", "clientInfo": CLIENT, "clientCapabilities": {}}


class Window:
    """A client that reads exactly what it is told to: `stdin` and `stdout` are its ends of the server's."""

    def __init__(self, server: "subprocess.Popen[bytes]", stdin: RawIOBase, stdout: RawIOBase) -> None:
        self.server = server
        self.stdin = stdin
        self.stdout = stdout

    @classmethod
    @contextmanager
    def open(cls, home: Path, router_url: str, pipes: str) -> Iterator["Window"]:
        env = environment(
            HOME=str(home),
            XDG_STATE_HOME=str(home / "state"),
            MYROUTER_API_KEY=KEY,
            MYROUTER_BASE_URL=router_url,
            REFVIDEO_OUTPUT_DIR="off",
        )
        with ExitStack() as stack:
            if pipes == "pipes":
                server = subprocess.Popen(COMMAND, bufsize=0, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                ends = [cast(RawIOBase, server.stdin), cast(RawIOBase, server.stdout)]
            else:  # as Node makes them
                ours, theirs = zip(*[socket.socketpair() for _ in range(2)], strict=True)
                server = subprocess.Popen(COMMAND, env=env, stdin=theirs[0], stdout=theirs[1])
                ends = [ours[0].makefile("wb", buffering=0), ours[1].makefile("rb", buffering=0)]
                for end in (*ours, *theirs):
                    end.close()
            stack.callback(server.wait)
            stack.callback(server.kill)
            for end in ends:
                stack.callback(end.close)
            yield cls(server, *ends)

    def send(self, **message: Any) -> None:
        self.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def read(self) -> Any:
        return json.loads(self.stdout.readline())["result"]

    def call(self) -> None:
        """Make the call, and wait until there is something of its answer to read."""
        self.begin()
        assert select.select([self.stdout], [], [], 30)[0]

    def begin(self) -> None:
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": CLIENT}
        self.send(id=1, method="initialize", params=params)
        self.read()
        self.send(method="notifications/initialized")
        self.order(2)

    def order(self, request: int, **params: Any) -> None:
        params |= {"name": "generate_reference_video", "arguments": ORDER}
        self.send(id=request, method="tools/call", params=params)


def is_killed(window: Window) -> None:
    window.stdout.close()
    window.stdin.close()
    window.server.wait(30)


def closes_stdin(window: Window) -> None:
    window.stdin.close()
    window.server.wait(30)


def hangs_until_its_server_is_killed(window: Window) -> None:
    time.sleep(1.5)
    window.server.kill()


def reads_and_closes_stdin(window: Window) -> None:
    window.read()
    closes_stdin(window)


def reads_and_is_killed(window: Window) -> None:
    """So soon that nobody can have done anything with it."""
    window.read()
    is_killed(window)


def reads_late_and_its_server_is_killed(window: Window) -> None:
    time.sleep(1.5)
    window.read()
    time.sleep(1.5)
    window.server.kill()


@pytest.mark.parametrize(
    ("pipes", "client", "is_delivered"),
    [
        ("pipes", is_killed, False),
        ("pipes", closes_stdin, False),
        ("pipes", hangs_until_its_server_is_killed, False),
        ("pipes", reads_and_is_killed, False),
        ("pipes", reads_and_closes_stdin, True),
        ("pipes", reads_late_and_its_server_is_killed, True),
        ("sockets", is_killed, False),
        ("sockets", closes_stdin, False),
        ("sockets", hangs_until_its_server_is_killed, False),
        ("sockets", reads_and_is_killed, False),
        ("sockets", reads_and_closes_stdin, True),
    ],
)
async def test_a_call_repeated_in_the_next_process_is_another_take_only_if_the_answer_had_been_read(
    tmp_path: Path, pipes: str, client: Callable[[Window], None], is_delivered: bool
) -> None:
    def first_call(router_url: str) -> None:
        with Window.open(tmp_path, router_url, pipes) as window:
            window.call()
            client(window)

    async with MisbehavingRouter() as router:
        await anyio.to_thread.run_sync(first_call, router.url)
        # The next process is this one.
        settings = Settings(KEY, router.url, database=tmp_path / "state" / "refvideo-mcp" / "ledger.db")
        async with Client(build_server(settings)) as next_one:
            answer = await next_one.call_tool("generate_reference_video", ORDER)
    assert len(router.posts) == (2 if is_delivered else 1)
    assert told(answer)["task_id"] == ("task-2" if is_delivered else "task-1")
    assert ("An identical call had already started this job" in said(answer)) != is_delivered


@pytest.mark.parametrize("cancelled", ["the call", "the list by which its answer is checked"])
@ERAS
async def test_a_call_repeated_after_a_cancel_that_crossed_its_answer_is_the_same_job(
    tmp_path: Path, era: str, cancelled: str
) -> None:
    """The client had given the request up: it drops what it reads. The SDK's own lists the tools before it is done."""

    def calls(router_url: str) -> list[Any]:
        with Window.open(tmp_path, router_url, "pipes") as window:
            if era == "2025-06-18":
                window.begin()
                envelope = {}
            else:
                envelope = {"_meta": {f"{PREFIX}/{name}": value for name, value in MODERN.items()}}
                window.order(2, **envelope)
            answers = [window.read()]
            if cancelled != "the call":
                window.send(id=9, method="tools/list", params=envelope)
            window.send(method="notifications/cancelled", params={"requestId": 2 if cancelled == "the call" else 9})
            if cancelled != "the call":
                assert window.read()["tools"]  # it was listed by then
            for request in (3, 4):
                window.order(request, **envelope)
                answers.append(window.read())
        return answers

    async with MisbehavingRouter() as router:
        answers = await anyio.to_thread.run_sync(calls, router.url)
    assert [answer["structuredContent"]["task_id"] for answer in answers] == ["task-1", "task-1", "task-2"]
    assert len(router.posts) == 2


async def test_what_the_router_answers_after_the_client_was_killed_is_recorded(tmp_path: Path) -> None:
    async with MisbehavingRouter() as router:
        router.hold = anyio.Event()
        with Window.open(tmp_path, router.url, "pipes") as window:
            await anyio.to_thread.run_sync(window.begin)
            with anyio.fail_after(30):
                await router.until(lambda: bool(router.accepted))
            window.stdout.close()
            window.stdin.close()
            await anyio.sleep(1)  # the server has noticed
            router.hold.set()
            await anyio.to_thread.run_sync(window.server.wait)
    with closing(Ledger(tmp_path / "state" / "refvideo-mcp" / "ledger.db")) as ledger:
        (job,) = ledger.newest(f"local@{router.url.removeprefix('http://')}", 10)
    assert (job.state, job.task_id, len(router.posts)) == ("queued", "task-1", 1)
