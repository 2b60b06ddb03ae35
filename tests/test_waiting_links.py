"""A link that does not open: what its host answers says nothing about time, and nobody is sent to buy again."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
import stamina
from mcp import Client
from mcp_types import CallToolResult

from fake_router import UNREACHABLE, FakeRouter, Reply, files, process, result, said, submit, told
from virtual_time import EPOCH, VirtualClock

pytestmark = pytest.mark.anyio

LINK = "https://cdn.example/task-1.mp4"
ANOTHER_LINK_AT_EACH_LOOK = "https://cdn.example/{task_id}.mp4?signed={look}"
PAGE = b"<html><form>Log in to the guest network"


@pytest.fixture(autouse=True)
def attempts_without_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
def router(clock: VirtualClock) -> FakeRouter:
    return FakeRouter(clock, takes=10)


def time_of(steady: float) -> str:
    return f"{datetime.fromtimestamp(EPOCH + steady, UTC):%Y-%m-%d %H:%M} UTC"


@pytest.mark.parametrize("at_first", [[403, 403], [404, 404], [410], [0] * 16], ids=str)
async def test_a_cdn_that_lags_is_waited_for(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path, at_first: list[int]
) -> None:
    router.file_statuses = [*at_first]
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        answer = await result(client)

    (name,) = await files(videos)
    assert told(answer)["videos"][0]["saved_to"] == str(videos / name)
    assert not answer.is_error
    assert "warnings" not in told(answer)
    assert len(router.posts) == 1
    assert clock.steady() < 30


@pytest.mark.parametrize(
    ("status", "page", "why"),
    [(status, None, f"its host answered {status}") for status in (400, 401, 403, 404, 410, 451)]
    + [
        (200, PAGE, "its link led to a web page instead of a video"),
        (200, b"", "its link led to an empty file instead of a video"),
        (0, None, "its host cannot be reached"),
    ],
)
async def test_a_link_that_does_not_open_is_handed_out_with_what_its_host_answered(
    clock: VirtualClock,
    router: FakeRouter,
    ledger: Path,
    videos: Path,
    status: int,
    page: bytes | None,
    why: str,
) -> None:
    """The user's browser may be let through where we are not, and elsewhere we are."""
    router.file_status, router.file = status, router.file if page is None else page
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        answer = await result(client)
        assert clock.steady() <= 45
        again_at = clock.steady()
        again = await result(client)
        assert clock.steady() - again_at <= 45
        listed = await client.call_tool("list_reference_videos", {})

    happened = f"The video could not be fetched yet: {why}."
    next_step = (
        "Give the user this link to open in a browser. "
        "get_task_result tries again to save it, and so does `refvideo-mcp save task-1`."
    )
    dies = f"{datetime.fromtimestamp(EPOCH + 3600, UTC):%H:%M}"
    assert said(answer).startswith(f"Done: {LINK} (the link dies about {dies[:3]}")
    assert said(answer).endswith(f"{happened} Seed 7. {next_step}")
    assert not answer.is_error
    assert (told(answer)["state"], told(answer)["videos"][0]["url"]) == ("succeeded", LINK)
    assert (told(answer)["warnings"], told(answer)["next_step"]) == ([happened], next_step)
    assert said(again).endswith(f"{happened} Seed 7. {next_step}")
    assert told(listed)["jobs"][0]["reason"] == happened
    assert "could not be fetched yet" in said(listed)
    assert "new job" not in said(answer) + said(again)
    assert len(router.posts) == 1


