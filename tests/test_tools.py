"""The tools, from outside: a real client in memory, a fake router behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp_types import CallToolResult, TextContent

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
