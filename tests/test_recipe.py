"""What a video was made of is remembered, and comes back as the call that makes it again."""

import json
from base64 import b64decode
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult
from PIL import Image

from fake_router import FakeRouter, Reply, jobs, process, refused, result, said, submit, told
from pictures import BLUE, RED, colours, data_uri, film
from refvideo_mcp.jobs import Clock
from refvideo_mcp.ledger import Ledger
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

URL = "https://pictures.example/cat.png"


@pytest.fixture
def router(clock: VirtualClock) -> FakeRouter:
    return FakeRouter(clock, takes=3)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "my fox.png"
    Image.new("RGB", (128, 128), (200, 90, 20)).save(path)
    return path


async def made(client: Client, subjects: Sequence[dict[str, Any]], **arguments: Any) -> str:
    """The id of a finished job."""
    started = await submit(client, subjects=subjects, **arguments)
    task_id: str = told(started)["task_id"]
    await result(client, task_id)
    return task_id


def recipe(answer: CallToolResult) -> dict[str, Any]:
    """What text and structure both say."""
    (line,) = [line for line in said(answer).splitlines() if line.startswith("Recipe: ")]
    found: dict[str, Any] = json.loads(line.removeprefix("Recipe: "))
    assert found == told(answer)["recipe"]
    return found


async def test_the_recipe_given_back_makes_the_same_video_slower(
    router: FakeRouter, ledger: Path, picture: Path
) -> None:
    """Another chat, another process: prompt, pictures, settings and seed are all there."""
    subjects = [{"id": "fox", "images": [str(picture)]}, {"id": "cat", "images": [URL]}]
    settings: dict[str, Any] = {"duration": 4, "resolution": "540p", "movement_amplitude": "high", "bgm": True}
    async with process(router, ledger, image_dirs=[picture.parent]) as client:
        task_id = await made(client, subjects, prompt="@fox chases\n@cat", **settings)
    async with process(router, ledger, image_dirs=[picture.parent]) as client:
        found = recipe(await jobs(client, task_id=task_id))
        assert found == {"prompt": "@fox chases\n@cat", "subjects": subjects, "seed": 7, **settings}
        again = await client.call_tool("generate_reference_video", found | {"movement_amplitude": "small"})
    assert told(again)["task_id"] == "task-2"
    first, second = router.posts
    assert second == first | {"seed": 7, "movement_amplitude": "small"}


async def test_a_single_job_that_has_the_words_comes_with_its_recipe(router: FakeRouter, ledger: Path) -> None:
    """One call from the user's words to what is needed."""
    subject = [{"id": "fox", "images": [URL]}]
    async with process(router, ledger) as client:
        await made(client, subject, prompt="@fox carries a lantern")
        await made(client, subject, prompt="@fox sleeps")
        one, both = await jobs(client, query="Lantern @FOX"), await jobs(client, query="fox")
        nothing = await jobs(client, query="owl")
    assert said(one).startswith('The newest job with "Lantern @FOX":\n')
    assert recipe(one)["prompt"] == "@fox carries a lantern"
    assert told(both)["total"] == 2
    assert "recipe" not in told(both)
    assert said(nothing).startswith(
        'No job has all of the words in its prompt, ids or file name with "owl". Of the newest: 2 succeeded.'
    )


async def test_of_pictures_that_cannot_be_named_again_the_agent_is_told_which_to_ask_for(
    router: FakeRouter, ledger: Path, picture: Path
) -> None:
    """And giving the recipe back as it is buys nothing."""
    uri, signed = data_uri(await anyio.Path(picture).read_bytes()), f"{URL}?signature=secret"
    subjects = [{"id": "fox", "images": [uri]}, {"id": "cat", "images": [signed]}, {"id": "dog", "images": [URL]}]
    async with process(router, ledger) as client:
        task_id = await made(client, subjects, prompt="@fox, @cat, @dog")
        answer = await jobs(client, task_id=task_id)
        found = recipe(answer)
        refusals = [
            await client.call_tool("generate_reference_video", found | {"prompt": "@1", "subjects": [subject]})
            for subject in ({"images": found["subjects"][place]["images"]} for place in range(2))
        ]
    assert [subject["images"] for subject in found["subjects"]] == [["data URI"], [f"{URL}?…"], [URL]]
    assert "Its pictures of @fox, @cat were not kept: ask the user for them." in told(answer)["next_step"]
    assert told(answer)["next_step"] in said(answer)
    assert "secret" not in answer.model_dump_json()
    assert all(refusal.is_error for refusal in refusals)
    assert "remembered without what came after the question mark" in said(refusals[1])
    assert len(router.posts) == 1


