"""A video, from reference pictures to a file: three tools, two calls."""

from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from mcp_types import ImageContent, ResourceLink
from PIL import Image

from fake_router import LOST, FakeRouter, Reply, files, jobs, process, refused, result, said, submit, told
from pictures import BLUE, GREEN, RED, colours, film
from refvideo_mcp.jobs import Clock
from virtual_time import EPOCH, VirtualClock

pytestmark = pytest.mark.anyio

BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])


@BOTH_ERAS
async def test_the_three_tools_say_whether_they_only_read_and_what_they_answer(
    router: FakeRouter, ledger: Path, mode: str
) -> None:
    async with process(router, ledger, mode=mode) as client:
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


@BOTH_ERAS
async def test_two_calls_turn_pictures_into_a_saved_video(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path, tmp_path: Path, mode: str
) -> None:
    """The first one buys, and answers at once; the second one waits, and saves."""
    Image.new("RGB", (256, 256), "orange").save(tmp_path / "fox.png")
    order = {"prompt": "@fox winks", "subjects": [{"id": "fox", "images": [str(tmp_path / "fox.png")]}]}
    router.takes = 30
    async with process(router, ledger, mode=mode, name="claude-ai", output_dir=videos) as client:
        started = await client.call_tool("generate_reference_video", order)
        finished = await client.call_tool("get_task_result", {"task_id": "task-1"})

    next_step = (
        "Sent to api.myrouter.ai: fox.png. "
        'Call get_task_result with task_id "task-1": it waits. Do not submit again for this video. '
        "Allowance: 295 of 300 s of video left in these 24 hours."
    )
    assert said(started) == f"Job task-1 is queued. A video takes 0.5-5 minutes. {next_step}"
    assert told(started) == {"task_id": "task-1", "state": "queued", "next_step": next_step}
    (body,) = router.posts
    (picture,) = body["subjects"][0]["images"]
    assert picture.startswith("data:image/png;base64,")
    assert body == {"prompt": "@fox winks", "subjects": [{"id": "fox", "images": [picture]}], "duration": 5}

    (name,) = await files(videos)
    file = videos / name
    assert file.read_bytes() == router.file
    assert said(finished) == (
        f"Done: the video is saved at {file} (job task-1). Seed 7. Tell the user where the file is."
    )
    (video,) = told(finished)["videos"]
    assert told(finished) == {
        "task_id": "task-1",
        "state": "succeeded",
        "seed": 7,
        "videos": [video],
        "next_step": "Tell the user where the file is.",
    }
    assert (video["url"], video["type"], video["saved_to"]) == ("https://cdn.example/task-1.mp4", "mp4", str(file))
    assert [block.uri for block in finished.content if isinstance(block, ResourceLink)] == [file.as_uri()]
    assert clock.steady() < 45


@BOTH_ERAS
async def test_the_end_of_a_wait_is_no_error_and_says_the_last_state(
    clock: VirtualClock, router: FakeRouter, ledger: Path, mode: str
) -> None:
    router.task = {"progress_percent": 40, "eta": 20}
    async with process(router, ledger, mode=mode) as client:
        await submit(client)
        answer = await result(client)

    assert clock.steady() == 45
    assert not answer.is_error
    next_step = 'Call get_task_result with task_id "task-1": it waits. Do not submit again for this video.'
    assert said(answer) == f"Job task-1 is processing, 40 %. A video takes 0.5-5 minutes. {next_step}"
    assert told(answer) == {
        "task_id": "task-1",
        "state": "processing",
        "progress_percent": 40,
        "eta_seconds": 20,
        "next_step": next_step,
    }


async def test_a_video_that_is_not_saved_is_a_link_in_text_and_structure(router: FakeRouter, ledger: Path) -> None:
    router.takes = 0
    async with process(router, ledger) as client:
        await submit(client)
        answer = await result(client)

    assert said(answer) == (
        "Done: https://cdn.example/task-1.mp4 (the link dies about 09:00 UTC; job task-1). Seed 7. "
        "Give the user this link now. Call get_task_result again for a fresh one."
    )
    assert told(answer)["videos"] == [
        {"url": "https://cdn.example/task-1.mp4", "expires_at": "2027-01-15T09:00:02+00:00", "type": "mp4"}
    ]
    assert len(answer.content) == 1