async def test_a_filter_that_stays_costs_ever_fewer_tries_and_no_call_its_whole_wait(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.file_status = 403
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await clock.sleep(600)
        asked_at, tried, looks = clock.steady(), len(router.fetched_at), len(router.polls)
        await result(client)
        assert clock.steady() - asked_at < 3, "one try, then the answer"
        assert (len(router.fetched_at), len(router.polls)) == (tried + 1, looks + 1)
        await clock.sleep(3000)
        pauses = [later - earlier for earlier, later in pairwise(router.fetched_at)]
        assert pauses[0] < 3
        assert max(pauses) < 331
        assert len(pauses) < 30
        router.file_status = 200
        await clock.sleep(340)
        saved = await files(videos)
        answer = await result(client)

    assert len(saved) == 1, "unasked"
    assert said(answer).startswith(f"Done: the video is saved at {videos / saved[0]}")


async def test_a_patient_call_gives_the_link_after_a_minute_of_tries(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.file_status = 403
    async with process(router, ledger, output_dir=videos, max_wait=300) as client:
        await submit(client)
        answer = await result(client, wait_seconds=300)

    assert said(answer).startswith(f"Done: {LINK}")
    assert 40 < clock.steady() < 120


async def test_a_fresh_link_is_asked_for_at_each_try(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.file_status, router.links = 403, ANOTHER_LINK_AT_EACH_LOOK
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await result(client)
        answer = await result(client)

    assert told(answer)["videos"][0]["url"] == f"{LINK}?signed={len(router.polls)}"
    assert len(router.polls) > 4


async def test_a_fresh_link_is_followed_at_once(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.file_statuses, router.links = [403], ANOTHER_LINK_AT_EACH_LOOK
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        answer = await result(client)

    assert said(answer).startswith("Done: the video is saved at")
    first, second = router.fetched_at
    assert first == second


async def test_after_a_restart_it_is_tried_again_unasked(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.file_status = 403
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await result(client)
    router.file_status = 200
    async with process(router, ledger, output_dir=videos):
        await clock.sleep(10)

    assert len(await files(videos)) == 1


async def test_a_link_past_its_stated_life_without_a_fresh_one_is_expired(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.file_status = 403
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await clock.sleep(3500)
        before = await result(client)
        await clock.sleep(600)
        answer = await result(client)
        listed = await client.call_tool("list_reference_videos", {})
    asked = len(router.polls)
    async with process(router, ledger, output_dir=videos) as client:
        await clock.sleep(600)

    assert not before.is_error
    why = f"its video expired on {time_of(3611)}, before a copy was saved"
    assert answer.is_error
    assert said(answer) == f"Job task-1 succeeded, but {why}. Seed 7. Tell the user. Only a new job makes it again."
    assert (told(answer)["state"], told(answer)["reason"], "videos" in told(answer)) == ("succeeded", why, False)
    assert told(listed)["jobs"][0]["reason"] == why
    assert len(router.polls) == asked, "nobody wants to know"


async def test_a_link_past_its_stated_life_is_not_expired_while_the_router_cannot_be_asked_for_another(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.file_status = 403
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await clock.sleep(3000)
        router.result = UNREACHABLE
        await clock.sleep(1800)
        answer = await result(client)
        router.result, router.file_status = Reply(), 200
        await clock.sleep(3)
        saved = await result(client)

    assert not answer.is_error
    assert "could not be fetched yet: its host answered 403" in said(answer)
    assert said(saved).startswith("Done: the video is saved at")


async def test_a_video_that_had_expired_is_saved_when_somebody_asks_and_it_is_there_after_all(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.file_status = 403
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await clock.sleep(4000)
        lost = await result(client)
        router.file_status = 200
        found = await result(client)

    assert lost.is_error
    assert not found.is_error
    assert len(await files(videos)) == 1


async def test_a_video_that_had_expired_is_not_when_the_router_has_a_fresh_link(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.file_status = 403
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await clock.sleep(4000)
        lost = await result(client)
        router.links = ANOTHER_LINK_AT_EACH_LOOK
        answer = await result(client)

    assert lost.is_error
    assert not answer.is_error
    assert said(answer).startswith(f"Done: {LINK}?signed=")


@pytest.mark.parametrize(
    ("status", "links"),
    [(403, ANOTHER_LINK_AT_EACH_LOOK), (0, "https://cdn.example/{task_id}.mp4"), (503, ANOTHER_LINK_AT_EACH_LOOK)],
)
async def test_a_fresh_link_or_a_host_that_says_nothing_is_no_sign_that_a_video_expired(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path, status: int, links: str
) -> None:
    router.file_status, router.links = status, links
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await clock.sleep(5 * 3600)
        answer = await result(client)

    assert not answer.is_error
    assert "could not be fetched yet" in said(answer)
    assert told(answer)["videos"][0]["expires_at"] > datetime.fromtimestamp(EPOCH + 6 * 3600 - 60, UTC).isoformat()


async def test_a_video_that_cannot_be_fetched_is_news_all_the_same(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    """Its link dies in an hour."""
    router.file_status = 403
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await clock.sleep(300)
        other = await submit(client, prompt="@1 sleeps")

    assert said(other).endswith("Since you last looked, 1 more video finished: task-1.")


async def test_a_link_into_a_private_network_is_given_and_not_followed(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.links = "http://192.168.1.1/{task_id}.mp4"
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        answer = await result(client)

    assert said(answer).startswith("Done: http://192.168.1.1/task-1.mp4")
    assert "its link leads to 192.168.1.1, which is no public host" in said(answer)
    assert router.fetched_at == []


async def test_a_wait_that_ends_while_the_video_is_being_saved_says_so(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.file_after = 120
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        answer = await result(client)
        assert clock.steady() == 45
        saved = await result(client, wait_seconds=50)
        await clock.sleep(60)
        saved = await result(client)

    next_step = "Seed 7. Call get_task_result again: it waits for the file. Until then the link works, too."
    assert said(answer).endswith(f"It is being saved just now. {next_step}")
    assert told(answer)["videos"][0]["url"] == LINK
    assert said(saved).startswith("Done: the video is saved at")
    assert len(router.fetched_at) == 1


async def test_whoever_waits_for_another_window_that_saves_the_video_is_told(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.file_after = 120
    answers: list[CallToolResult] = []
    async with process(router, ledger, output_dir=videos) as one, process(router, ledger, output_dir=videos) as other:
        await submit(one)
        await clock.sleep(20)
        async with anyio.create_task_group() as tasks:

            async def wait(client: Client) -> None:
                answers.append(await result(client))

            tasks.start_soon(partial(wait, other))
        await clock.sleep(100)
        saved = await result(other)

    assert "Another window is saving it just now." in said(answers[0])
    assert said(saved).startswith("Done: the video is saved at")
    assert (len(router.fetched_at), len(await files(videos))) == (1, 1)


async def test_a_video_whose_saver_was_killed_is_saved_by_another_window_within_half_a_minute(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    async with process(router, ledger) as client:
        await submit(client)
        await result(client)
        with closing(sqlite3.connect(ledger)) as database, database:
            database.execute("UPDATE refvideo_jobs SET saving_until = ?", [clock.now() + 30])
    async with process(router, ledger, output_dir=videos) as client:
        started = clock.steady()
        answer = await result(client)

    assert said(answer).startswith("Done: the video is saved at")
    assert clock.steady() - started < 35
