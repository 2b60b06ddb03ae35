"""Some clients show their model only the text, some only the structure: each is read alone and must be enough.

Enough is: what became of the job, what it can be asked for by, where the video is, and what to do next.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from mcp import Client
from mcp_types import CallToolResult

from fake_router import LOST, FakeRouter, Reply, process, refused, said, told
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

URL = "https://pictures.example/cat.png"
LINK = "https://cdn.example/task-1.mp4"
KEY = "engine-0123456789"
Scene = Callable[["Stage"], Awaitable[CallToolResult]]


@dataclass
class Stage:
    """A router that does as the scene wants, and a client."""

    router: FakeRouter
    client: Client
    videos: Path

    async def submit(self, **arguments: Any) -> CallToolResult:
        call = {"prompt": "@1 runs", "subjects": [{"images": [URL]}]}
        return await self.client.call_tool("generate_reference_video", call | arguments)

    async def result(self, handle: str = "task-1") -> CallToolResult:
        return await self.client.call_tool("get_task_result", {"task_id": handle})

    async def submit_and_wait(self) -> CallToolResult:
        await self.submit()
        return await self.result()

    async def list(self) -> CallToolResult:
        return await self.client.call_tool("list_reference_videos", {})


async def submitting(stage: Stage) -> CallToolResult:
    stage.router.submissions = [Reply(after=61)]
    return await stage.submit(idempotency_key=KEY)


async def queued(stage: Stage) -> CallToolResult:
    return await stage.submit()


async def joined(stage: Stage) -> CallToolResult:
    await stage.submit(idempotency_key=KEY)
    return await stage.submit(idempotency_key=KEY)


async def warned(stage: Stage) -> CallToolResult:
    return await stage.submit(prompt="@1 meets @hero", seed=-1, duration=9, bgm=True)


async def processing(stage: Stage) -> CallToolResult:
    stage.router.takes, stage.router.task = 500, {"progress_percent": 40, "eta": 20}
    return await stage.submit_and_wait()


async def of_unknown_status(stage: Stage) -> CallToolResult:
    body = {"task": {"task_id": "task-1", "status": "TASK_STATUS_HELD BY MODERATION UNTIL SOMEBODY LOOKS AT IT"}}
    stage.router.result = Reply(body=body)
    return await stage.submit_and_wait()


async def saved(stage: Stage) -> CallToolResult:
    return await stage.submit_and_wait()


async def not_saved(stage: Stage) -> CallToolResult:
    stage.videos.write_text("a file is in the way of the folder")
    return await stage.submit_and_wait()


async def not_reached(stage: Stage) -> CallToolResult:
    stage.router.file_status = 403
    return await stage.submit_and_wait()


async def lost(stage: Stage) -> CallToolResult:
    await not_reached(stage)
    await stage.router.clock.sleep(3700)
    return await stage.result()


async def failed(stage: Stage) -> CallToolResult:
    stage.router.fails = {"task-1": "ILLEGAL_PROMPT"}
    return await stage.submit_and_wait()


async def failed_at_length(stage: Stage) -> CallToolResult:
    stage.router.fails = {"task-1": "the upstream worker said: " + "no " * 200}
    return await stage.submit_and_wait()


async def rejected(stage: Stage) -> CallToolResult:
    stage.router.submission = refused(403, "NOT_ENOUGH_BALANCE")
    return await stage.submit()


async def rejected_late(stage: Stage) -> CallToolResult:
    stage.router.submissions = [refused(400, "ILLEGAL_IMAGE_CONTENT", after=50)]
    await stage.submit(idempotency_key=KEY)
    return await stage.result(KEY)


async def uncertain(stage: Stage) -> CallToolResult:
    stage.router.submissions = [LOST]
    return await stage.submit(idempotency_key=KEY)


async def uncertain_late(stage: Stage) -> CallToolResult:
    stage.router.submissions = [replace(LOST, after=50)]
    await stage.submit(idempotency_key=KEY)
    return await stage.result(KEY)


async def unreachable(stage: Stage) -> CallToolResult:
    await stage.submit()
    stage.router.result = LOST
    return await stage.result()


async def unknown(stage: Stage) -> CallToolResult:
    await stage.submit()
    return await stage.result("task-9")


async def nothing_left(stage: Stage) -> CallToolResult:
    for seed in range(30):
        await stage.submit(duration=10, seed=seed)
    return await stage.submit(duration=10)


@dataclass(frozen=True)
class Facts:
    """What a reader has to find. `structured` is False for errors without a job, which are text alone."""

    outcome: str
    next_step: str
    handle: str | None = "task-1"
    place: str | None = None
    state: str | None = None
    structured: bool = True
    is_error: bool = False


WAITS = "Call get_task_result"
NO_JOB: dict[str, Any] = {"structured": False, "is_error": True}
SCENES: list[tuple[Scene, Facts]] = [
    (submitting, Facts("has not answered", WAITS, KEY, state="submitting")),
    (queued, Facts("is queued", WAITS, state="queued")),
    (joined, Facts("nothing new was bought", WAITS, state="queued")),
    (warned, Facts("is queued", WAITS, state="queued")),
    (processing, Facts("is processing, 40 %", WAITS, state="processing")),
    (of_unknown_status, Facts("is processing (api.myrouter.ai says", WAITS, state="processing")),
    (saved, Facts("the video is saved", "Tell the user where the file is", place="saved", state="succeeded")),
    (not_saved, Facts("could not be saved", "Give the user this link", place=LINK, state="succeeded")),
    (not_reached, Facts("its host answered 403", "Give the user this link to open", place=LINK, state="succeeded")),
    (lost, Facts("its video expired", "Only a new job makes it again", state="succeeded", is_error=True)),
    (failed, Facts('failed: "ILLEGAL_PROMPT"', "reword it", state="failed", is_error=True)),
    (
        failed_at_length,
        Facts('failed: "the upstream worker', "ask the user. Whether it was billed", state="failed", is_error=True),
    ),
    (rejected, Facts("Nothing was bought", "top up the account", None, state="rejected", is_error=True)),
    (rejected_late, Facts("Nothing was bought", "use another one", None, state="rejected", is_error=True)),
    (
        uncertain,
        Facts("may have been accepted", "Do not submit again for this video", KEY, state="uncertain", is_error=True),
    ),
    (
        uncertain_late,
        Facts("may have been accepted", "Do not submit again for this video", KEY, state="uncertain", is_error=True),
    ),
    (unreachable, Facts("connection broke", "ask again", state="queued", is_error=True)),
    (unknown, Facts("does not know the task task-9", "The newest jobs here", **NO_JOB)),
    (nothing_left, Facts("leaves 0", "REFVIDEO_MAX_SECONDS_PER_DAY raises it", None, **NO_JOB)),
]
ERAS = pytest.mark.parametrize("era", ["legacy", "auto"])
EVERY_SCENE = pytest.mark.parametrize(("scene", "facts"), SCENES, ids=[scene.__name__ for scene, _ in SCENES])


@pytest.fixture
async def stage(clock: VirtualClock, tmp_path: Path, era: str) -> AsyncIterator[Stage]:
    router, videos = FakeRouter(clock, takes=20), tmp_path / "videos"
    async with process(
        router, tmp_path / "ledger.db", mode=era, output_dir=videos, max_wait=45, max_open_jobs=0
    ) as client:
        yield Stage(router, client, videos)


def words_but_warnings(answer: CallToolResult) -> int:
    """How long the text is without what a user must hear, however long that is."""
    warnings = (answer.structured_content or {}).get("warnings", [])
    return len(said(answer).split()) - len(" ".join(warnings).split())


@ERAS
@EVERY_SCENE
async def test_the_text_alone_is_enough_and_short(stage: Stage, scene: Scene, facts: Facts) -> None:
    answer = await scene(stage)
    text = said(answer)
    assert facts.outcome in text
    assert facts.next_step in text
    assert facts.handle is None or facts.handle in text
    if facts.place:
        assert (str(stage.videos) if facts.place == "saved" else facts.place) in text
    assert words_but_warnings(answer) <= 60, text
    assert answer.is_error == facts.is_error
    structure = answer.structured_content or {}
    assert all(warning in text for warning in structure.get("warnings", []))
    assert structure.get("preview", "") in text
    assert "seed" not in structure or f"Seed {structure['seed']}." in text
    assert "router" not in text.replace(str(stage.videos), "").replace("api.myrouter.ai", "")


@ERAS
@EVERY_SCENE
async def test_the_structure_alone_is_enough_and_as_published(stage: Stage, scene: Scene, facts: Facts) -> None:
    answer = await scene(stage)
    if not facts.structured:
        assert answer.structured_content is None
        return
    tools = {tool.name: tool for tool in (await stage.client.list_tools()).tools}
    for name in ("generate_reference_video", "get_task_result"):
        schema = tools[name].output_schema
        assert schema is not None
        Draft202012Validator(schema).validate(told(answer))
    structure = told(answer)
    assert structure["state"] == facts.state
    assert facts.next_step in structure["next_step"]
    handles = (structure.get("task_id"), structure.get("idempotency_key"))
    assert any(handles) if facts.handle is None else facts.handle in handles
    assert facts.outcome in structure["next_step"] or not facts.is_error or structure.get("reason")
    if facts.place == "saved":
        assert structure["videos"][0]["saved_to"].startswith(str(stage.videos))
    elif facts.place:
        assert structure["videos"][0]["url"] == facts.place
    else:
        assert "videos" not in structure
    why = [structure.get("reason", ""), *structure.get("warnings", [])]
    assert all(any(word in text for text in why) for word in WHY.get(scene.__name__, ()))


# What else only the words tell.
WHY = {
    "not_saved": ["could not be saved"],
    "not_reached": ["could not be fetched yet"],
    "lost": ["expired on 2027-01-15 09:00 UTC, before a copy was saved"],
    "failed": ["ILLEGAL_PROMPT"],
    "warned": ["no subject has that id", "bgm has no effect", "seed is outside"],
}


@ERAS
async def test_a_list_can_be_read_either_way(stage: Stage, clock: VirtualClock) -> None:
    stage.router.takes = 3
    stage.router.fails = {"task-2": "ILLEGAL_PROMPT"}
    await stage.submit()
    await stage.result()
    await stage.submit(prompt="@1 sings")
    await stage.result("task-2")
    stage.router.takes = 500
    await stage.submit(prompt="@1 waits")
    answer = await stage.list()

    text = said(answer)
    (newest, failure, first) = text.splitlines()[1:4]
    assert ("queued task-3" in newest, '"@1 waits"' in newest) == (True, True)
    assert "failed task-2" in failure
    assert "ILLEGAL_PROMPT" in failure
    assert f"-> {stage.videos}" in first
    assert "get_task_result with a task_id" in text

    (schema,) = [tool.output_schema for tool in (await stage.client.list_tools()).tools if "list" in tool.name]
    assert schema is not None
    Draft202012Validator(schema).validate(told(answer))
    jobs = told(answer)["jobs"]
    assert [(job["task_id"], job["state"]) for job in jobs] == [
        ("task-3", "queued"),
        ("task-2", "failed"),
        ("task-1", "succeeded"),
    ]
    assert jobs[1]["reason"] == "ILLEGAL_PROMPT"
    assert jobs[2]["saved_to"].startswith(str(stage.videos))
    assert "get_task_result" in told(answer)["next_step"]


@ERAS
async def test_the_longest_answer_keeps_to_its_words(stage: Stage, clock: VirtualClock, tmp_path: Path) -> None:
    """News of other videos, files sent, what is left of the allowance and three warnings, all at once."""
    from PIL import Image

    pictures = [tmp_path / f"my cat seen from side {side}.png" for side in range(9)]
    for picture in pictures:
        Image.new("RGB", (128, 128)).save(picture)
    stage.router.takes = 3
    for seed in range(3):
        await stage.submit(seed=seed)
    await clock.sleep(60)
    answer = await stage.submit(subjects=[{"images": [str(p) for p in pictures]}], seed=-1)
    assert told(answer)["warnings"] == [
        "More than 7 pictures in all: some may be ignored.",
        "More than 3 pictures for one subject: some may be ignored.",
        "seed is outside 0-2147483647: it may be refused or ignored.",
    ]
    assert f"Note: {' '.join(told(answer)['warnings'])}" in said(answer)
    assert "Sent to api.myrouter.ai: 9 pictures. " in said(answer)
    assert "280 of 300 s of video left" in said(answer)
    assert said(answer).endswith("Since you last looked, 3 more videos finished: list_reference_videos names them.")
    assert words_but_warnings(answer) <= 60, said(answer)


@ERAS
async def test_names_are_told_as_far_as_there_is_room(stage: Stage, clock: VirtualClock, tmp_path: Path) -> None:
    from PIL import Image

    pictures = [tmp_path / f"my cat {side}.png" for side in range(3)]
    for picture in pictures:
        Image.new("RGB", (128, 128)).save(picture)
    stage.router.takes = 3
    for seed in range(3):
        await stage.submit(seed=seed)
    await clock.sleep(60)
    answer = await stage.submit(subjects=[{"images": [str(p) for p in pictures]}])
    assert "Sent to api.myrouter.ai: my cat 0.png, my cat 1.png and 1 more. " in said(answer)
    assert "Since you last looked, 3 more videos finished: " in said(answer)
    assert words_but_warnings(answer) <= 60, said(answer)


@ERAS
async def test_a_job_that_hangs_says_for_how_long_and_that_the_user_should_know(
    stage: Stage, clock: VirtualClock
) -> None:
    stage.router.takes = 50_000
    await stage.submit()
    young = await stage.result()
    await clock.sleep(400)
    older = await stage.result()
    await clock.sleep(15 * 60)
    old = await stage.result()
    assert "is processing. A video takes 0.5-5 minutes." in said(young)
    assert "is processing, 8 minutes after it was submitted. Call get_task_result" in said(older)
    assert "is processing, 24 minutes after it was submitted. Unusually long: tell the user. Call" in said(old)
    assert told(old)["next_step"].startswith("Unusually long: tell the user. Call get_task_result")


@ERAS
async def test_a_list_says_what_to_do_about_each_kind_of_row(stage: Stage, clock: VirtualClock) -> None:
    async def told_of(**arguments: Any) -> str:
        answer = await stage.client.call_tool("list_reference_videos", arguments)
        text = said(answer)
        assert text.splitlines()[-1] == told(answer)["next_step"]
        return text

    nothing = "No jobs yet.\nAllowance: 300 of 300 s of video left in these 24 hours.\nNothing to do."
    assert await told_of() == nothing
    assert await told_of(state="failed") == nothing
    stage.router.takes = 3
    stage.router.fails = {"task-2": "ILLEGAL_PROMPT"}
    await stage.submit(prompt="@1 sings")
    await stage.result()
    assert (await told_of()).endswith("\nNothing to do."), "a file is there, and its row says where"
    await stage.submit(prompt="@1 fails")
    await stage.result("task-2")
    stage.router.submissions = [refused(403, "NOT_ENOUGH_BALANCE"), LOST]
    await stage.submit(prompt="@1 is refused")
    await clock.sleep(1)
    await stage.submit(prompt="@1 may exist", idempotency_key=KEY)
    stage.router.takes = 500
    await clock.sleep(1)
    await stage.submit(prompt="@1 waits")
    await stage.result("task-5")

    text = await told_of()
    assert text.startswith("The 5 newest jobs:\n")
    doubt = next(line for line in text.splitlines() if KEY in line)
    assert "The job may have been accepted and billed all the same." in doubt
    assert text.splitlines()[-1] == (
        'get_task_result waits for those under way, for example task_id "task-5". '
        "get_task_result with a task_id tells what to change about a failed one. "
        "A rejected one was not bought: mend its reason, then submit again. "
        "An uncertain one may have been bought: do not submit again for that video; the user can look for it in the "
        "console of api.myrouter.ai."
    )
    assert (await told_of(state="failed")).splitlines()[0] == "The newest failed job:"
    assert (await told_of(state="failed")).splitlines()[-1] == (
        "get_task_result with a task_id tells what to change about a failed one."
    )
    assert (await told_of(state="queued")).splitlines()[0] == (
        "No job is queued. Of the newest: 1 processing, 1 uncertain, 1 rejected, 1 failed, 1 succeeded."
    )
    assert "get_task_result waits for those under way" in await told_of(state="queued")


@ERAS
async def test_a_row_whose_video_expired_says_so(stage: Stage, clock: VirtualClock) -> None:
    await lost(stage)
    text = said(await stage.list())
    assert "succeeded task-1" in text
    assert "its video expired on 2027-01-15 09:00 UTC, before a copy was saved" in text
    assert text.endswith("\nAn expired one only a new job makes again: ask the user.")


async def test_a_simulated_video_is_called_so(tmp_path: Path) -> None:
    from refvideo_mcp.app import build_server
    from refvideo_mcp.settings import Settings

    settings = Settings(api_key="sandbox", sandbox=True, output_dir=tmp_path)
    async with Client(build_server(settings)) as client:
        call = {"prompt": "@1 runs", "subjects": [{"images": [URL]}], "duration": 1, "resolution": "540p"}
        started = await client.call_tool("generate_reference_video", call)
        done = await client.call_tool("get_task_result", {"task_id": told(started)["task_id"]})
    assert said(started).startswith("[sandbox] Job ")
    assert said(done).startswith("[sandbox] Done: ")
    for text in (said(done), told(done)["next_step"]):
        assert text.endswith("Tell the user where the file is. Say that the video is simulated.")