async def test_over_http_no_path_of_the_server_is_told(router: FakeRouter, ledger: Path, picture: Path) -> None:
    """Though the ledger has jobs of this machine's own windows."""
    async with process(router, ledger, image_dirs=[picture.parent]) as client:
        task_id = await made(client, [{"id": "fox", "images": [str(picture)]}], prompt="@fox runs")
    async with process(router, ledger, http=True) as client:
        answer = await jobs(client, task_id=task_id)
    assert recipe(answer)["subjects"] == [{"id": "fox", "images": ["a local file"]}]
    assert str(picture.parent) not in answer.model_dump_json()
    assert "pictures of @fox were not kept" in said(answer)


async def test_it_says_what_the_job_took_of_the_allowance(router: FakeRouter, ledger: Path) -> None:
    router.submissions = [Reply(), refused(400, "ILLEGAL_PROMPT")]
    async with process(router, ledger) as client:
        await made(client, [{"images": [URL]}], duration=8)
        await submit(client, "@1 swears")
        bought = await jobs(client, task_id="task-1")
        (listed,) = told(await jobs(client, state="rejected"))["jobs"]
        rejected = await jobs(client, task_id=listed["idempotency_key"])
    assert told(bought)["allowance"]["this_job_took"] == 8
    assert "This job took 8 s. Allowance: 292 of 300 s" in said(bought)
    assert told(rejected)["allowance"]["this_job_took"] == 0


async def test_an_unknown_job_is_answered_with_the_newest_ones(router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger) as client:
        await submit(client)
        for arguments in ({"task_id": "task-9"}, {"before": "task-9"}):
            answer = await jobs(client, **arguments)
            assert answer.is_error
            assert said(answer) == (
                "No job task-9 is listed here. The newest jobs here: task-1. get_task_result asks api.myrouter.ai for "
                "others."
            )


async def test_older_jobs_come_page_by_page_or_by_time(clock: VirtualClock, router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger, max_open_jobs=0, max_seconds_per_day=0) as client:
        for lap in range(5):
            await submit(client, f"@1 runs lap {lap}")
            await clock.sleep(60)
        first = await jobs(client, limit=2)
        (before,) = [word for word in told(first)["next_step"].split('"') if word == "task-4"]
        second = await jobs(client, limit=2, before=before)
        shown = told(second)["jobs"][0]["submitted_at"]
        by_time = await jobs(client, before=shown)
        by_short_time = await jobs(client, before=shown[:16].replace("T", " "))
    assert said(first).startswith("The 2 newest of 5 jobs:\n")
    assert said(first).splitlines()[-1].endswith('Older ones: before "task-4".')
    assert [[job["task_id"] for job in told(page)["jobs"]] for page in (first, second, by_time, by_short_time)] == [
        ["task-5", "task-4"],
        ["task-3", "task-2"],
        ["task-2", "task-1"],
        ["task-2", "task-1"],
    ]


async def test_open_is_everything_unfinished_and_what_hangs_is_said_to(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger) as client:
        await made(client, [{"images": [URL]}])
        none = await jobs(client, state="open")
        router.takes = 50_000
        await submit(client, "@1 waits")
        await clock.sleep(20 * 60)
        await submit(client, "@1 waits, too")
        some = await jobs(client, state="open")
    assert said(none).startswith("No job is open. Of the newest: 1 succeeded.")
    assert said(some).startswith("The 2 newest open jobs:\n")
    newer, older = told(some)["jobs"]
    assert "reason" not in newer
    assert older["reason"] == "unusually long: 20 minutes since it was submitted"
    assert said(some).splitlines()[2].endswith(older["reason"])
    assert "Of one that takes unusually long tell the user." in told(some)["next_step"]
    assert told(some)["allowance"]["open_jobs"] == 2


async def test_the_allowance_frees_when_the_oldest_job_leaves_the_day(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger, max_seconds_per_day=25) as client:
        unused = told(await jobs(client))["allowance"]
        await submit(client, duration=10)
        used = await jobs(client)
        unlimited = process(router, ledger, max_seconds_per_day=0)
        async with unlimited as other:
            endless = await jobs(other)
        await clock.sleep(24 * 3600)
        free = told(await jobs(client))["allowance"]
    assert unused["used_seconds"] == free["used_seconds"] == 0
    assert "frees_at" not in unused
    allowance = told(used)["allowance"]
    assert (allowance["used_seconds"], allowance["of_seconds"]) == (10, 25)
    day, time = allowance["frees_at"].split("T")
    assert f"Allowance: 15 of 25 s of video left in these 24 hours; more from {day} {time[:5]} " in said(used)
    assert "allowance" not in told(endless)
    assert "Allowance" not in said(endless)


