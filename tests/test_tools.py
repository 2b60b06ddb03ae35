"""The tools, from outside: a real client in memory, a fake router behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp_types import CallToolResult, Implementation, ResourceLink, TextContent
from PIL import Image

from marker import KEY
from refvideo_mcp.app import build_server
from refvideo_mcp.settings import Settings
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

MP4 = b"\x00\x00\x00\x18ftypisom" + bytes(64)
ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
LINK = "https://cdn.example/clip.mp4?signature=1"
Answer = Callable[[httpx2.Request], httpx2.Response]


def accepts_and_finishes(request: httpx2.Request) -> httpx2.Response:
    """A router that takes every job and has its video at once."""
    if request.method == "POST":
        return httpx2.Response(200, json={"task_id": "task-1"})
    if request.url.host == "cdn.example":
        return httpx2.Response(200, content=MP4)
    video = {"video_url": LINK, "video_url_ttl": "3600", "video_type": "mp4"}
    task = {"task_id": "task-1", "status": "TASK_STATUS_SUCCEED", "progress_percent": 100, "eta": 0}
    return httpx2.Response(200, json={"task": task, "videos": [video], "extra": {"seed": "7"}})


def server(folder: Path, clock: VirtualClock, router: Answer = accepts_and_finishes, **changes: Any) -> Any:
    chosen = {"api_key": KEY, "output_dir": folder / "videos", "database": folder / "ledger.db", **changes}
    return build_server(Settings(**chosen), transport=httpx2.MockTransport(router), clock=clock)


def text_of(result: CallToolResult) -> str:
    (first, *_) = result.content
    assert isinstance(first, TextContent)
    return first.text


@ERAS
async def test_two_calls_turn_a_picture_into_a_saved_video(tmp_path: Path, era: str) -> None:
    Image.new("RGB", (256, 256), "orange").save(tmp_path / "fox.png")
    sent: list[httpx2.Request] = []

    def router(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return accepts_and_finishes(request)

    clock = VirtualClock()
    info = Implementation(name="claude-ai", version="1")
    async with clock.passing(), Client(server(tmp_path, clock, router), mode=era, client_info=info) as client:
        started = await client.call_tool(
            "generate_reference_video",
            {"prompt": "@fox winks", "subjects": [{"id": "fox", "images": [str(tmp_path / "fox.png")]}]},
        )
        finished = await client.call_tool("get_task_result", {"task_id": "task-1"})

    assert text_of(started) == (
        "Job task-1 is queued. A video takes 0.5-5 minutes. Sent to api.myrouter.ai: fox.png. "
        'Call get_task_result with task_id "task-1": it waits. Do not submit again for this video. '
        "Allowance: 295 of 300 s of video left in these 24 hours."
    )
    assert started.structured_content == {
        "task_id": "task-1",
        "state": "queued",
        "next_step": "Sent to api.myrouter.ai: fox.png. "
        'Call get_task_result with task_id "task-1": it waits. Do not submit again for this video. '
        "Allowance: 295 of 300 s of video left in these 24 hours.",
    }
    body = json.loads(sent[0].content)
    picture = body["subjects"][0]["images"][0]
    assert picture.startswith("data:image/png;base64,")
    assert body == {"prompt": "@fox winks", "subjects": [{"id": "fox", "images": [picture]}], "duration": 5}

    (file,) = (tmp_path / "videos").iterdir()
    assert file.read_bytes() == MP4
    assert text_of(finished) == (
        f"Done: the video is saved at {file} (job task-1). Seed 7. Tell the user where the file is."
    )
    assert finished.structured_content == {
        "task_id": "task-1",
        "state": "succeeded",
        "seed": 7,
        "videos": [{"url": LINK, "expires_at": "2027-01-15T09:00:02+00:00", "type": "mp4", "saved_to": str(file)}],
        "next_step": "Tell the user where the file is.",
    }
    assert [block.uri for block in finished.content if isinstance(block, ResourceLink)] == [file.as_uri()]
    assert "Authorization" not in next(r for r in sent if r.url.host == "cdn.example").headers


@ERAS
async def test_every_tool_says_whether_it_only_reads_and_what_it_answers(tmp_path: Path, era: str) -> None:
    async with Client(server(tmp_path, VirtualClock()), mode=era) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    hints = {
        name: (a.read_only_hint, a.destructive_hint, a.idempotent_hint, a.open_world_hint)
        for name, tool in tools.items()
        if (a := tool.annotations)
    }
    assert hints == {
        "generate_reference_video": (False, False, False, True),
        "get_task_result": (True, False, True, True),
        "list_reference_videos": (True, False, True, False),
    }
    assert all(tool.output_schema for tool in tools.values())


async def test_a_video_that_is_not_saved_is_a_link_in_text_and_structure(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with clock.passing(), Client(server(tmp_path, clock, output_dir=None)) as client:
        result = await client.call_tool("get_task_result", {"task_id": "task-1"})
    assert text_of(result) == (
        f"Done: {LINK} (the link dies about 09:00 UTC; job task-1). Seed 7. "
        "Give the user this link now. Call get_task_result again for a fresh one."
    )
    assert result.structured_content is not None
    assert result.structured_content["videos"] == [
        {"url": LINK, "expires_at": "2027-01-15T09:00:00+00:00", "type": "mp4"}
    ]
    assert len(result.content) == 1


async def test_without_a_key_the_tools_are_listed_and_a_call_says_what_to_set(tmp_path: Path) -> None:
    async with Client(server(tmp_path, VirtualClock(), api_key="")) as client:
        assert len((await client.list_tools()).tools) == 3
        results = [
            await client.call_tool(
                "generate_reference_video", {"prompt": "@1", "subjects": [{"images": ["https://a.b"]}]}
            ),
            await client.call_tool("get_task_result", {"task_id": "task-1"}),
            await client.call_tool("list_reference_videos", {}),
        ]
    assert {(result.is_error, text_of(result)) for result in results} == {
        (
            True,
            "No API key is set, so no job can be started or read. Ask the user to put MYROUTER_API_KEY into this "
            "server's configuration and to restart it. MYROUTER_API_KEY=sandbox needs no account: it simulates the "
            "router and costs nothing.",
        )
    }


async def test_an_unknown_argument_is_refused_with_the_nearest_real_name(tmp_path: Path) -> None:
    async with Client(server(tmp_path, VirtualClock())) as client:
        result = await client.call_tool("get_task_result", {"task_id": "task-1", "wait_second": 3})
    assert result.is_error
    assert text_of(result) == (
        "`wait_second` is not an argument; did you mean `wait_seconds`? "
        "Nothing was sent or bought: correct this and try again."
    )


async def test_what_a_subject_without_a_picture_would_cost_is_never_found_out(tmp_path: Path) -> None:
    def router(request: httpx2.Request) -> httpx2.Response:
        raise AssertionError("nothing may be sent")

    async with Client(server(tmp_path, VirtualClock(), router)) as client:
        result = await client.call_tool(
            "generate_reference_video", {"prompt": "@1 waves", "subjects": [{"images": [str(tmp_path / "gone.png")]}]}
        )
    assert result.is_error
    assert text_of(result) == (
        f"There is no picture at {tmp_path / 'gone.png'}. Ask the user for the right path. Nothing was sent."
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=10), children, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["prompt", "subjects", "duration", "seed", "task_id", "wait_seconds", "limit", "state"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=st.dictionaries(names | st.text(max_size=8), json_values, max_size=5))
async def test_any_arguments_bring_a_result_or_a_readable_error(tmp_path: Path, arguments: dict[str, Any]) -> None:
    clock = VirtualClock()
    async with clock.passing(), Client(server(tmp_path, clock), mode="legacy") as client:
        for tool in ("generate_reference_video", "get_task_result", "list_reference_videos"):
            result = await client.call_tool(tool, arguments)
            said = text_of(result)
            assert said
            assert "Error executing tool" not in said
            assert "pydantic" not in said
