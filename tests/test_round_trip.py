"""Pictures in, videos out, through the real stdio server: what left this machine, and what came back to it."""

import json
import shutil
import socket
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import av
import pytest
import uvicorn
from mcp import Client
from starlette.types import Message, Receive, Scope, Send

from fake_router import said, told
from marker import KEY
from misbehaving_router import MisbehavingRouter
from pictures import SECRET, decoded, private_exif, private_text, saved, scene
from refvideo_mcp.sandbox.app import build_app
from stdio_server import StdioServer

pytestmark = pytest.mark.anyio

CLIP = {"duration": 1, "resolution": "540p", "aspect_ratio": "1:1", "seed": 1}
LYING_ON_ITS_SIDE = 6


@dataclass(frozen=True)
class Arrived:
    """One request as it reached the sandbox."""

    path: str
    authorization: str | None
    body: bytes


@asynccontextmanager
async def sandbox() -> AsyncIterator[tuple[str, list[Arrived]]]:
    """The sandbox on a socket: its URL, and what arrived at it."""
    app = build_app(seconds=0.2)
    arrived: list[Arrived] = []

    async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""

        async def overheard() -> Message:
            nonlocal body
            message = await receive()
            body += message.get("body", b"")
            return message

        await app(scope, overheard, send)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        arrived.append(Arrived(scope["path"], headers.get("authorization"), body))

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(recorded, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", arrived
        finally:
            server.should_exit = True
            app.state.renders.close()


def folders(home: Path) -> tuple[Path, Path]:
    """Where the pictures are and where the videos go; both belong to the user's work."""
    pictures, videos = home / "pictures", home / "videos"
    pictures.mkdir()
    return pictures, videos


def settings(pictures: Path, videos: Path) -> dict[str, str]:
    return {"REFVIDEO_IMAGE_DIRS": str(pictures), "REFVIDEO_OUTPUT_DIR": str(videos), "REFVIDEO_PREVIEW": "on"}


async def made(client: Client, order: dict[str, Any]) -> dict[str, Any]:
    """Both steps, as an agent takes them; the last answer."""
    started = told(await client.call_tool("generate_reference_video", order))
    return told(await client.call_tool("get_task_result", {"task_id": started["task_id"]}))


async def test_a_photograph_goes_out_upright_and_clean_and_a_video_that_plays_comes_back(tmp_path: Path) -> None:
    pictures, videos = folders(tmp_path)
    photograph = saved(scene(320, 240), "PNG", exif=private_exif(LYING_ON_ITS_SIDE), pnginfo=private_text())
    (pictures / "hero.png").write_bytes(photograph)
    assert SECRET.encode() in photograph

    async with (
        sandbox() as (url, arrived),
        StdioServer.running(tmp_path / "home", url, **settings(pictures, videos)) as server,
        Client(server.pipes()) as client,
    ):
        order = CLIP | {"prompt": "@hero waves", "subjects": [{"id": "hero", "images": [str(pictures / "hero.png")]}]}
        answer = await made(client, order)

    (post,) = (request for request in arrived if request.path.endswith("reference2video"))
    head, _, content = json.loads(post.body)["subjects"][0]["images"][0].partition(",")
    sent = b64decode(content)
    assert head == "data:image/png;base64"
    assert SECRET.encode() not in sent
    picture = decoded(sent)
    assert (picture.size, dict(picture.getexif()), picture.info) == ((240, 320), {}, {})
    assert [picture.getpixel(place) for place in ((230, 5), (5, 5), (5, 315))] == [
        (30, 200, 30),  # its green corner, top left before, is top right where the camera was held upright
        (200, 30, 30),
        (30, 30, 200),
    ]

    (download,) = (request for request in arrived if request.path.startswith("/files/"))
    assert (post.authorization, download.authorization) == (f"Bearer {KEY}", None)
    assert answer["videos"][0]["saved_to"] == str(next(videos.glob("*.mp4")))
    with av.open(answer["videos"][0]["saved_to"]) as video:
        assert sum(1 for _ in video.decode(video=0)) == 24
    assert (await anyio.Path(answer["preview"]).read_bytes()).startswith(b"\xff\xd8")


async def test_a_link_that_expired_meanwhile_is_replaced_by_a_fresh_one(tmp_path: Path) -> None:
    pictures, videos = folders(tmp_path)
    (pictures / "hero.png").write_bytes(saved(scene(), "PNG"))
    async with (
        sandbox() as (url, arrived),
        StdioServer.running(tmp_path / "home", url, **settings(pictures, videos)) as server,
        Client(server.pipes()) as client,
    ):
        order = CLIP | {"prompt": "@1 waves [rehearse:expired-link-once]"}
        answer = await made(client, order | {"subjects": [{"images": [str(pictures / "hero.png")]}]})
    assert await anyio.Path(answer["videos"][0]["saved_to"]).is_file()
    assert sum(request.path.startswith("/files/") for request in arrived) == 2


@asynccontextmanager
async def served(home: Path, router: MisbehavingRouter, videos: Path) -> AsyncIterator[Client]:
    async with (
        StdioServer.running(home, router.url, REFVIDEO_OUTPUT_DIR=str(videos)) as server,
        Client(server.pipes()) as client,
    ):
        yield client


ORDER = {"prompt": "@1 waves", "subjects": [{"images": "https://example.com/cat.png"}]}
VIDEO = b"\0\0\0\x10ftypisom\0\0\0\0" + (2**21 + 8).to_bytes(4, "big") + b"mdat" + bytes(2**21)


async def in_the_list(client: Client) -> str | None:
    """The file of the newest job, by the list, which asks the router nothing."""
    (job,) = told(await client.call_tool("list_reference_videos", {}))["jobs"]
    file: str | None = job.get("saved_to")
    return file


async def test_a_video_that_nobody_asks_for_again_is_saved_all_the_same(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    async with MisbehavingRouter() as router, served(tmp_path / "home", router, videos) as client:
        await client.call_tool("generate_reference_video", ORDER)
        with anyio.fail_after(30):
            while not (saved_to := await in_the_list(client)):  # noqa: ASYNC110 - the server tells nobody
                await anyio.sleep(0.05)
    assert saved_to == str(next(videos.glob("*.mp4")))


async def test_a_download_that_is_cut_again_and_again_ends_up_whole(tmp_path: Path) -> None:
    async with MisbehavingRouter() as router, served(tmp_path / "home", router, tmp_path / "videos") as client:
        router.video, router.video_cuts = VIDEO, [30, 60, 99]
        answer = await made(client, ORDER)
    assert await anyio.Path(answer["videos"][0]["saved_to"]).read_bytes() == VIDEO
    assert len(router.downloads) == 4


async def test_a_disk_that_fills_costs_the_copy_and_not_the_video(small_disk: Path, tmp_path: Path) -> None:
    async with MisbehavingRouter() as router, served(tmp_path / "home", router, small_disk) as client:
        router.video = VIDEO
        started = told(await client.call_tool("generate_reference_video", ORDER))
        answer = await client.call_tool("get_task_result", {"task_id": started["task_id"]})
    link = router.video_url("task-1")
    assert (told(answer)["state"], told(answer)["videos"][0]["url"]) == ("succeeded", link)
    assert not answer.is_error
    assert f"The video could not be saved in {small_disk}: its disk is full." in said(answer)
    assert link in said(answer)
    assert shutil.disk_usage(small_disk).used == 0
