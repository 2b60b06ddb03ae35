"""The user's proxy stands before the world, not before this machine: pictures for a router here never leave it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from mcp import Client

from fake_router import said, told
from misbehaving_router import MisbehavingRouter
from stdio_server import StdioServer

pytestmark = pytest.mark.anyio

REQUEST = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
REFUSALS = {
    "http": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    "socks5": b"\x05\xff",
    "socks": b"\x05\xff",  # what desktops write for socks5
}


def through(url: str) -> dict[str, str]:
    # In small letters, because those win where both are set.
    return {"http_proxy": url, "https_proxy": url, "all_proxy": url, "no_proxy": ""}


@asynccontextmanager
async def proxy(kind: str = "http") -> AsyncIterator[tuple[dict[str, str], list[bytes]]]:
    """A proxy that refuses: the settings that name it, and what it was asked."""
    asked: list[bytes] = []

    async def refuse(caller: SocketStream) -> None:
        async with caller:
            asked.append((await caller.receive()).partition(b"\r\n")[0])
            await caller.send(REFUSALS[kind])

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, refuse)
        yield through(f"{kind}://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"), asked
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_a_router_on_this_machine_and_its_videos_are_reached_without_the_proxy(tmp_path: Path, name: str) -> None:
    async with (
        proxy() as (settings, asked),
        MisbehavingRouter() as router,
        StdioServer.running(
            tmp_path,
            router.url.replace("127.0.0.1", name),
            REFVIDEO_OUTPUT_DIR=str(tmp_path / "videos"),
            **settings,
        ) as server,
        Client(server.pipes()) as client,
    ):
        started = told(await client.call_tool("generate_reference_video", REQUEST))
        finished = told(await client.call_tool("get_task_result", {"task_id": started["task_id"]}))
    assert await anyio.Path(finished["videos"][0]["saved_to"]).read_bytes() == router.video
    assert asked == []


@pytest.mark.parametrize(
    ("kind", "question"),
    [
        ("http", b"CONNECT router.example:443 HTTP/1.1"),
        ("socks5", b"\x05\x01\x00"),  # version 5, and one way to log in: none
        ("socks", b"\x05\x01\x00"),
    ],
    ids=["http", "socks5", "socks"],
)
async def test_any_other_router_is_reached_through_the_proxy(tmp_path: Path, kind: str, question: bytes) -> None:
    async with (
        proxy(kind) as (settings, asked),
        StdioServer.running(tmp_path, "https://router.example", **settings) as server,
        Client(server.pipes()) as client,
    ):
        answer = await client.call_tool("generate_reference_video", REQUEST)
    assert answer.is_error
    assert "router.example could not be reached (the proxy refused). Nothing was sent or bought." in said(answer)
    assert asked == [question]


async def test_a_proxy_that_cannot_be_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """It must not look as if the job might have been bought."""
    async with (
        StdioServer.running(tmp_path, "https://router.example", **through("gopher://127.0.0.1")) as server,
        Client(server.pipes()) as client,
    ):
        answer = await client.call_tool("generate_reference_video", REQUEST)
        listed = told(await client.call_tool("list_reference_videos"))
    assert answer.is_error
    happened = "No connection to router.example can be set up (the proxy's address is malformed)."
    assert said(answer).startswith(f"{happened} Nothing was sent or bought.")
    assert [job["state"] for job in listed["jobs"]] == ["rejected"]
