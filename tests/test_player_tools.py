"""What the player needs of the server, and that nobody else notices: a real client, a fake router behind."""

import base64
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.extension import advertise
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp_types import TextResourceContents
from PIL import Image

from fake_router import FakeRouter, said
from marker import KEY
from refvideo_mcp.app import build_server
from refvideo_mcp.errors import clean
from refvideo_mcp.ledger import Job, Ledger
from refvideo_mcp.settings import Settings
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
SHOWS_APPS = [advertise(EXTENSION_ID, {"mimeTypes": [APP_MIME_TYPE]})]
FROM_PLAYER: Any = {"refvideo/player": True}
GOLDEN = Path(__file__).parents[1] / "tool_schemas"
MP4 = b"\x00\x00\x00\x18ftypisom" + bytes(64)
ORDER: dict[str, Any] = {"prompt": "@1 runs", "subjects": [{"id": "1", "images": ["https://pictures.example/1.png"]}]}


def window(
    folder: Path, clock: VirtualClock, *, mode: str = "auto", shows_apps: bool = True, **settings: Any
) -> Client:
    """A client of a server whose router has each video after 10 s."""
    settings = {"output_dir": folder / "videos", "database": folder / "ledger.db", **settings}
    server = build_server(
        Settings(api_key=KEY, **settings), transport=FakeRouter(clock, takes=10).transport, clock=clock
    )
    return Client(server, mode=mode, extensions=SHOWS_APPS if shows_apps else [])


async def make_video(client: Client, folder: Path) -> Path:
    """The saved file of task-1."""
    await client.call_tool("generate_reference_video", ORDER)
    await client.call_tool("get_task_result", {"task_id": "task-1"})
    (file,) = (folder / "videos").iterdir()
    return file


@ERAS
async def test_both_job_tools_name_a_page_that_the_server_has(tmp_path: Path, era: str) -> None:
    async with window(tmp_path, VirtualClock(), mode=era) as client:
        tools = {tool.name: tool.meta for tool in (await client.list_tools()).tools}
        listed = next(found for found in (await client.list_resources()).resources if found.name == "player")
        (content,) = (await client.read_resource(listed.uri)).contents
    assert tools == {
        "generate_reference_video": {"ui": {"resourceUri": listed.uri}},
        "get_task_result": {"ui": {"resourceUri": listed.uri}},
        "list_reference_videos": None,
        "read_video_piece": {"ui": {"resourceUri": listed.uri, "visibility": ["app"]}},
        "add_pictures": {"ui": {"resourceUri": listed.uri, "visibility": ["app"]}},
    }
    assert isinstance(content, TextResourceContents)
    assert (listed.mime_type, content.mime_type) == (APP_MIME_TYPE, APP_MIME_TYPE)
    assert content.meta == {"ui": {"permissions": {"clipboardWrite": {}}, "prefersBorder": False}}


@ERAS
async def test_clients_without_apps_see_nothing_of_it(tmp_path: Path, era: str) -> None:
    clock = VirtualClock()
    async with clock.passing(), window(tmp_path, clock, mode=era, shows_apps=False) as client:
        tools = (await client.list_tools()).tools
        resources = (await client.list_resources()).resources
        result = await client.call_tool("generate_reference_video", ORDER)
    listed = {tool.name: tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools}
    assert listed == {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in GOLDEN.glob("*.json")}
    assert [str(found.uri) for found in resources] == ["refvideo://cast"]
    assert "refvideo/job" not in (result.meta or {})


@pytest.mark.parametrize("era", ["legacy", "auto"])
@pytest.mark.parametrize("shows_apps", [True, False])
async def test_only_agents_beside_a_player_are_told_to_leave_pasted_pictures_out(
    tmp_path: Path, era: str, shows_apps: bool
) -> None:
    async with window(tmp_path, VirtualClock(), mode=era, shows_apps=shows_apps) as client:
        tool = next(tool for tool in (await client.list_tools()).tools if tool.name == "generate_reference_video")
        told = tool.input_schema["properties"]["subjects"]["items"]["properties"]["images"]["description"]
        instructions = client.instructions or ""
    assert ("One pasted into the chat has no path: leave images out." in told) == shows_apps
    assert ("are given by the user here, once you leave images out." in instructions) == shows_apps
    assert ("ask for" in told + instructions) != shows_apps


async def test_the_page_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    async with window(tmp_path, VirtualClock()) as client:
        (content,) = (await client.read_resource("ui://refvideo/player.html")).contents
    assert isinstance(content, TextResourceContents)
    assert not re.findall(r"https?:|@import|url\(|<link|\bsrc=", content.text)
    assert content.text.count("<script>") == content.text.count("</script>") >= 1


@pytest.mark.parametrize(
    ("base_url", "declared"),
    [("https://api.myrouter.ai", None), ("http://127.0.0.1:8765/prefix", ["http://127.0.0.1:8765"])],
)
async def test_the_page_declares_only_the_media_host_that_is_certain(base_url: str, declared: list[str] | None) -> None:
    async with Client(build_server(Settings(api_key=KEY, base_url=base_url))) as client:
        (content,) = (await client.read_resource("ui://refvideo/player.html")).contents
    csp = ((content.meta or {})["ui"]).get("csp")
    assert csp == ({"resourceDomains": declared} if declared else None)


