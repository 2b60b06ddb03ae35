"""A fault in this program itself: whatever breaks off beside the answers is tried again, and ends nothing else."""

import gc
import sys
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from fake_router import LOST, FakeRouter, files, process, refused, result, said, submit, told
from pictures import data_uri, noise, saved
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

PAUSES = {"a look": 2.0, "the collector": 3.0, "an answer on its way": 1.0}


class BuggyClock(VirtualClock):
    """Breaks what pauses for exactly `breaks` seconds, as often as `times` says."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks, self.times, self.broken = 0.0, 0, 0
        self.tells = True

    def now(self) -> float:
        if not self.tells:
            raise ZeroDivisionError("no program is without bugs")
        return super().now()

    async def sleep(self, seconds: float) -> None:
        if seconds == self.breaks and self.broken < self.times:
            self.broken += 1
            raise ZeroDivisionError("no program is without bugs")
        await super().sleep(seconds)


@pytest.fixture
async def clock() -> AsyncIterator[BuggyClock]:
    clock = BuggyClock()
    async with clock.passing():
        yield clock


@pytest.fixture
def router(clock: BuggyClock) -> FakeRouter:
    return FakeRouter(clock, takes=30)


@pytest.mark.parametrize("pause", PAUSES.values(), ids=PAUSES)
async def test_what_breaks_off_in_the_background_ends_neither_the_server_nor_other_jobs(
    clock: BuggyClock, router: FakeRouter, ledger: Path, videos: Path, pause: float
) -> None:
    clock.breaks, clock.times = pause, 1
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await submit(client, "@1 sleeps")
        await clock.sleep(200.5)
        listed = told(await client.call_tool("list_reference_videos"))
    assert clock.broken == 1
    assert [job["state"] for job in listed["jobs"]] == ["succeeded", "succeeded"]
    assert len(await files(videos)) == 2
    assert len(router.posts) == 2


async def test_a_wait_for_a_job_that_breaks_off_again_and_again_is_not_answered_at_once(
    clock: BuggyClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    """An agent that is answered at once asks again at once."""
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        clock.breaks, clock.times = 2.0, 10**6
        await clock.sleep(3.5)
        started = clock.steady()
        await result(client, wait_seconds=20)
        took = clock.steady() - started
        clock.times = 0
        later = await result(client, wait_seconds=45)
    assert took >= 20
    assert told(later)["state"] == "succeeded"
    assert len(await files(videos)) == 1


async def test_a_wait_in_which_following_broke_off_says_so(clock: BuggyClock, router: FakeRouter, ledger: Path) -> None:
    clock.breaks, clock.times = 2.0, 1
    async with process(router, ledger) as client:
        await submit(client)
        answer = await result(client, wait_seconds=8)
    assert answer.is_error
    assert said(answer) == (
        "Following this job broke off: a fault in this program, which is in its log. Last known state of job task-1: "
        "queued, for 8 s. It is tried again by itself: ask again in a minute."
    )


async def test_saving_that_breaks_off_gives_the_link_at_once_and_the_file_later(
    clock: BuggyClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.takes, router.file_status = 5, 404
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await clock.sleep(12.5)
        clock.breaks, clock.times = 2.0, 10**6
        await clock.sleep(30)
        started = clock.steady()
        answer = await result(client, wait_seconds=50)
        took = clock.steady() - started
        clock.times, router.file_status = 0, 200
        await clock.sleep(130.5)
    assert clock.broken
    assert not answer.is_error
    assert told(answer)["videos"][0]["url"] == "https://cdn.example/task-1.mp4"
    assert "The video could not be" in said(answer)
    assert took < 20
    assert len(await files(videos)) == 1


async def test_a_submission_that_breaks_off_is_uncertain_at_once_and_sent_no_second_time(
    clock: BuggyClock, ledger: Path
) -> None:
    """A row that stayed `submitting` would promise an answer."""

    router = FakeRouter(clock, submissions=[refused(429, "RATE_LIMIT_EXCEEDED", retry_after=7)])
    clock.breaks, clock.times = 0.5, 1  # the pauses in which the end of the process is watched for
    async with process(router, ledger) as client:
        answer = await submit(client)
        listed = told(await client.call_tool("list_reference_videos"))
        again = await submit(client)
    assert clock.steady() < 1
    assert answer.is_error
    assert said(answer).startswith("The submission broke off. The job may have been accepted and billed all the same.")
    assert [job["state"] for job in listed["jobs"]] == ["uncertain"]
    assert again.is_error
    assert len(router.posts) == 1


async def test_unfinished_jobs_are_picked_up_though_the_collector_broke_off(
    clock: BuggyClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
    async with process(router, ledger, output_dir=videos):
        clock.tells = False
        await clock.sleep(10.5)
        clock.tells = True
        await clock.sleep(120.5)
    assert len(await files(videos)) == 1


BROKEN_SERVER = """
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from refvideo_mcp import app
from refvideo_mcp.doors import http
from refvideo_mcp.settings import Settings

running = app.running

@asynccontextmanager
async def breaks(*args, **kwargs):
    async with anyio.create_task_group() as tasks, running(*args, **kwargs) as state:
        tasks.start_soon(later)
        yield state

async def later():
    await anyio.sleep(1)
    raise ZeroDivisionError

app.running = breaks
http.serve(Settings(api_key="sandbox", database=Path(sys.argv[1])), "127.0.0.1", 0, {})
"""


async def test_http_server_without_anything_behind_its_tools_ends_with_an_exit_code(tmp_path: Path) -> None:
    """It would answer 500 for ever, and nobody would start it again."""
    command = [sys.executable, "-c", BROKEN_SERVER, str(tmp_path / "ledger.db")]
    with anyio.fail_after(60):
        ended = await anyio.run_process(command, check=False)
    assert ended.returncode == 1
    assert b"ZeroDivisionError" in ended.stderr


async def test_what_was_sent_for_a_job_that_was_refused_or_lost_is_not_kept_in_memory(
    router: FakeRouter, ledger: Path
) -> None:
    """An error that is remembered holds no pictures: a thousand jobs are remembered, some with 20 MB of them."""
    picture = saved(noise(600, 600), "PNG", compress_level=0)

    async def fail(place: int) -> None:
        router.submission = (refused(400, "ILLEGAL_PROMPT"), LOST)[place % 2]
        images = [data_uri(saved(noise(600, 600 + place), "PNG", compress_level=0))]
        answer = await submit(client, f"@1 runs {place} times", subjects=[{"id": "1", "images": images}])
        assert answer.is_error
        router.posts.clear()

    async with process(router, ledger) as client:
        for place in range(2):
            await fail(place)
        gc.collect()
        tracemalloc.start()
        try:
            for place in range(2, 8):
                await fail(place)
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kept < len(picture)
