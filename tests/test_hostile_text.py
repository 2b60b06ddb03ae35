"""Text from elsewhere is data that an agent will read: nothing invisible in it gets through, and not much of it."""

import itertools
import json
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp.client import ClientRequestContext
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult, Implementation, ResourceLink, TextContent
from PIL import Image

from command_line import environment
from marker import KEY
from refvideo_mcp.app import build_server
from refvideo_mcp.settings import Settings
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

MP4 = b"\x00\x00\x00\x18ftypisom" + bytes(64)
# Bells and escapes of terminals, changes of direction, things of no width, tags that spell words nobody sees.
INVISIBLE = "\x00\x07\x1b\x7f\x9b\u00ad\u200b\u200d\u200f\u2028\u202e\u2066\u2069\ufeff\ue000\U000e0041\U000e0001\ud800"
hostile = st.text(st.sampled_from(INVISIBLE + 'ab1 @"<>[]{}\n猫'), max_size=30) | st.text(max_size=30)
numbers = itertools.count()


def invisible(text: str) -> bool:
    return any(unicodedata.category(c) in {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"} for c in text.replace("\n", ""))


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    match value:
        case str():
            yield value
        case dict():
            yield from texts(list(value.values()))
        case list():
            for item in value:
                yield from texts(item)


def shown(answer: CallToolResult) -> list[str]:
    """Everything of an answer that a model may read."""
    found = list(texts(answer.structured_content))
    for block in answer.content:
        match block:
            case TextContent():
                found.append(block.text)
            case ResourceLink():
                found += [block.name, block.uri]
    return found


class HostileRouter:
    """Answers in the right shapes, with the wrong words. `ends` is how: by a status, a reason, an error, a video."""

    def __init__(self, ends: str, words: list[str]):
        self.ends = ends
        self.task_id, self.word, self.message, self.path = words

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "cdn.example":
            return httpx2.Response(200, content=MP4)
        if request.method == "POST":
            if self.ends.startswith("post"):
                return self._answer(int(self.ends[4:]), self._error())
            return self._answer(200, {"task_id": self.task_id or "task-1"})
        match self.ends:
            case "status":
                return self._answer(200, {"task": {"status": self.word or "NEW", "progress_percent": 5}})
            case "failed":
                return self._answer(200, {"task": {"status": "TASK_STATUS_FAILED", "reason": self.word}})
            case "video":
                url = f"https://cdn.example/{self.path}.mp4?sign=1"
                videos = [{"video_url": url, "video_type": self.word}, {"video_url": self.message}]
                return self._answer(200, {"task": {"status": "TASK_STATUS_SUCCEED"}, "videos": videos})
            case _:
                return self._answer(int(self.ends.removeprefix("get").removeprefix("post")), self._error())

    def _error(self) -> dict[str, Any]:
        return {"reason": self.word, "message": self.message, "metadata": {"details": self.path}}

    def _answer(self, status: int, answer: Any) -> httpx2.Response:
        return httpx2.Response(status, content=json.dumps(answer))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ends=st.sampled_from(["status", "failed", "video", "post400", "post500", "post200", "get403", "get404", "get500"]),
    words=st.lists(hostile, min_size=4, max_size=4),
    prompt=hostile,
    name=hostile,
    subject=hostile,
    asked=hostile,
    saved=st.booleans(),
)
async def test_nothing_invisible_reaches_an_agent(
    tmp_path: Path,
    ends: str,
    words: list[str],
    prompt: str,
    name: str,
    subject: str,
    asked: str,
    saved: bool,
) -> None:
    folder = tmp_path / str(next(numbers))
    folder.mkdir()
    picture = folder / f"{name}.png"
    try:
        Image.new("RGB", (128, 128)).save(picture)
    except (OSError, ValueError):
        picture = folder / "plain.png"
        Image.new("RGB", (128, 128)).save(picture)
    clock = VirtualClock()
    server = build_server(
        Settings(api_key=KEY, output_dir=folder if saved else None, database=folder / "ledger.db"),
        transport=httpx2.MockTransport(HostileRouter(ends, words)),
        clock=clock,
    )
    call = {
        "prompt": f"@{subject} {prompt}",
        "subjects": [{"id": subject or "1", "images": [str(picture)]}],
    }
    shows_links = Implementation(name="claude-ai", version="1")
    async with clock.passing(), Client(server, mode="legacy", client_info=shows_links) as client:
        answers = [
            await client.call_tool("generate_reference_video", call),
            await client.call_tool("generate_reference_video", call | {asked: asked, "resolution": asked}),
            await client.call_tool("get_task_result", {"task_id": asked or "x", "wait_seconds": 0}),
        ]
        told = answers[0].structured_content or {}
        if handle := told.get("task_id") or told.get("idempotency_key"):
            result = await client.call_tool("get_task_result", {"task_id": handle})
            answers.append(result)
            assert result.is_error or (result.structured_content or {}).get("state") not in ("queued", "submitting")
        answers.append(await client.call_tool("list_reference_videos", {}))
    for answer in answers:
        assert [text for text in shown(answer) if invisible(text)] == []
        assert all(len(text) < 1000 for text in shown(answer))


async def test_a_link_stays_as_it_was_signed_and_what_is_invisible_in_it_is_written_out(tmp_path: Path) -> None:
    """What a client would send for it anyway; a link that has no such characters is not touched."""
    signed = "https://cdn.example/%E7%8C%AB/a+b.mp4?X-Amz-Signature=0a%2Fb&t=1~2#猫"

    def router(request: httpx2.Request) -> httpx2.Response:
        videos = [{"video_url": signed}, {"video_url": "https://cdn.example/a\u202eb\n.mp4"}, {"video_url": "h://x"}]
        return httpx2.Response(200, json={"task": {"status": "TASK_STATUS_SUCCEED"}, "videos": videos})

    clock = VirtualClock()
    chosen = Settings(api_key=KEY, output_dir=None, database=tmp_path / "ledger.db")
    server = build_server(chosen, transport=httpx2.MockTransport(router), clock=clock)
    async with clock.passing(), Client(server) as client:
        answer = await client.call_tool("get_task_result", {"task_id": "task-1"})
    assert answer.structured_content is not None
    urls = [video["url"] for video in answer.structured_content["videos"]]
    assert urls == [signed, "https://cdn.example/a%E2%80%AEb%0A.mp4"]
    assert urlsplit(urls[0]).query == "X-Amz-Signature=0a%2Fb&t=1~2"


def test_a_log_line_moves_no_cursor() -> None:
    program = (
        "import logging; from refvideo_mcp.logs import logging_to_stderr; from refvideo_mcp.settings import Settings\n"
        r"with logging_to_stderr(Settings()): logging.warning('the router said \x1b[2J\u202emoc\x00')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, check=True, encoding="utf-8"
    )
    assert done.stderr.endswith("WARNING root: the router said ?[2J?moc?\n")


async def test_a_place_with_an_invisible_name_is_no_place_for_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path would have to be shown as it is to be of any use."""
    project = tmp_path / "proj\u202eect"
    project.mkdir()
    monkeypatch.chdir(project)
    clock = VirtualClock()
    chosen = Settings(api_key=KEY, output_dir=None, database=tmp_path / "ledger.db")
    server = build_server(
        chosen, transport=httpx2.MockTransport(HostileRouter("status", ["", "", "", ""])), clock=clock
    )
    call = {"prompt": "@1 runs", "subjects": [{"images": ["https://pictures.example/a.png"]}], "save_to": "clips"}
    async with clock.passing(), Client(server) as client:
        answer = await client.call_tool("generate_reference_video", call)
    (text,) = shown(answer)
    assert answer.is_error
    assert text.startswith(f"{tmp_path}/proj ect/clips has an invisible character in its name.")


async def test_a_question_to_the_user_shows_a_folder_without_what_is_invisible_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "else\u202ewhere"
    elsewhere.mkdir()
    Image.new("RGB", (128, 128)).save(elsewhere / "cat.png")
    for name in ("home", "temporary", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "work")
    questions: list[str] = []

    async def user(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="decline")

    clock = VirtualClock()
    chosen = Settings(api_key=KEY, output_dir=None, database=tmp_path / "ledger.db")
    server = build_server(
        chosen, transport=httpx2.MockTransport(HostileRouter("status", ["", "", "", ""])), clock=clock
    )
    call = {"prompt": "@1 runs", "subjects": [{"images": [str(elsewhere / "cat.png")]}]}
    async with clock.passing(), Client(server, elicitation_callback=user) as client:
        answer = await client.call_tool("generate_reference_video", call)
    assert questions == [f"Send pictures from {tmp_path}/else where to api.myrouter.ai?"]
    assert answer.is_error
    assert [text for text in shown(answer) if invisible(text)] == []