async def test_a_strip_shows_what_became_of_the_references(ledger: Path, videos: Path, tmp_path: Path) -> None:
    """One small picture: the references, then the start, the middle and the end of the video."""
    Image.new("RGB", (256, 256), "orange").save(tmp_path / "fox.png")
    router = FakeRouter(Clock(), takes=0)  # real time, because the picture is made by another process
    router.file = film(tmp_path / "film.mp4", colours(RED, GREEN, BLUE)).read_bytes()
    async with process(router, ledger, output_dir=videos, cache_dir=tmp_path / "cache") as client:
        await submit(client, subjects=[{"images": [str(tmp_path / "fox.png")]}])
        answer = await result(client)

    (strip,) = [block for block in answer.content if isinstance(block, ImageContent)]
    assert strip.mime_type == "image/jpeg"
    assert b64decode(strip.data) == await anyio.Path(told(answer)["preview"]).read_bytes()


@BOTH_ERAS
async def test_the_list_leads_back_to_lost_jobs(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path, mode: str
) -> None:
    router.submissions = [Reply(), refused(400, "ILLEGAL_PROMPT"), LOST, Reply()]
    router.fails = {"task-4": "TASK_FAILED"}
    router.takes = 10
    async with process(router, ledger, mode=mode, output_dir=videos) as client:
        empty = await jobs(client)
        for prompt in ("@1 runs", "@1 swears", "@1 sleeps", "@1 " + "dreams " * 40):
            await submit(client, prompt)
            await clock.sleep(60)
        answer = await jobs(client)
        newest = await jobs(client, limit=1)
        uncertain = await jobs(client, state="uncertain")
        await jobs(client, limit=999)

    assert said(empty) == "No jobs yet.\nAllowance: 300 of 300 s of video left in these 24 hours.\nNothing to do."
    assert told(empty) == {
        "jobs": [],
        "total": 0,
        "allowance": {"used_seconds": 0, "of_seconds": 300, "open_jobs": 0, "of_open_jobs": 10},
        "next_step": "Nothing to do.",
    }
    times = [
        f"{datetime.fromtimestamp(EPOCH + 60 * n, UTC).astimezone().isoformat(timespec='seconds')}" for n in range(4)
    ]
    (saved,) = await files(videos)
    dreams, sleeps, swears, runs = told(answer)["jobs"]
    assert dreams["prompt"].startswith("@1 dreams dreams")
    assert dreams["prompt"].endswith("…")
    assert (dreams["task_id"], dreams["state"], dreams["reason"]) == ("task-4", "failed", "TASK_FAILED")
    assert (sleeps["state"], "task_id" in sleeps) == ("uncertain", False)
    assert "may have been accepted and billed" in sleeps["reason"]
    assert (swears["state"], "ILLEGAL_PROMPT" in swears["reason"]) == ("rejected", True)
    assert runs == {
        "task_id": "task-1",
        "state": "succeeded",
        "submitted_at": times[0],
        "prompt": "@1 runs",
        "saved_to": str(videos / saved),
    }
    lines = said(answer).splitlines()
    assert lines[0] == "The 4 newest jobs:"
    assert lines[1].startswith(f'{times[3]} failed task-4 "@1 dreams dreams')
    assert lines[2] == f'{times[2]} uncertain {sleeps["idempotency_key"]} "@1 sleeps": {sleeps["reason"]}'
    assert lines[3] == (
        f'{times[1]} rejected {swears["idempotency_key"]} "@1 swears": '
        'api.myrouter.ai answered 400 ILLEGAL_PROMPT: "trace_id: 0123abcd". Nothing was bought.'
    )
    assert lines[4] == f'{times[0]} succeeded task-1 "@1 runs" -> {videos / saved}'
    assert lines[5].startswith("Allowance: 285 of 300 s of video left in these 24 hours; more from ")
    assert lines[6] == told(answer)["next_step"]
    assert lines[6].startswith("get_task_result with a task_id tells what to change about a failed one. A rejected")
    assert [job["task_id"] for job in told(newest)["jobs"]] == ["task-4"]
    assert said(newest).startswith("The newest of 4 jobs:\n")
    assert told(uncertain)["jobs"] == [sleeps]
