"""The same jobs through every door: MCP on stdio and over HTTP, MCP Tasks, and the command line."""

import re
import sys
from pathlib import Path

import av
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp_types import ImageContent, Implementation, TextContent
from PIL import Image

from a_place import SHORT, Place
from fake_router import FakeRouter, files, jobs, process, result, said, submit, told
from http_server import HttpServer
from pictures import data_uri, saved, scene
from refvideo_mcp.sandbox import Sandbox
from task_client import TakesTasks
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

BOTH_ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
ORDER = {"prompt": "@1 hums", "duration": 1, "resolution": "540p", "aspect_ratio": "1:1", "audio": True, "seed": 1}


async def test_without_a_key_the_tools_are_listed_and_a_call_says_what_to_set(router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger, api_key="") as client:
        assert len((await client.list_tools()).tools) == 3
        answers = [await submit(client), await result(client), await jobs(client)]
    assert {(answer.is_error, said(answer)) for answer in answers} == {
        (
            True,
            "No API key is set, so no job can be started or read. Ask the user to put MYROUTER_API_KEY into this "
            "server's configuration and to restart it. MYROUTER_API_KEY=sandbox needs no account: it simulates the "
            "router and costs nothing.",
        )
    }


@BOTH_ERAS
async def test_on_stdio_the_sandbox_makes_a_video_that_plays_and_costs_nothing(tmp_path: Path, era: str) -> None:
    Image.new("RGB", (300, 300), "teal").save(tmp_path / "bird.png")
    serve = ["-m", "refvideo_mcp", "serve", "--sandbox", "--output-dir", str(tmp_path / "videos")]
    seen: list[float] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with Client(StdioServerParameters(command=sys.executable, args=serve), mode=era) as client:
        started = await client.call_tool(
            "generate_reference_video", ORDER | {"subjects": [{"images": [str(tmp_path / "bird.png")]}]}
        )
        task_id = told(started)["task_id"]
        finished = await client.call_tool("get_task_result", {"task_id": task_id}, progress_callback=progressed)

    (file,) = (tmp_path / "videos").iterdir()
    seed, preview, last = (told(finished)[name] for name in ("seed", "preview", "last_frame"))
    assert said(finished) == (
        f"[sandbox] Done: the video is saved at {file} (job {task_id}). Seed {seed}. (Preview: {preview}) "
        f"(Last frame: {last}) Tell the user where the file is. Say that the video is simulated."
    )
    with av.open(str(file)) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 540, 540)
        assert sum(1 for _ in video.decode(stream)) == 24
        assert len(video.streams.audio) == 1
    assert seen
    assert seen == sorted(set(seen))


@BOTH_ERAS
async def test_over_http_a_client_gets_a_video_by_its_link_and_sees_the_progress(tmp_path: Path, era: str) -> None:
    """Saved on the server too, where its own setting says so; what the client is told names no file there."""
    seen: list[tuple[float, str | None]] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, message))

    videos = str(tmp_path / "videos")
    with Sandbox(seconds=1) as sandbox:
        async with (
            HttpServer.running(tmp_path, sandbox.url, REFVIDEO_OUTPUT_DIR=videos) as server,
            Client(server.url, mode=era, client_info=Implementation(name="a chat", version="1")) as client,
        ):
            order = ORDER | {"subjects": [{"images": [data_uri(saved(scene(), "PNG"))]}]}
            started = await client.call_tool("generate_reference_video", order)
            task_id = told(started)["task_id"]
            finished = await client.call_tool("get_task_result", {"task_id": task_id}, progress_callback=progressed)
            listed = await client.call_tool("list_reference_videos", {})
            link = told(finished)["videos"][0]["url"]
            async with httpx2.AsyncClient() as http:
                video = (await http.get(link)).content
        (file,) = (tmp_path / "videos").iterdir()

    assert [progress for progress, _ in seen] == sorted({progress for progress, _ in seen})
    assert any(message and message.startswith("succeeded") for _, message in seen)
    assert said(finished).startswith(f"Done: {link} (the link dies about ")
    assert file.read_bytes() == video
    assert {type(block) for block in finished.content} == {TextContent, ImageContent}
    assert told(finished)["videos"][0].keys() == {"url", "expires_at", "type"}
    assert "preview" not in told(finished)
    answers = "".join(answer.model_dump_json() for answer in (started, finished, listed))
    assert str(tmp_path) not in answers
    assert file.name not in answers


async def test_a_call_that_becomes_a_task_ends_in_the_answer_of_the_tool(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path, tmp_path: Path
) -> None:
    """The router's job is the task: a client that declares the extension asks for it by itself."""
    Image.new("RGB", (300, 300)).save(tmp_path / "dog.png")
    takes_tasks = TakesTasks(clock.sleep)
    async with process(router, ledger, extensions=[takes_tasks], output_dir=videos) as client:
        finished = await submit(
            client, prompt="It waves", subjects=[{"id": "dog", "images": [str(tmp_path / "dog.png")]}]
        )
        asked = await result(client)

    created, *looks, last = takes_tasks.seen
    assert created.pop("statusMessage") == (
        "Job task-1 is queued. A video takes 0.5-5 minutes. Sent to api.myrouter.ai: dog.png. "
        "Note: The prompt never names `@dog`: a subject that is not named may not appear. "
        'Call get_task_result with task_id "task-1": it waits. Do not submit again for this video. '
        "Allowance: 295 of 300 s of video left in these 24 hours."
    )
    assert created == {
        "resultType": "task",
        "taskId": "task-1",
        "status": "working",
        "createdAt": "2027-01-15T08:00:00.000+00:00",
        "lastUpdatedAt": "2027-01-15T08:00:00.000+00:00",
        "ttlMs": 86_400_000,
        "pollIntervalMs": 2000,
    }
    assert {look["statusMessage"] for look in looks} <= {"queued", "processing", "succeeded, saving the video"}
    assert {look["resultType"] for look in (*looks, last)} == {"complete"}
    assert last["status"] == "completed"
    assert finished.model_dump(exclude={"meta"}) == asked.model_dump(exclude={"meta"})
    (name,) = await files(videos)
    assert said(finished) == (
        f"Done: the video is saved at {videos / name} (job task-1). "
        "Note: The prompt never names `@dog`: a subject that is not named may not appear. Seed 7. "
        "Tell the user where the file is."
    )


def test_the_command_line_makes_a_video_and_prints_its_path_and_nothing_else_on_stdout(tmp_path: Path) -> None:
    with Sandbox(seconds=0.5) as sandbox:
        place = Place(tmp_path, sandbox.url)
        made = place.run("generate", "--prompt", "@hero waves", "--subject", "hero=hero.png", *SHORT)
        listed = place.run("list")
        assert place.submits() == 1

    assert made.returncode == 0, made.stderr
    video = Path(made.stdout.removesuffix("\n"))
    assert video.parent == tmp_path / "videos"
    with av.open(video) as film:
        assert sum(1 for _ in film.decode(video=0)) == 24
    job = r"[0-9a-f]{8}-[0-9a-f-]{27}"
    assert re.search(rf"✓ job +{job}; Allowance: 299 of 300 s of video left", made.stderr)
    assert "hero.png, sent to 127.0.0.1" in made.stderr
    assert "\x1b" not in made.stderr
    assert (listed.returncode, listed.stderr) == (0, "")
    assert re.search(rf"^{job}  succeeded  \d+ s  1 s     @hero waves  videos/{video.name}$", listed.stdout, re.M)
