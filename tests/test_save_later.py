"""A user who says afterwards where the video is wanted gets it there, and buys nothing again."""

from contextlib import chdir
from pathlib import Path

import anyio
import pytest
from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult

from fake_router import FakeRouter, files, jobs, process, result, said, submit, told
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])


@pytest.fixture
def router(clock: VirtualClock) -> FakeRouter:
    return FakeRouter(clock, takes=3)


@BOTH_ERAS
async def test_a_finished_video_is_put_there_though_its_link_is_long_dead(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path, work: Path, mode: str
) -> None:
    async with process(router, ledger, mode=mode, output_dir=videos) as client:
        await submit(client)
        first = told(await result(client))["videos"][0]["saved_to"]
        router.file_status = 403
        await clock.sleep(7 * 24 * 3600)
        answer = await result(client, save_to="./clips")
        again = await result(client, save_to="clips")
        listed = await jobs(client)
    (copy,) = await files(work / "clips")
    where = str(work / "clips" / copy)
    for told_of in (answer, again):
        assert said(told_of).startswith(f"Done: the video is saved at {where} (job task-1).")
        assert told(told_of)["videos"][0]["saved_to"] == where
    assert await anyio.Path(where).read_bytes() == await anyio.Path(first).read_bytes() == router.file
    assert told(listed)["jobs"][0]["saved_to"] == where
    assert len(router.posts) == 1


async def test_it_is_fetched_where_there_is_no_copy(router: FakeRouter, ledger: Path, work: Path) -> None:
    async with process(router, ledger) as client:
        await submit(client)
        assert "saved_to" not in told(await result(client))["videos"][0]
        answer = await result(client, save_to="clips/fox.mp4")
    assert told(answer)["videos"][0]["saved_to"] == str(work / "clips" / "fox.mp4")
    assert await files(work / "clips") == ["fox.mp4"]


async def test_whoever_collects_a_job_under_way_obeys_it(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path, work: Path
) -> None:
    """The window that was told is closed meanwhile; the next one picks the job up by itself."""
    router.takes = 600
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        answer = await result(client, wait_seconds=0, save_to="clips")
    assert told(answer)["state"] == "processing"
    async with process(router, ledger, output_dir=videos) as client:
        await clock.sleep(700)
        (job,) = told(await jobs(client))["jobs"]
    assert Path(job["saved_to"]).parent == work / "clips"
    assert len(await files(work / "clips")) == 1
    assert not await anyio.Path(videos).exists()


async def test_a_place_that_is_named_while_the_video_is_being_saved_gets_it_too(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path, work: Path
) -> None:
    router.file_after = 30
    async with process(router, ledger, output_dir=videos) as client, anyio.create_task_group() as tasks:
        await submit(client)
        tasks.start_soon(result, client)
        await clock.sleep(15)
        answer = await result(client, save_to="clips")
    assert Path(told(answer)["videos"][0]["saved_to"]).parent == work / "clips"
    assert len(router.fetched_at) == 1


async def test_no_file_is_ever_written_over(router: FakeRouter, ledger: Path, videos: Path, work: Path) -> None:
    await anyio.Path(work / "fox.mp4").write_text("mine")
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        answer = await result(client, save_to="fox.mp4")
        again = await result(client, save_to="fox.mp4")
    assert told(answer)["videos"] == told(again)["videos"]
    assert told(answer)["videos"][0]["saved_to"] == str(work / "fox (2).mp4")
    assert await files(work) == ["fox (2).mp4", "fox.mp4"]
    assert await anyio.Path(work / "fox.mp4").read_text() == "mine"


async def test_a_copy_that_cannot_be_made_is_said_and_the_earlier_one_stays_known(
    small_disk: Path, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.file = b"\0\0\0\x18ftypisom" + b"\0" * 3_000_000
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        first = told(await result(client))["videos"][0]["saved_to"]
        with chdir(small_disk):
            answer = await result(client, save_to="clips")
    assert told(answer)["videos"][0]["saved_to"] == first
    assert told(answer)["warnings"] == [f"The video could not be saved in {small_disk}/clips: its disk is full."]
    assert "its disk is full" in said(answer)


@BOTH_ERAS
@pytest.mark.parametrize("allows", [True, False])
async def test_the_user_is_asked_about_another_folder_as_before_a_purchase(
    router: FakeRouter, ledger: Path, videos: Path, work: Path, mode: str, allows: bool
) -> None:
    questions: list[str] = []

    async def user(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="accept", content={"allow": allows})

    elsewhere = work.parent / "elsewhere"
    async with process(router, ledger, mode=mode, output_dir=videos, elicitation_callback=user) as client:
        await submit(client)
        answer = await result(client, save_to=str(elsewhere))
    assert questions == [f"Save videos in {elsewhere}?"]
    assert bool(answer.is_error) is not allows
    assert len(await files(elsewhere)) == allows


async def test_who_cannot_ask_and_who_is_reached_over_http_refuse(
    router: FakeRouter, ledger: Path, videos: Path, work: Path
) -> None:
    elsewhere = work.parent / "elsewhere"
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        answer = await result(client, save_to=str(elsewhere))
    async with process(router, ledger, http=True) as client:
        over_http = await result(client, save_to="clips")
    assert said(answer).startswith(f"Nobody has allowed yet that videos are saved in {elsewhere}.")
    assert said(over_http).startswith("This server is reached over HTTP and saves no video where a call says")
    assert await files(elsewhere) == []


async def test_a_retry_by_key_still_finds_the_job_whose_video_went_elsewhere(
    router: FakeRouter, ledger: Path, videos: Path, work: Path
) -> None:
    key = "order-2026-11-25-0001"
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client, idempotency_key=key)
        await result(client, save_to="clips")
        again = await submit(client, idempotency_key=key)
    assert told(again)["task_id"] == "task-1"
    assert len(router.posts) == 1


async def test_an_unknown_id_leaves_nothing_behind(router: FakeRouter, ledger: Path, work: Path) -> None:
    async with process(router, ledger) as client:
        answer = await result(client, "nobody-s", save_to="clips")
        listed = await jobs(client)
    assert said(answer).startswith("api.myrouter.ai does not know the task nobody-s.")
    assert told(listed)["jobs"] == []
    assert await files(work) == []