@ERAS
async def test_a_saved_video_is_read_in_pieces_that_join_as_text(tmp_path: Path, era: str) -> None:
    clock = VirtualClock()
    async with clock.passing(), window(tmp_path, clock, mode=era) as client:
        file = await make_video(client, tmp_path)
        file.write_bytes(MP4 + bytes(range(256)) * 4096)
        pieces, read = [], 0
        while read < file.stat().st_size:
            piece = (
                await client.call_tool("read_video_piece", {"task_id": "task-1", "offset": read})
            ).structured_content
            assert piece is not None
            assert len(piece["data"]) <= 512 * 1024
            pieces.append(piece["data"])
            read += len(base64.b64decode(piece["data"]))
    assert base64.b64decode("".join(pieces)) == file.read_bytes()
    assert piece == {"data": pieces[-1], "size": file.stat().st_size, "type": "video/mp4"}
    assert len(pieces) == 3


async def test_only_a_finished_jobs_own_video_is_read(tmp_path: Path) -> None:
    clock = VirtualClock()
    secret = tmp_path / "secret.txt"
    secret.write_text("not a video, and nobody's business")
    ledger = Ledger(tmp_path / "ledger.db")
    ours, video = "local@api.myrouter.ai", tmp_path / "theirs.mp4"
    video.write_bytes(MP4)
    ledger.import_job(Job("a", "somebody else", "key-a", state="succeeded", task_id="theirs", saved_to=str(video)))
    ledger.import_job(Job("b", ours, "key-b", state="processing", task_id="working", saved_to=str(video)))
    ledger.import_job(Job("c", ours, "key-c", state="succeeded", task_id="unsaved"))
    ledger.import_job(Job("d", ours, "key-d", state="succeeded", task_id="swapped", saved_to=str(secret)))
    ledger.import_job(Job("e", ours, "key-e", state="succeeded", task_id="gone", saved_to=str(tmp_path / "gone.mp4")))
    ledger.close()
    async with clock.passing(), window(tmp_path, clock) as client:

        async def read(task_id: str) -> str:
            result = await client.call_tool("read_video_piece", {"task_id": task_id})
            assert result.is_error
            return said(result)

        for task in ("theirs", "working", "unsaved", "unknown", str(video)):
            assert (
                await read(task) == f"No video of job {clean(task, 80)} is saved here. Its result tells how it stands."
            )
        assert (await read("swapped")).startswith("secret.txt is no video any more.")
        assert (await read("gone")).startswith("gone.mp4 is not where it was saved.")


async def test_a_file_that_no_browser_would_play_from_memory_is_not_read(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with clock.passing(), window(tmp_path, clock) as client:
        file = await make_video(client, tmp_path)
        with file.open("r+b") as video:
            video.truncate(33 * 2**20)
        result = await client.call_tool("read_video_piece", {"task_id": "task-1"})
    assert said(result) == f"{file.name} is too large to be played here (35 MB). Open the file itself."


@ERAS
async def test_a_video_that_only_the_player_saw_is_still_news_for_the_agent(tmp_path: Path, era: str) -> None:
    clock = VirtualClock()
    async with clock.passing(), window(tmp_path, clock, mode=era, output_dir=None) as client:
        await client.call_tool("generate_reference_video", ORDER)
        await clock.sleep(1)
        seen = await client.call_tool("get_task_result", {"task_id": "task-1"}, meta=FROM_PLAYER)
        listed = await client.call_tool("generate_reference_video", ORDER | {"prompt": "@1 sleeps"})
    assert seen.structured_content is not None
    assert seen.structured_content["state"] == "succeeded"
    assert "Since you last looked, 1 more video finished: task-1." in said(listed)


async def test_the_player_is_told_what_it_cannot_know(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with clock.passing(), window(tmp_path, clock) as client:
        await client.call_tool("generate_reference_video", ORDER | {"prompt": "@1 runs\u202e"})
        await clock.sleep(4)
        result = await client.call_tool("get_task_result", {"task_id": "task-1", "wait_seconds": 3})
    assert (result.meta or {})["refvideo/job"] == {"seconds": pytest.approx(7, abs=0.5), "prompt": "@1 runs"}


@ERAS
async def test_the_player_is_given_its_subjects_once_and_small(tmp_path: Path, era: str) -> None:
    """Noise is what a JPEG of few bytes shows worst."""
    clock = VirtualClock()
    shades = Image.frombytes("RGB", (600, 400), random.Random(1).randbytes(600 * 400 * 3))
    shades.save(tmp_path / "noise.png")
    noise = {"id": "noise", "images": [str(tmp_path / "noise.png")]}
    order = {"prompt": "@1 meets @noise", "subjects": [*ORDER["subjects"], noise]}
    async with clock.passing(), window(tmp_path, clock, mode=era, cache_dir=tmp_path / "cache") as client:
        await client.call_tool("generate_reference_video", order)
        marks: list[Any] = [{"refvideo/player": {"hasSubjects": has}} for has in (False, True)]
        results = [await client.call_tool("get_task_result", {"task_id": "task-1"}, meta=mark) for mark in marks]
    first, second = [(result.meta or {})["refvideo/job"] for result in results]
    (given,) = first["subjects"]  # a picture that is a link was never here
    assert given["id"] == "noise"
    kind, _, encoded = given["picture"].partition(";base64,")
    assert kind == "data:image/jpeg"
    assert len(base64.b64decode(encoded)) <= 8000
    assert "subjects" not in second