async def test_what_was_asked_for_under_a_key_is_compared_without_where_pictures_came_from(
    router: FakeRouter, ledger: Path, picture: Path
) -> None:
    """The same picture from elsewhere is the same job; and what is sent and counted as the same is as it ever was."""
    copy = picture.with_name("copy.png")
    await anyio.Path(copy).write_bytes(await anyio.Path(picture).read_bytes())
    key = "order-2026-11-25-0001"
    async with process(router, ledger, image_dirs=[picture.parent]) as client:
        first = await submit(client, subjects=[{"id": "1", "images": [str(picture)]}], idempotency_key=key)
        same = await submit(client, subjects=[{"id": "1", "images": [str(copy)]}], idempotency_key=key)
        other = await submit(client, "@1 sings", subjects=[{"id": "1", "images": [str(copy)]}], idempotency_key=key)
    assert told(same)["task_id"] == told(first)["task_id"]
    assert "differs in: prompt." in said(other)
    known = Ledger(ledger)
    (job,) = known.newest("local@api.myrouter.ai", 5)
    known.close()
    assert job.request is not None
    (image,) = job.request["subjects"][0]["images"]
    assert image.keys() == {"sha256", "bytes"}
    assert job.request.keys() == {"prompt", "subjects", "duration"}
    assert job.sources == {image["sha256"]: str(picture)}


async def test_a_row_of_an_earlier_version_reads_as_far_as_it_knows(router: FakeRouter, ledger: Path) -> None:
    from sqlalchemy import create_engine, text

    async with process(router, ledger) as client:
        await made(client, [{"id": "1", "images": [URL]}, {"id": "2", "images": [URL]}], prompt="@1, @2")
    request = {
        "prompt": "@1, @2",
        "subjects": [
            {"id": "1", "images": [{"sha256": "ab" * 32, "bytes": 70}]},
            {"id": "2", "images": [{"url": URL, "sha256": "ab" * 32}]},
        ],
        "duration": 5,
    }
    engine = create_engine(f"sqlite:///{ledger}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE refvideo_jobs SET request = :request"), {"request": json.dumps(request)})
    engine.dispose()
    async with process(router, ledger) as client:
        answer = await jobs(client, task_id="task-1")
    images = [subject["images"] for subject in recipe(answer)["subjects"]]
    assert images == [["a picture of an older job"], [f"{URL}?…"]]
    assert "Its pictures of @1, @2 were not kept: ask the user for them." in said(answer)


async def test_the_next_clip_goes_on_from_the_last_frame_without_a_question(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the frame is in a hidden folder of a user who works elsewhere."""
    for name in ("home", "temporary", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "work")
    film(tmp_path / "clip.mp4", colours(RED, RED, BLUE))
    router = FakeRouter(Clock(), takes=0)  # real time, because the frame is kept by another process
    router.file = await anyio.Path(tmp_path / "clip.mp4").read_bytes()
    cache = tmp_path / "home" / ".cache" / "refvideo-mcp"
    places: dict[str, Any] = {"output_dir": tmp_path / "videos", "cache_dir": cache}
    async with process(router, ledger, **places) as client:
        await submit(client, "@1 walks to the door")
        done = await result(client)
        frame = told(done)["last_frame"]
        listed = await jobs(client, query="door")
        again = await submit(client, "@1 opens the door", subjects=[{"images": [frame]}])
        made_of = recipe(await jobs(client, task_id=told(again)["task_id"]))
        await anyio.Path(frame).unlink()
        without = [await result(client), await jobs(client, query="walks")]
    async with process(router, ledger, http=True, **places) as client:
        over_http = await result(client)
    assert f"(Last frame: {frame})" in said(done)
    assert f"To go on from its last frame give {frame} as a picture." in told(listed)["next_step"]
    assert told(again)["state"] == "queued"
    (picture,) = router.posts[1]["subjects"][0]["images"]
    sent = Image.open(BytesIO(b64decode(picture.partition(",")[2])))
    assert (sent.format, sent.size) == ("PNG", (320, 180))
    seen = sent.convert("RGB").getpixel((100, 100))
    assert isinstance(seen, tuple)
    assert all(abs(one - other) < 12 for one, other in zip(seen, BLUE, strict=True))
    assert made_of["subjects"] == [{"id": "1", "images": [frame]}]
    assert not any(frame in answer.model_dump_json() for answer in [*without, over_http])
