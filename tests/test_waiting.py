"""Waiting costs one poller however many wait, always ends, and never loses a job."""

import sqlite3
from contextlib import closing
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest
from mcp import Client
from mcp_types import CallToolResult

from fake_router import (
    UNREACHABLE,
    FakeRouter,
    Reply,
    cancel,
    files,
    jobs,
    process,
    refused,
    result,
    said,
    submit,
    told,
)
from marker import KEY
from refvideo_mcp.app import running
from refvideo_mcp.errors import JobFailed
from refvideo_mcp.settings import Settings
from virtual_time import EPOCH, VirtualClock

pytestmark = pytest.mark.anyio

BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])


async def test_the_first_look_is_2_seconds_after_submission_and_the_pace_slows_down_to_10(
    router: FakeRouter, ledger: Path
) -> None:
    router.takes = 90
    async with process(router, ledger, max_wait=300) as client:
        await submit(client)
        await result(client, wait_seconds=300)

    looks = router.polled("task-1")
    assert looks[0] == 2
    pauses = [later - earlier for earlier, later in pairwise(looks)]
    expected = [2, 2.6, 3.38, 4.39, 5.71, 7.43, 9.65, *[10] * 10]
    assert pauses == [pytest.approx(pause, rel=0.11) for pause in expected[: len(pauses)]]
    assert len(set(pauses)) == len(pauses), "jitter"


async def test_twenty_waits_for_one_job_are_one_poller(router: FakeRouter, ledger: Path) -> None:
    answers: list[CallToolResult] = []

    async def wait(client: Client) -> None:
        answers.append(await result(client, wait_seconds=300))

    async with process(router, ledger, max_wait=300) as client, anyio.create_task_group() as tasks:
        await submit(client)
        for _ in range(20):
            tasks.start_soon(wait, client)

    assert [told(answer)["state"] for answer in answers] == ["succeeded"] * 20
    assert all(later - earlier >= 1.8 for earlier, later in pairwise(router.polled("task-1")))
    assert len(router.polls) <= 12


async def test_twenty_waits_for_a_job_that_is_new_here_are_one_poller(router: FakeRouter, ledger: Path) -> None:
    router.accepted["task-of-another-program"] = 0

    async with process(router, ledger) as client, anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(result, client, "task-of-another-program")

    assert all(later - earlier >= 1.8 for earlier, later in pairwise(router.polled("task-of-another-program")))


@pytest.mark.parametrize("whose", ["ours", "another program's"])
async def test_two_processes_share_one_pace(clock: VirtualClock, router: FakeRouter, ledger: Path, whose: str) -> None:
    router.takes = 3600
    async with process(router, ledger, max_wait=300) as one, process(router, ledger, max_wait=300) as other:
        if whose == "ours":
            await submit(one)
        else:
            router.accepted["task-1"] = 0
        async with anyio.create_task_group() as tasks:
            for client in (one, other):
                tasks.start_soon(partial(result, client, wait_seconds=300))

    alone = 7 + 270 / 10
    assert len(router.polls) < alone * 1.3
    known_from = 0 if whose == "ours" else 1  # each has to ask once before it knows that there is such a job
    assert all(later - earlier >= 1.4 for earlier, later in pairwise(router.polled("task-1")[known_from:]))


async def test_both_processes_learn_what_one_of_them_was_told(router: FakeRouter, ledger: Path, videos: Path) -> None:
    answers: list[CallToolResult] = []

    async def wait(client: Client) -> None:
        answers.append(await result(client, wait_seconds=300))

    settings: dict[str, Any] = {"max_wait": 300, "output_dir": videos}
    async with process(router, ledger, **settings) as one, process(router, ledger, **settings) as other:
        await submit(one)
        async with anyio.create_task_group() as tasks:
            for client in (one, other):
                tasks.start_soon(wait, client)

    (name,) = await files(videos)
    assert [told(answer)["videos"][0]["saved_to"] for answer in answers] == [str(videos / name)] * 2


async def test_retry_after_is_respected_whoever_asks_meanwhile(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.results = [refused(429, "RATE_LIMIT_EXCEEDED", retry_after=20)]
    async with process(router, ledger) as client:
        await submit(client)
        impatient = await result(client, wait_seconds=8)
        answer = await result(client)

    assert impatient.is_error
    assert router.polled("task-1")[:2] == [2, 22]
    assert told(answer)["state"] == "processing"


@pytest.mark.parametrize(("eta", "second_look"), [(15, 17), (600, 32)])
async def test_the_routers_own_guess_is_respected_up_to_half_a_minute(
    router: FakeRouter, ledger: Path, eta: int, second_look: float
) -> None:
    router.task = {"eta": eta}
    async with process(router, ledger) as client:
        await submit(client)
        await result(client)

    assert router.polled("task-1")[:2] == [2, second_look]


async def test_somebody_who_asks_again_gets_a_fresh_look_at_once(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 3600
    async with process(router, ledger) as client:
        await submit(client)
        await result(client, wait_seconds=40)
        await clock.sleep(10)
        while clock.steady() - router.polls[-1][0] < 3:
            await clock.sleep(1)
        before = len(router.polls)
        asked_at = clock.steady()
        answer = await result(client, wait_seconds=0)
        assert clock.steady() == asked_at
        once_more = await result(client, wait_seconds=0)

    assert told(answer)["state"] == told(once_more)["state"] == "processing"
    assert len(router.polls) == before + 1, "the second answer is fresh enough"


@pytest.mark.parametrize(
    "trouble",
    [
        UNREACHABLE,
        Reply(500, "oops"),
        Reply(503, "<html>"),
        Reply(200, {"message": "server overload"}),
        refused(429, "RATE_LIMIT_EXCEEDED"),
        refused(500, "GET_RESULT_FAILED"),
    ],
)
async def test_transient_trouble_is_waited_out(router: FakeRouter, ledger: Path, trouble: Reply) -> None:
    router.takes = 10
    router.results = [trouble] * 4
    async with process(router, ledger) as client:
        await submit(client)
        answer = await result(client)

    assert told(answer)["state"] == "succeeded"


@BOTH_ERAS
async def test_a_router_out_of_reach_for_the_whole_wait_is_an_error_with_the_last_known_state(
    clock: VirtualClock, router: FakeRouter, ledger: Path, mode: str
) -> None:
    async with process(router, ledger, mode=mode) as client:
        await submit(client)
        await result(client, wait_seconds=5)
        router.result = UNREACHABLE
        await clock.sleep(10 - clock.steady())
        answer = await result(client)
        assert clock.steady() == 55
        router.result = Reply()
        recovered = await result(client)

    assert answer.is_error
    assert said(answer) == (
        "No answer from api.myrouter.ai (the connection broke). Last known state of job task-1: processing, for 53 s. "
        "The job is not affected: ask again in a minute."
    )
    assert told(recovered)["state"] == "succeeded"


@pytest.mark.parametrize("reason", ["INVALID_API_KEY", "API_NOT_ALLOWED"])
async def test_a_router_that_refuses_the_question_ends_the_wait_at_once(
    clock: VirtualClock, router: FakeRouter, ledger: Path, reason: str
) -> None:
    async with process(router, ledger) as client:
        await submit(client)
        router.result = refused(403, reason)
        answer = await result(client)
        assert clock.steady() == 2
        router.result = Reply()
        mended = await result(client, wait_seconds=300)

    assert answer.is_error
    assert said(answer).startswith(f"api.myrouter.ai answered 403 {reason}")
    assert not mended.is_error


async def test_task_not_found_never_ends_a_job_that_we_know(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger) as client:
        await submit(client)
        router.result = refused(404, "TASK_NOT_FOUND")
        answer = await result(client)
        assert clock.steady() == 45
        router.result = Reply()
        found = await result(client)

    assert answer.is_error
    assert said(answer) == (
        'api.myrouter.ai does not know the task task-1: "trace_id: 0123abcd". '
        "Last known state of job task-1: queued, for 45 s. "
        "Was it submitted with another key? The job itself may go on."
    )
    assert told(found)["state"] == "succeeded"


@BOTH_ERAS
async def test_an_unknown_task_id_is_answered_with_the_three_newest_ones(
    router: FakeRouter, ledger: Path, mode: str
) -> None:
    async with process(router, ledger, mode=mode) as client:
        nothing_yet = await result(client, "task-9")
        for scene in range(4):
            await submit(client, f"@1 in scene {scene}")
            await router.clock.sleep(1)
        answer = await result(client, "task-9")

    assert nothing_yet.is_error
    assert said(nothing_yet) == (
        "api.myrouter.ai does not know the task task-9. "
        "No job is known here. A job is visible only to the key that submitted it."
    )
    assert answer.is_error
    assert said(answer) == (
        "api.myrouter.ai does not know the task task-9. The newest jobs here: task-4, task-3, task-2. "
        "A job is visible only to the key that submitted it."
    )


async def test_an_unknown_task_id_is_not_asked_for_any_longer(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger) as client:
        await result(client, "no-such-task")
        asked = len(router.polls)
        await clock.sleep(600)

    assert len(router.polls) == asked


async def test_a_job_of_another_account_is_not_found_and_the_router_is_not_asked(
    router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger, base_url="https://gateway.example") as client:
        await submit(client)
        await result(client, wait_seconds=5)
    asked = len(router.polls)
    async with process(router, ledger) as client:
        answer = await result(client)

    assert answer.is_error
    assert said(answer) == (
        "api.myrouter.ai does not know the task task-1. "
        "No job is known here. A job is visible only to the key that submitted it."
    )
    assert len(router.polls) == asked


async def test_a_job_of_another_program_is_adopted(router: FakeRouter, ledger: Path, videos: Path) -> None:
    router.accepted["task-of-another-program"] = 0
    async with process(router, ledger, output_dir=videos, max_wait=300) as client:
        answer = await result(client, "task-of-another-program", wait_seconds=300)
        listed = await jobs(client)

    assert told(answer)["state"] == "succeeded"
    assert [(job["task_id"], job["state"]) for job in told(listed)["jobs"]] == [
        ("task-of-another-program", "succeeded")
    ]
    assert len(await files(videos)) == 1


@BOTH_ERAS
async def test_progress_grows_and_comes_at_least_every_5_seconds(
    clock: VirtualClock, router: FakeRouter, ledger: Path, mode: str
) -> None:
    router.task = {"progress_percent": 40}
    router.takes = 3600
    steps: list[tuple[float, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert progress == pytest.approx(clock.steady(), abs=0.1)
        assert total is None
        steps.append((progress, message))

    async with process(router, ledger, mode=mode) as client:
        await submit(client)
        arguments = {"task_id": "task-1", "wait_seconds": 45}
        await client.call_tool("get_task_result", arguments, progress_callback=on_progress)

    values = [progress for progress, _ in steps]
    assert all(0 < later - earlier <= 5.1 for earlier, later in pairwise([0.0, *values, 45.0]) if later != earlier)
    assert values == sorted(set(values))
    assert values[-1] >= 40
    assert {message for _, message in steps} == {"processing, 40 %"}


@BOTH_ERAS
@pytest.mark.parametrize(
    ("name", "settings", "seconds"),
    [
        ("an agent", {}, 50),
        ("claude-code", {}, 300),
        ("Claude-Code", {}, 300),
        ("an agent", {"max_wait": 120}, 120),
        ("claude-code", {"max_wait": 20}, 20),
    ],
)
async def test_a_wait_is_as_long_as_the_client_allows(
    clock: VirtualClock, router: FakeRouter, ledger: Path, mode: str, name: str, settings: dict[str, Any], seconds: int
) -> None:
    """Most clients drop a call after 60 s, and its answer with it."""
    router.takes = 3600
    async with process(router, ledger, mode=mode, name=name, **settings) as client:
        await submit(client)
        answer = await result(client, wait_seconds=300)

    assert clock.steady() == seconds
    assert not answer.is_error


async def test_whoever_buys_goes_on_with_the_unfinished_jobs_of_processes_that_ended(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    async with process(router, ledger, output_dir=videos) as client:
        await clock.sleep(10)
        async with process(router, ledger) as ended:
            await submit(ended)
        await clock.sleep(10)
        await submit(client, "@1 sleeps")
        await clock.sleep(120)
        assert len(await files(videos)) == 2


async def test_a_video_is_saved_where_its_call_wanted_it(router: FakeRouter, ledger: Path, videos: Path) -> None:
    wanted = videos / "mine" / "cat.mp4"
    async with process(router, ledger, output_dir=videos, max_wait=300) as client:
        await submit(client, save_to=str(wanted))
        answer = await result(client, wait_seconds=300)

    assert told(answer)["videos"][0]["saved_to"] == str(wanted)
    assert await anyio.Path(wanted).is_file()


async def test_a_failed_job_has_no_video_to_save(clock: VirtualClock, router: FakeRouter, ledger: Path) -> None:
    router.takes, router.fails = 1, {"task-1": "INTERNAL"}
    async with process(router, ledger) as client:
        await submit(client)
        await clock.sleep(5)
    settings = Settings(api_key=KEY, database=ledger)
    async with running(settings, transport=router.transport, clock=clock) as state:
        with pytest.raises(JobFailed, match='Job task-1 failed: "INTERNAL"'):
            await state.account.save("task-1")


async def test_a_copy_whose_caller_gives_up_as_it_gets_its_name_is_in_the_ledger(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or there would be a file that nobody knows of."""
    router.takes = 1
    async with process(router, ledger) as client:
        await submit(client)
        await clock.sleep(5)
    scope, replace = anyio.CancelScope(), Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        published = replace(path, target)
        if published.suffix == ".mp4":
            anyio.from_thread.run_sync(scope.cancel)
        return published

    monkeypatch.setattr(Path, "replace", interrupted)
    settings = Settings(api_key=KEY, database=ledger, output_dir=videos)
    async with running(settings, transport=router.transport, clock=clock) as state:
        with scope:
            await state.account.save("task-1")
        (job,) = await state.account.newest(1)

    (name,) = await files(videos)
    assert scope.cancel_called
    assert job.saved_to == str(videos / name)


async def test_a_finished_job_is_not_asked_for_again_while_its_file_is_there(
    router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.takes = 10
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        first = await result(client)
        asked = len(router.polls)
        again = await result(client)

    assert said(again) == said(first)
    assert len(router.polls) == asked


async def test_a_file_that_was_deleted_is_fetched_again_on_demand(
    router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.takes = 10
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        first = await result(client)
        saved = anyio.Path(told(first)["videos"][0]["saved_to"])
        await saved.unlink()
        again = await result(client)
        assert await saved.exists()

    assert said(again) == said(first)


async def test_a_copy_that_was_made_elsewhere_in_place_of_a_deleted_file_is_told_and_not_made_again(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.takes = 10
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        first = await result(client)
        await anyio.Path(told(first)["videos"][0]["saved_to"]).unlink()
        settings = Settings(api_key=KEY, database=ledger, output_dir=videos)
        async with running(settings, transport=router.transport, clock=clock) as state:
            copy = await state.account.save("task-1", str(videos / "cat.mp4"))
        again = await result(client)

    assert told(again)["videos"][0]["saved_to"] == copy.saved_to == str(videos / "cat.mp4")
    assert await files(videos) == ["cat.mp4"]


async def test_a_finished_job_is_told_from_memory_for_two_seconds(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """Whoever asks again and again costs the ledger nothing; what other processes wrote shows two seconds later."""
    router.takes = 10

    def places(answer: CallToolResult) -> list[str | None]:
        return [video.get("saved_to") for video in told(answer)["videos"]]

    async with process(router, ledger) as client:
        await submit(client)
        await result(client)
        await clock.sleep(1)  # until it is written down that the agent knows
        await result(client)
        with closing(sqlite3.connect(ledger)) as other, other:
            other.execute("UPDATE refvideo_jobs SET saved_to = '/elsewhere.mp4'")
        await clock.sleep(1.9)
        soon = await result(client)
        await clock.sleep(0.2)
        later = await result(client)

    assert (places(soon), places(later)) == ([None], ["/elsewhere.mp4"])


async def test_what_another_process_finished_is_told_two_seconds_later_at_most(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 1
    async with process(router, ledger) as client, process(router, ledger) as other:
        await submit(other)
        await clock.sleep(0.5)
        news = [await jobs(client, state="failed")]
        for seconds in (1.9, 0.2):
            await clock.sleep(seconds)
            news.append(await jobs(client, state="failed"))

    assert ["1 more video finished: task-1." in said(answer) for answer in news] == [False, False, True]


async def test_a_video_that_is_told_in_the_answer_is_no_news(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 10
    router.submissions = [Reply(after=11)]
    async with process(router, ledger) as client:
        await submit(client)
        await clock.sleep(60)
        repeated = await submit(client)

    assert said(repeated).startswith("Done: https://cdn.example/task-1.mp4")
    assert "Since" not in said(repeated)


async def test_a_video_that_a_wait_brought_is_no_news_to_any_window(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 10
    async with process(router, ledger) as client, process(router, ledger) as another:
        await submit(client)
        answer = await result(client)
        await clock.sleep(1)
        listed = await jobs(another, state="failed")

    assert told(answer)["state"] == "succeeded"
    assert "Since" not in said(answer)
    assert "Since" not in said(listed)


async def test_a_video_whose_answer_a_cancel_crossed_is_news_in_the_next_one(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 10
    async with process(router, ledger, mode="legacy") as client:
        await submit(client)
        await clock.sleep(60)
        answer = await result(client)
        await cancel(client, 4)  # after the handshake, the call and a list of the tools
        await clock.sleep(2)
        listed = await jobs(client, state="failed")

    assert told(answer)["state"] == "succeeded"
    assert "Since you last looked, 1 more video finished: task-1." in said(listed)


async def test_a_video_is_no_news_in_the_answer_that_brings_it_though_the_ledger_cannot_note_that(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 10
    async with process(router, ledger) as client:
        await submit(client)
        await clock.sleep(60)
        with closing(sqlite3.connect(ledger)) as database:
            refuse = "BEGIN SELECT RAISE(FAIL, 'no'); END"
            database.execute(f"CREATE TRIGGER no_update BEFORE UPDATE OF delivered ON refvideo_jobs {refuse}")
        answer = await result(client)

    assert said(answer).startswith("Done: https://cdn.example/task-1.mp4")
    assert "Since" not in said(answer)


async def test_a_list_that_leaves_a_finished_video_out_tells_it_as_news(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 10
    async with process(router, ledger) as client:
        await submit(client)
        await clock.sleep(60)
        failed = await jobs(client, state="failed")
        everything = await jobs(client)

    tomorrow = f"{datetime.fromtimestamp(EPOCH + 24 * 3600).astimezone():%Y-%m-%d %H:%M %Z}"
    assert said(failed) == (
        "No job is failed. Of the newest: 1 succeeded.\n"
        f"Allowance: 295 of 300 s of video left in these 24 hours; more from {tomorrow} on.\n"
        "get_task_result with a task_id gives the link of a video without a file. "
        "Since you last looked, 1 more video finished: task-1."
    )
    assert "Since" not in said(everything)


async def test_a_submission_that_was_never_answered_is_listed_as_uncertain(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=3600)]
    async with (
        process(router, ledger) as killed,
        process(router, ledger) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(submit, killed)
        await clock.sleep(60)
        before = [await jobs(client, state="submitting"), await jobs(client, state="uncertain")]
        await clock.sleep(61)
        after = [await jobs(client, state="submitting"), await jobs(client, state="uncertain")]
        tasks.cancel_scope.cancel()

    assert [len(told(answer)["jobs"]) for answer in before] == [1, 0]
    assert [len(told(answer)["jobs"]) for answer in after] == [0, 1]
