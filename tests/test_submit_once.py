"""A job is never paid for twice, whatever breaks between the call and its answer."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from mcp.client import ClientRequestContext
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult

from fake_router import CAT, LOST, FakeRouter, Reply, at_once, cancel, process, refused, result, said, submit, told
from marker import KEY as API_KEY
from refvideo_mcp.app import running
from refvideo_mcp.errors import Refused
from refvideo_mcp.jobs import Caller, Clock, Order
from refvideo_mcp.jobs import submit as submitting
from refvideo_mcp.ledger import Job, Ledger
from refvideo_mcp.schemas import ReferenceVideoRequest
from refvideo_mcp.settings import Settings
from refvideo_mcp.tools import spec_tool
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

KEY = "order-2026-11-23-0007"
FIRST_CALL = 2  # the id of its request, where the handshake was the first
BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])

Answers = list[CallToolResult]


async def give_up(clock: VirtualClock, seconds: float, call: Callable[[], Any]) -> None:
    """Begin a call and cancel it after some seconds, in which it is not answered."""
    answers = []

    async def wait() -> None:
        answers.append(await call())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await clock.sleep(seconds)
        tasks.cancel_scope.cancel()
    assert answers == []


def key_in(answer: CallToolResult) -> str:
    found = re.search(r"job-[0-9a-f]{32}", said(answer))
    assert found
    return found[0]


@BOTH_ERAS
async def test_a_call_is_one_job(router: FakeRouter, ledger: Path, mode: str) -> None:
    async with process(router, ledger, mode=mode) as client:
        answer = await submit(client)

    next_step = 'Call get_task_result with task_id "task-1": it waits. Do not submit again for this video. '
    left = "Allowance: 295 of 300 s of video left in these 24 hours."
    assert said(answer) == f"Job task-1 is queued. A video takes 0.5-5 minutes. {next_step}{left}"
    assert told(answer) == {"task_id": "task-1", "state": "queued", "next_step": next_step + left}
    assert not answer.is_error
    sent = {"id": "1", "images": ["https://pictures.example/cat.png"]}
    assert router.posts == [{"prompt": "@1 runs", "subjects": [sent], "duration": 5}]


@pytest.mark.parametrize(("seconds", "jobs"), [(4.5, 2), (5.5, 1)])
async def test_an_identical_call_begun_within_5_seconds_of_one_that_waits_is_another_take(
    clock: VirtualClock, router: FakeRouter, ledger: Path, seconds: float, jobs: int
) -> None:
    router.submission = Reply(after=20)
    async with process(router, ledger) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(submit, client)
        await clock.sleep(seconds)
        await submit(client)
    assert len(router.posts) == jobs


@pytest.mark.parametrize("same_process", [True, False])
async def test_four_takes_asked_for_again_after_a_lost_connection_are_the_same_four(
    clock: VirtualClock, router: FakeRouter, ledger: Path, same_process: bool
) -> None:
    router.submission = Reply(after=5)
    async with process(router, ledger) as client, process(router, ledger) as next_process:
        await give_up(clock, 3, lambda: at_once(4, client))
        await clock.sleep(10)
        answers = await at_once(4, client if same_process else next_process)

    assert {told(answer)["task_id"] for answer in answers} == {"task-1", "task-2", "task-3", "task-4"}
    assert len(router.posts) == 4


async def test_takes_that_nobody_was_told_of_come_back_in_the_order_they_were_made(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submission = Reply(after=11)
    async with process(router, ledger) as client:
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(submit, client)
                await clock.sleep(1)
            tasks.cancel_scope.cancel()
        await clock.sleep(20)
        answers = [await submit(client) for _ in range(2)]

    assert [told(answer)["task_id"] for answer in answers] == ["task-1", "task-2"]


@BOTH_ERAS
async def test_a_call_cancelled_at_30_seconds_and_answered_at_31_is_found_by_the_call_repeated_at_35(
    clock: VirtualClock, router: FakeRouter, ledger: Path, mode: str
) -> None:
    router.submissions = [Reply(after=31)]
    async with process(router, ledger, mode=mode) as client:
        await give_up(clock, 30, lambda: submit(client))
        await clock.sleep(5)
        again = await submit(client)

    assert told(again)["task_id"] == "task-1"
    assert len(router.posts) == 1


async def test_a_call_cancelled_after_3_seconds_is_not_delivered_however_quick_the_router_is(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=4)]
    async with process(router, ledger) as client:
        await give_up(clock, 3, lambda: submit(client))
        await clock.sleep(5)
        again = await submit(client)

    assert told(again)["task_id"] == "task-1"
    assert len(router.posts) == 1


@pytest.mark.parametrize("same_process", [True, False])
@pytest.mark.parametrize("answered_after", [35, 60])
async def test_a_connection_lost_at_30_seconds_without_a_word_does_not_matter_to_the_call_repeated_at_41(
    clock: VirtualClock, router: FakeRouter, ledger: Path, same_process: bool, answered_after: float
) -> None:
    router.submissions = [Reply(after=answered_after)]
    async with (
        process(router, ledger) as client,
        process(router, ledger) as next_process,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(submit, client)  # the server goes on answering, and nobody listens
        await clock.sleep(41)
        again = await submit(client if same_process else next_process)

    assert told(again)["task_id"] == "task-1"
    assert len(router.posts) == 1


async def test_a_process_killed_at_3_seconds_leaves_its_job_to_the_next_one_at_6(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=3600)]
    async with process(router, ledger) as killed, process(router, ledger) as next_process:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(submit, killed)  # what it would have learned, it never learns
            await clock.sleep(6)
            again = await submit(next_process)
            key = told(again)["idempotency_key"]
            assert told(again)["state"] == "submitting"
            await clock.sleep(120)
            end = await result(next_process, key)
            once_more = await submit(next_process)
            tasks.cancel_scope.cancel()

        assert end.is_error
        assert said(end) == (
            "The answer to this submission never arrived. The job may have been accepted and billed all the same. "
            f"(Job {key}.) Do not submit again for this video. Tell the user, and ask them to look for the job in the "
            "console of api.myrouter.ai before anything else is made."
        )
        assert once_more.is_error
        assert len(router.posts) == 1


async def test_a_submission_left_behind_is_uncertain_after_its_120_seconds_though_the_clock_was_set_back(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=3600)]
    async with process(router, ledger) as killed, anyio.create_task_group() as tasks:
        tasks.start_soon(submit, killed)
        await clock.sleep(6)
        clock.set_by -= 30 * 24 * 3600
        async with process(router, ledger) as next_process:
            again = await submit(next_process)
            await clock.sleep(120)
            too_early = await submit(next_process)
            await clock.sleep(600)
            answer = await submit(next_process)
        tasks.cancel_scope.cancel()

    assert told(again)["state"] == "submitting"
    assert "its answer was lost" in said(too_early)
    assert told(answer)["task_id"] == "task-2"
    assert len(told(answer)["warnings"]) == 1


async def test_a_released_job_that_is_found_after_all_keeps_its_idempotency_key(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=150)]
    async with process(router, ledger) as client, process(router, ledger) as another:
        await submit(client, idempotency_key=KEY)
        await clock.sleep(80)
        await result(another, KEY)  # sees that the time is over
        with closing(Ledger(ledger)) as command:
            (job,) = command.by_key_or_id(KEY)
            command.release(job.id)
        await clock.sleep(30)
        again = await submit(another, idempotency_key=KEY)

    assert told(again)["task_id"] == "task-1"
    assert len(router.posts) == 1


async def test_another_idempotency_key_is_another_task_though_nobody_was_told_of_the_first(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger) as client:
        router.submission = Reply(after=20)
        await give_up(clock, 3, lambda: submit(client, idempotency_key=KEY))
        await clock.sleep(20)
        answer = await submit(client, idempotency_key=f"{KEY}-b")

    assert told(answer)["task_id"] == "task-2"


async def test_another_idempotency_key_is_another_task(router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger) as client:
        await submit(client, idempotency_key=KEY)
        answer = await submit(client, idempotency_key=f"{KEY}-b")

    assert told(answer)["task_id"] == "task-2"


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"prompt": "@1 sleeps"}, "prompt"),
        ({"seed": 7, "duration": 6}, "duration, seed"),
        ({"subjects": [{"images": "https://pictures.example/dog.png"}]}, "subjects"),
        ({"save_to": "elsewhere.mp4"}, "save_to"),
    ],
)
async def test_the_same_idempotency_key_with_other_arguments_is_refused_and_names_what_differs(
    router: FakeRouter, ledger: Path, other: dict[str, Any], difference: str
) -> None:
    async with process(router, ledger, output_dir=ledger.parent / "videos") as client:
        await submit(client, idempotency_key=KEY)
        answer = await submit(client, idempotency_key=KEY, **other)

    assert answer.is_error
    assert said(answer) == (
        f"The idempotency_key was used for another job (task-1), which differs in: {difference}. "
        "Use a new key for a new job. Nothing was sent or bought."
    )
    assert len(router.posts) == 1


async def test_an_argument_that_is_left_out_the_second_time_is_a_difference_too(
    router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger) as client:
        await submit(client, idempotency_key=KEY, seed=7)
        answer = await submit(client, idempotency_key=KEY)

    assert "(task-1), which differs in: seed." in said(answer)
    assert len(router.posts) == 1


async def test_a_rejected_job_gives_up_its_idempotency_key(router: FakeRouter, ledger: Path) -> None:
    router.submissions = [refused(400, "ILLEGAL_PROMPT")]
    async with process(router, ledger) as client:
        first = await submit(client, prompt="@1 swears", idempotency_key=KEY)
        second = await submit(client, idempotency_key=KEY)

    assert first.is_error
    assert said(first) == (
        'api.myrouter.ai answered 400 ILLEGAL_PROMPT: "trace_id: 0123abcd". Nothing was bought. '
        "The content rules refused the prompt: reword it, then try again."
    )
    assert told(second)["task_id"] == "task-2"
    assert "already" not in said(second)


async def test_an_idempotency_key_is_remembered_for_24_hours(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 1
    async with process(router, ledger) as client:
        await submit(client, idempotency_key=KEY)
        await result(client, "task-1")
        await clock.sleep(24 * 3600 - 60)
        before = await submit(client, idempotency_key=KEY)
        await clock.sleep(60)
        after = await submit(client, idempotency_key=KEY)

    assert told(before)["task_id"] == "task-1"
    assert told(after)["task_id"] == "task-2"


async def test_a_job_whose_task_id_was_told_within_10_seconds_is_delivered(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=9)]
    async with process(router, ledger) as client:
        await submit(client)
        await clock.sleep(10)
        another_take = await submit(client)

    assert told(another_take)["task_id"] == "task-2"


async def test_a_job_whose_task_id_was_told_later_may_not_have_reached_anybody(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=11)]
    async with process(router, ledger) as client:
        await submit(client)
        await clock.sleep(10)
        again = await submit(client)
        await clock.sleep(10)
        another_take = await submit(client)

    assert told(again)["task_id"] == "task-1"
    assert told(another_take)["task_id"] == "task-2", "the repeated call was answered at once"


async def test_a_job_that_nobody_was_told_of_is_joined_for_10_minutes(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submission = Reply(after=11)
    async with process(router, ledger) as client:
        await submit(client)
        await clock.sleep(600)
        answer = await submit(client)

    assert told(answer)["task_id"] == "task-2"


@pytest.mark.parametrize("by_key", [True, False])
async def test_a_job_is_delivered_once_its_task_id_or_key_comes_back(
    clock: VirtualClock, router: FakeRouter, ledger: Path, by_key: bool
) -> None:
    router.submissions = [Reply(after=50)]
    async with process(router, ledger) as client:
        first = await submit(client)
        await clock.sleep(10)
        await result(client, told(first)["idempotency_key"] if by_key else "task-1", wait_seconds=5)
        another_take = await submit(client)

    assert told(another_take)["task_id"] == "task-2"


async def test_a_repeated_idempotency_key_delivers_its_job(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=60)]
    async with process(router, ledger) as client:
        await submit(client, idempotency_key=KEY)
        await submit(client, idempotency_key=KEY)
        another_take = await submit(client)

    assert told(another_take)["task_id"] == "task-2"


@BOTH_ERAS
async def test_a_job_identical_to_an_uncertain_one_is_refused_whatever_its_key(
    router: FakeRouter, ledger: Path, mode: str
) -> None:
    router.submissions = [LOST]
    async with process(router, ledger, mode=mode) as client, process(router, ledger, mode=mode) as another:
        key = key_in(await submit(client))
        answers = [
            await submit(client),
            await submit(client, idempotency_key=KEY),
            await submit(another),
            *await at_once(2, another),
        ]

    for answer in answers:
        assert answer.is_error
        assert said(answer) == (
            f"An identical job ({key}) was sent minutes ago and its answer was lost: it may exist and be billed. "
            "This call sent nothing. Do not submit again for this video. Tell the user, and ask them to look for the "
            "job in the console of api.myrouter.ai before anything else is made."
        )
    assert len(router.posts) == 1


async def test_the_key_of_an_uncertain_job_stays_its_own(clock: VirtualClock, router: FakeRouter, ledger: Path) -> None:
    router.submissions = [LOST]
    async with process(router, ledger) as client:
        first = await submit(client, idempotency_key=KEY)
        await clock.sleep(3600)
        again = await submit(client, idempotency_key=KEY)

    assert said(first) == said(again)
    assert f"(Job {KEY}.)" in said(again)
    assert len(router.posts) == 1


@BOTH_ERAS
async def test_the_next_scene_with_the_same_characters_is_accepted_with_a_warning(
    router: FakeRouter, ledger: Path, mode: str
) -> None:
    router.submissions = [LOST]
    async with process(router, ledger, mode=mode) as client:
        key = key_in(await submit(client, prompt="@1 wakes up"))
        answer = await submit(client, prompt="@1 runs, and the camera follows @nobody")

    warning = f"A job with the same pictures may exist already, its answer was lost: {key}."
    assert told(answer)["task_id"] == "task-2"
    assert told(answer)["warnings"][0] == warning, "before the advice on the prompt"
    assert f"Note: {warning} " in said(answer)
    assert len(router.posts) == 2


async def test_of_many_uncertain_jobs_with_the_same_pictures_the_three_newest_are_named(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [LOST] * 4
    lost = []
    async with process(router, ledger) as client:
        for number in range(4):
            lost.append(key_in(await submit(client, f"@1 runs {number}")))
            await clock.sleep(1)
        (warning,) = told(await submit(client, "@1 sleeps"))["warnings"]

    assert re.findall(r"job-[0-9a-f]{32}", warning) == lost[:0:-1]


async def test_other_characters_are_accepted_without_a_warning(router: FakeRouter, ledger: Path) -> None:
    router.submissions = [LOST]
    async with process(router, ledger) as client:
        await submit(client)
        answer = await submit(client, subjects=[{"images": "https://pictures.example/dog.png"}])

    assert "warnings" not in told(answer)


async def test_ten_minutes_later_the_identical_job_is_accepted_with_a_warning(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """Later than its answer was lost, not than it was sent."""
    router.submissions = [replace(LOST, after=30)]
    async with process(router, ledger) as client:
        key = key_in(await submit(client))
        await clock.sleep(599)
        too_early = await submit(client)
        await clock.sleep(1)
        answer = await submit(client)

    assert too_early.is_error
    assert told(answer)["task_id"] == "task-2"
    assert told(answer)["warnings"] == [f"A job with the same pictures may exist already, its answer was lost: {key}."]


class User:
    """Somebody who is asked. `answer` None = nobody looks."""

    def __init__(self, answer: ElicitResult | None) -> None:
        self.answer = answer
        self.questions: list[str] = []

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        self.questions.append(params.message)
        if self.answer is None:
            await anyio.sleep_forever()
        assert self.answer is not None
        return self.answer


YES = ElicitResult(action="accept", content={"send_again": True})


@BOTH_ERAS
async def test_the_user_may_release_an_uncertain_job(router: FakeRouter, ledger: Path, mode: str) -> None:
    router.submissions = [LOST]
    user = User(YES)
    async with process(router, ledger, mode=mode, elicitation_callback=user) as client:
        key = key_in(await submit(client, idempotency_key="job-" + "0" * 32))
        answer = await submit(client, idempotency_key=key)
        another_take = await submit(client)
        listed = await client.call_tool("list_reference_videos", {"state": "uncertain"})

    assert user.questions == [
        f"This job was sent before ({key}) and its answer was lost: it may exist and be billed. "
        "Please look for it in the console of api.myrouter.ai first. Send it again, and perhaps pay twice?"
    ]
    assert told(answer)["task_id"] == "task-2"
    assert told(answer)["warnings"] == [f"A job with the same pictures may exist already, its answer was lost: {key}."]
    assert "290 of 300 s of video left" in said(answer), "a released job still counts in the allowance"
    assert told(another_take)["task_id"] == "task-3"
    assert [job["idempotency_key"] for job in told(listed)["jobs"]] == [key]


async def test_a_released_job_that_is_still_looked_for_holds_up_no_other(
    router: FakeRouter, ledger: Path, tmp_path: Path
) -> None:
    router.submissions = [Reply(503, {"reason": "SERVICE_NOT_AVAILABLE", "task_id": "task-1"})]
    router.result = refused(404, "TASK_NOT_FOUND")
    async with process(router, ledger, elicitation_callback=User(YES), output_dir=tmp_path) as client:
        await submit(client)
        answer = await submit(client)

    assert told(answer)["task_id"] == "task-2"


@BOTH_ERAS
@pytest.mark.parametrize(
    ("no", "sentence"),
    [
        (ElicitResult(action="decline"), "The user said no."),
        (ElicitResult(action="cancel"), "The user closed the question without an answer."),
        (ElicitResult(action="accept", content={"send_again": False}), "The user said no."),
    ],
)
async def test_a_user_who_does_not_say_yes_releases_nothing(
    router: FakeRouter, ledger: Path, mode: str, no: ElicitResult, sentence: str
) -> None:
    router.submissions = [LOST]
    user = User(no)
    async with process(router, ledger, mode=mode, elicitation_callback=user) as client:
        await submit(client)
        answer = await submit(client)

    assert len(user.questions) == 1
    assert answer.is_error
    assert said(answer) == f"{sentence} Nothing was sent or bought. Do not call again unless they ask for it."
    assert len(router.posts) == 1


async def test_a_user_who_does_not_look_releases_nothing(
    router: FakeRouter, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the older protocol the call is open while the user is asked; in the newer one there is nothing to wait for."""
    router.submissions = [LOST]
    async with process(router, ledger, mode="legacy", elicitation_callback=User(None)) as client:
        await submit(client)
        monkeypatch.setattr(spec_tool, "QUESTION_SECONDS", 0.5)  # real seconds: a user is asked outside of our clock
        answer = await submit(client)

    assert answer.is_error
    assert said(answer) == (
        "Nobody answered the question in time. Nothing was sent or bought: ask the user, then call."
    )
    assert len(router.posts) == 1


async def test_a_user_who_says_yes_releases_every_identical_job(router: FakeRouter, ledger: Path) -> None:
    router.submissions = [replace(LOST, after=1), replace(LOST, after=1)]
    user = User(YES)
    async with process(router, ledger, elicitation_callback=user) as client:
        keys = [key_in(lost) for lost in await at_once(2, client)]
        answer = await submit(client)
        listed = await client.call_tool("list_reference_videos", {"state": "uncertain"})
        asked = [await client.call_tool("get_task_result", {"task_id": key}) for key in keys]

    words = "Released: the same request may be made again as a new job."
    assert said(listed).count(words) == 2
    for job in [*told(listed)["jobs"], *map(told, asked)]:
        assert job["reason"].startswith(words)
    for job in asked:
        assert words in said(job)
        assert words in told(job)["next_step"]
        assert "submit it again" not in said(job)

    assert told(answer)["task_id"] == "task-3"
    assert len(user.questions) == 1


@BOTH_ERAS
async def test_a_rate_limit_is_waited_out_inside_the_call(
    clock: VirtualClock, router: FakeRouter, ledger: Path, mode: str
) -> None:
    busy = [refused(429, "RATE_LIMIT_EXCEEDED", retry_after=20), refused(429, "TOKEN_LIMIT_EXCEEDED")]
    router.submissions = list(busy)
    async with process(router, ledger, mode=mode) as client:
        answer = await submit(client)

    assert told(answer)["task_id"] == "task-3"
    assert router.posted_at == [0, 20, pytest.approx(22, abs=0.5)]


async def test_a_rate_limit_that_lasts_rejects_the_job_before_the_call_ends(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submission = refused(429, "RATE_LIMIT_EXCEEDED", retry_after=20)
    async with process(router, ledger) as client:
        answer = await submit(client)
        assert clock.steady() == 40
        router.submission = Reply()
        again = await submit(client)

    assert answer.is_error
    assert said(answer) == (
        'api.myrouter.ai answered 429 RATE_LIMIT_EXCEEDED: "trace_id: 0123abcd". Nothing was bought. '
        "Wait 20 s, then try once more."
    )
    assert router.posted_at == [0, 20, 40, 40]
    assert told(again)["task_id"] == "task-4"


@BOTH_ERAS
async def test_a_job_still_submitting_after_45_seconds_is_waited_for_by_its_key_up_to_the_video(
    clock: VirtualClock, router: FakeRouter, ledger: Path, tmp_path: Path, mode: str
) -> None:
    router.submissions = [Reply(after=61)]
    router.takes = 80
    async with process(router, ledger, mode=mode, output_dir=tmp_path, max_wait=300) as client:
        first = await submit(client)
        assert clock.steady() == 45
        key = told(first)["idempotency_key"]
        next_step = (
            f'Call get_task_result with task_id "{key}": it waits. Do not submit again for this video. '
            "Allowance: 295 of 300 s of video left in these 24 hours."
        )
        assert said(first) == (
            f"api.myrouter.ai has not answered the submission yet (idempotency_key {key}); it goes on. {next_step}"
        )
        assert told(first) == {"idempotency_key": key, "state": "submitting", "next_step": next_step}
        assert not first.is_error
        video = await result(client, key, wait_seconds=300)

    assert told(video)["state"] == "succeeded"
    assert told(video)["task_id"] == "task-1"
    assert await anyio.Path(told(video)["videos"][0]["saved_to"]).is_file()
    assert clock.steady() < 100


async def test_a_job_that_another_process_is_submitting_is_waited_for_by_its_key(
    router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=60)]
    async with process(router, ledger) as client, process(router, ledger) as another:
        key = told(await submit(client))["idempotency_key"]
        found = await result(another, key, wait_seconds=30)

    assert told(found)["state"] == "succeeded"


@pytest.mark.parametrize("after_restart", [True, False])
async def test_a_job_rejected_after_its_call_was_answered_is_found_rejected_by_its_key(
    clock: VirtualClock, router: FakeRouter, ledger: Path, after_restart: bool
) -> None:
    router.submissions = [refused(400, "ILLEGAL_IMAGE_CONTENT", after=50)]
    async with process(router, ledger) as client, process(router, ledger) as next_process:
        first = await submit(client)
        await clock.sleep(10)
        end = await result(next_process if after_restart else client, told(first)["idempotency_key"])

    assert end.is_error
    assert 'api.myrouter.ai answered 400 ILLEGAL_IMAGE_CONTENT: "trace_id: 0123abcd". Nothing was bought.' in said(end)


@pytest.mark.parametrize(
    ("status", "reason"), [(429, "RATE_LIMIT_EXCEEDED"), (503, "SERVICE_NOT_AVAILABLE"), (500, "TASK_FAILED")]
)
@pytest.mark.parametrize("after_restart", [False, True])
async def test_an_error_that_names_a_task_is_sent_once_and_its_task_found(
    clock: VirtualClock, router: FakeRouter, ledger: Path, status: int, reason: str, after_restart: bool
) -> None:
    router.submissions = [Reply(status, {"reason": reason, "task_id": "task-1"})]
    router.result, router.takes = refused(404, "TASK_NOT_FOUND"), 20
    async with process(router, ledger) as client, process(router, ledger) as next_process:
        answer = await submit(client)
        asking = next_process if after_restart else client
        still = await result(asking, "task-1", wait_seconds=0)
        router.result = Reply()
        found = await result(asking, "task-1")

    (key,) = re.findall(r"job-\w+", said(answer))
    assert said(answer) == (
        f"api.myrouter.ai answered {status} {reason}. It names the task task-1. The job may have been accepted and "
        f"billed all the same. (Job {key}.) Do not submit again for this video. "
        'Call get_task_result with task_id "task-1": it asks api.myrouter.ai for the job. '
        "Tell the user, who can look for it in the console of api.myrouter.ai."
    )
    assert (told(answer)["state"], told(answer)["task_id"]) == ("uncertain", "task-1")
    assert still.is_error
    assert told(still)["state"] == "uncertain"
    assert (told(found)["state"], told(found)["task_id"]) == ("succeeded", "task-1")
    assert len(router.posts) == 1


async def test_a_job_that_an_error_named_is_found_and_saved_by_the_next_process_unasked(
    clock: VirtualClock, router: FakeRouter, ledger: Path, tmp_path: Path
) -> None:
    router.submissions = [Reply(503, {"reason": "SERVICE_NOT_AVAILABLE", "task_id": "task-1"})]
    async with process(router, ledger, output_dir=tmp_path / "videos") as client:
        router.result = refused(404, "TASK_NOT_FOUND")
        await submit(client)
        await clock.sleep(30)
    router.result = Reply()
    async with process(router, ledger, output_dir=tmp_path / "videos"):
        await clock.sleep(180)
    assert len([path async for path in anyio.Path(tmp_path / "videos").glob("*.mp4")]) == 1
    assert len(router.posts) == 1


async def test_an_answer_is_waited_for_up_to_its_deadline(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=150)]
    async with process(router, ledger) as client, process(router, ledger) as another:
        key = told(await submit(client))["idempotency_key"]
        await clock.sleep(119 - 45 - 10)
        waiting = await result(another, key, wait_seconds=0)  # ten seconds
        await clock.sleep(2)
        doubtful = await result(another, key, wait_seconds=0)

    assert told(waiting)["state"] == "submitting"
    assert doubtful.is_error


async def test_an_answer_that_comes_after_the_deadline_still_wins(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """One process lost patience with the row that another one was still writing."""
    router.submissions = [Reply(after=150)]
    async with process(router, ledger) as client, process(router, ledger) as another:
        key = told(await submit(client))["idempotency_key"]
        await clock.sleep(80)
        doubtful = await result(another, key)
        await clock.sleep(30)
        found = await result(another, key)

    assert doubtful.is_error
    assert told(found)["task_id"] == "task-1"


@pytest.mark.parametrize("calls", [1, 4])
async def test_calls_cancelled_before_they_are_remembered_buy_nothing(
    router: FakeRouter, ledger: Path, calls: int
) -> None:
    """The repeated call is no other take beside theirs: nobody waits for them any more."""
    answers: Answers = []
    async with process(router, ledger) as client, anyio.create_task_group() as tasks:

        async def give_up_early() -> None:
            with anyio.move_on_after(0.2) as patience:
                await at_once(calls, client)
            assert patience.cancelled_caught

        async def repeat() -> None:
            answers.append(await submit(client))

        await client.call_tool("list_reference_videos", {})
        with closing(sqlite3.connect(ledger, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            tasks.start_soon(give_up_early)  # which may last as long as the lock
            await anyio.sleep(0.4)
            tasks.start_soon(repeat)
            await anyio.sleep(0.1)
            other.execute("ROLLBACK")
    assert told(answers[0])["task_id"] == "task-1"
    assert "already" not in said(answers[0])
    assert len(router.posts) == 1


async def test_a_first_call_cancelled_at_any_moment_and_repeated_is_one_job(router: FakeRouter, tmp_path: Path) -> None:
    """A process's first call takes long, for the ledger is opened; a client that retries has less patience."""
    router.clock, router.submission = Clock(), Reply(after=0.3)
    for number, patience in enumerate([0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08]):
        router.posts.clear()
        async with process(router, tmp_path / str(number) / "ledger.db") as client:
            with anyio.move_on_after(patience) as call:
                await submit(client)
            assert call.cancelled_caught
            await submit(client)
        assert len(router.posts) == 1, patience


async def test_a_call_whose_connection_closed_before_its_job_was_remembered_buys_nothing(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    settings = Settings(api_key=API_KEY, database=ledger)
    caller = Caller(clock.steady(), hung_up=lambda: True)
    async with running(settings, transport=router.transport, clock=clock) as state:
        with pytest.raises(Refused, match=r"The call was cancelled\. Nothing was bought\."):
            async with state.account.submitter.submit(
                Order(ReferenceVideoRequest.model_validate(CAT)), caller=caller, buy=True
            ):
                pass
        assert await state.account.newest(1) == []
    assert router.posts == []


async def test_a_call_cancelled_while_its_job_is_being_remembered_is_sent_all_the_same(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """It was decided; a row that nobody sends would look like a job that may have been bought."""
    settings = Settings(api_key=API_KEY, database=ledger)
    call = Order(ReferenceVideoRequest.model_validate(CAT))
    cancelled = anyio.CancelScope()

    def hung_up() -> bool:
        """Asked last before the row is written, in the ledger's thread."""
        anyio.from_thread.run_sync(cancelled.cancel)
        return False

    caller = Caller(clock.steady(), hung_up=hung_up)
    async with running(settings, transport=router.transport, clock=clock) as state:
        with cancelled:
            async with state.account.submitter.submit(call, caller=caller, buy=True):
                pass
        assert cancelled.cancelled_caught
        await clock.sleep(1)
        (job,) = await state.account.newest(2)
        clock.set_by += 3600  # the machine slept
        async with state.account.submitter.submit(call, buy=True) as again:
            assert again.joined
    assert (job.state, job.task_id) == ("queued", "task-1")
    assert len(router.posts) == 1


async def test_who_cancels_a_call_while_its_job_is_being_remembered_is_told_which_it_is(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """An interrupted command must not say that nothing was sent."""
    settings = Settings(api_key=API_KEY, database=ledger)
    cancelled = anyio.CancelScope()
    opened: list[Job] = []

    def hung_up() -> bool:
        """Asked last before the row is written, in the ledger's thread."""
        anyio.from_thread.run_sync(cancelled.cancel)
        return False

    async with running(settings, transport=router.transport, clock=clock) as state:
        with cancelled:
            async with state.account.submitter.submit(
                Order(ReferenceVideoRequest.model_validate(CAT)),
                caller=Caller(clock.steady(), hung_up=hung_up),
                buy=True,
                on_opened=opened.append,
            ):
                pass
        await clock.sleep(1)
        newest = await state.account.newest(2)
    assert cancelled.cancelled_caught
    assert [job.id for job in opened] == [job.id for job in newest]
    assert len(router.posts) == 1


async def test_a_call_cancelled_while_its_job_is_being_remembered_is_joined_by_the_next_in_line(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """It waits no longer, so the next is no other take beside it."""
    settings = Settings(api_key=API_KEY, database=ledger)
    call = Order(ReferenceVideoRequest.model_validate(CAT))
    cancelled = anyio.CancelScope()
    begun = anyio.Event()
    joined: list[bool] = []

    def hung_up() -> bool:
        """Asked last before the row is written, in the ledger's thread."""
        anyio.from_thread.run(until_the_next_is_in_line)
        anyio.from_thread.run_sync(cancelled.cancel)
        return False

    async with running(settings, transport=router.transport, clock=clock) as state, anyio.create_task_group() as tasks:

        async def until_the_next_is_in_line() -> None:
            begun.set()
            while not state.account.submitter.lock.statistics().tasks_waiting:
                await anyio.lowlevel.checkpoint()

        async def give_up() -> None:
            with cancelled:
                async with state.account.submitter.submit(
                    call, caller=Caller(clock.steady(), hung_up=hung_up), buy=True
                ):
                    pass

        async def repeat() -> None:
            await begun.wait()
            async with state.account.submitter.submit(call, buy=True) as again:
                joined.append(again.joined)

        tasks.start_soon(give_up)
        tasks.start_soon(repeat)
    assert cancelled.cancelled_caught
    assert joined == [True]
    assert len(router.posts) == 1


async def test_after_an_hour_asleep_the_job_whose_post_is_open_is_not_bought_again(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=100)]
    async with process(router, ledger) as client:
        await give_up(clock, 10, lambda: submit(client))
        answers = []
        for jump in (3600, 3600, 26 * 3600):  # the second is past the ten minutes, the third past the ledger's day
            clock.set_by += jump
            answers.append(await submit(client))
        await clock.sleep(100)
        found = await result(client, "task-1", wait_seconds=0)

    (key,) = {key_in(answer) for answer in answers}
    assert {said(answer) for answer in answers} == {
        f"An identical job ({key}) was sent minutes ago and its answer is overdue: it may exist and be billed. "
        "This call sent nothing. Do not submit again for this video. Tell the user, and ask them to look for the "
        "job in the console of api.myrouter.ai before anything else is made."
    }
    assert len(router.posts) == 1
    assert told(found)["task_id"] == "task-1"


async def test_a_call_beside_one_that_waits_since_before_a_day_asleep_buys_nothing(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """Nobody gave up, and the ledger does not look so far back: this process knows that the POST is open."""
    router.submissions = [Reply(after=100)]
    async with process(router, ledger) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(submit, client)
        await clock.sleep(10)
        clock.set_by += 26 * 3600
        answer = await submit(client)
        tasks.cancel_scope.cancel()

    assert "was sent minutes ago and its answer is overdue" in said(answer)
    assert len(router.posts) == 1


@pytest.mark.parametrize("jump", [3600, 60 * 3600])
@pytest.mark.parametrize(
    ("reply", "asleep_until"),
    [(Reply(after=20), "the answer"), (LOST, "the answer"), (Reply(after=12), "later")],
    ids=["answered on waking", "lost on waking", "answered before"],
)
async def test_the_call_repeated_on_waking_is_the_one_that_was_given_up(
    clock: VirtualClock, router: FakeRouter, ledger: Path, reply: Reply, asleep_until: str, jump: float
) -> None:
    """Its job is hours old by the clock on the wall, and days after a weekend, which the ledger does not look back."""
    router.submissions = [reply if reply.after else replace(reply, after=20)]
    async with process(router, ledger) as client:
        await give_up(clock, 10, lambda: submit(client))
        if asleep_until == "later":
            await clock.sleep(3)
        clock.set_by += jump
        if asleep_until == "the answer":
            await clock.sleep(11)
        answer = await submit(client)

    assert len(router.posts) == 1
    assert answer.is_error if reply.body else told(answer)["task_id"] == "task-1"


@pytest.mark.parametrize("waits", [True, False], ids=["its POST is open", "its answer was lost"])
async def test_what_is_in_doubt_after_a_weekend_asleep_is_not_bought_by_another_window_either(
    clock: VirtualClock, router: FakeRouter, ledger: Path, waits: bool
) -> None:
    router.submissions = [replace(LOST, after=20)]
    async with process(router, ledger) as client, process(router, ledger) as another:
        await give_up(clock, 10, lambda: submit(client))
        clock.set_by += 60 * 3600
        await clock.sleep(0 if waits else 11)
        answer = await submit(another)

    assert answer.is_error
    assert said(answer).startswith(f"An identical job ({key_in(answer)}) was sent minutes ago and its answer was lost")
    assert len(router.posts) == 1


async def test_the_user_may_release_what_was_lost_in_a_weekend_asleep(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """The ledger knows what they said, and of days that this process alone remembers."""
    router.submissions = [replace(LOST, after=20)]
    async with process(router, ledger, elicitation_callback=User(YES)) as client:
        await give_up(clock, 10, lambda: submit(client))
        clock.set_by += 60 * 3600
        await clock.sleep(11)
        answer = await submit(client)

    assert told(answer)["task_id"] == "task-2"


@pytest.mark.parametrize("seen_by", ["the call", "a look"])
async def test_the_ten_minutes_count_from_when_the_doubt_was_first_seen(
    clock: VirtualClock, router: FakeRouter, ledger: Path, seen_by: str
) -> None:
    """The machine slept for an hour after the process that knew more was killed."""
    router.submissions = [Reply(after=3600)]
    async with process(router, ledger) as killed, anyio.create_task_group() as tasks:
        tasks.start_soon(submit, killed)
        await clock.sleep(6)
        clock.set_by += 3600
        async with process(router, ledger) as client:
            (job,) = told(await client.call_tool("list_reference_videos", {}))["jobs"]
            if seen_by == "a look":
                await result(client, job["idempotency_key"])
                await clock.sleep(590)
            first = await submit(client)
            await clock.sleep(5 if seen_by == "a look" else 595)
            too_early = await submit(client)
            await clock.sleep(6)
            answer = await submit(client)
        tasks.cancel_scope.cancel()

    assert first.is_error
    assert too_early.is_error
    assert told(answer)["task_id"] == "task-2"
    assert len(told(answer)["warnings"]) == 1


async def test_an_answer_that_the_ledger_could_not_take_down_is_written_with_the_next_news(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """A ledger that fails after the POST must not lose what was bought."""
    router.submissions = [Reply(after=20)]

    def rename(old: str, new: str) -> None:
        with closing(sqlite3.connect(ledger)) as database:
            database.execute(f"ALTER TABLE {old} RENAME TO {new}")

    async with process(router, ledger) as client, anyio.create_task_group() as tasks:
        answers: Answers = []

        async def call() -> None:
            answers.append(await submit(client))

        tasks.start_soon(call)
        await clock.sleep(10)
        rename("refvideo_jobs", "gone")
        await clock.sleep(11)
        rename("gone", "refvideo_jobs")
        await clock.sleep(10)
        async with process(router, ledger) as next_process:
            listed = await next_process.call_tool("list_reference_videos", {})

    assert told(answers[0])["task_id"] == "task-1"
    assert [job["task_id"] for job in told(listed)["jobs"]] == ["task-1"]


async def test_an_answer_that_broke_off_while_it_was_written_did_not_reach_anybody(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    settings = Settings(api_key=API_KEY, database=ledger)
    call = Order(ReferenceVideoRequest.model_validate(CAT))
    async with running(settings, transport=router.transport, clock=clock) as state:
        with anyio.CancelScope() as cancelled:
            async with state.account.submitter.submit(call, buy=True):
                cancelled.cancel()
                await anyio.lowlevel.checkpoint()
        await clock.sleep(6)
        async with state.account.submitter.submit(call, buy=True) as again:
            assert again.joined
    assert len(router.posts) == 1


@pytest.mark.parametrize("same_process", [True, False])
@pytest.mark.parametrize(
    ("cancelled_after", "repeated_after"), [(0, 0), (0.9, 0), (0, 4), (0, 580), (10, 1), (10, 580)]
)
async def test_an_answer_that_a_cancel_crossed_reached_nobody(
    clock: VirtualClock,
    router: FakeRouter,
    ledger: Path,
    cancelled_after: float,
    repeated_after: float,
    same_process: bool,
) -> None:
    """The client drops what comes for a request that it gave up, so the repeated call wants no other take."""
    async with process(router, ledger, mode="legacy") as client, process(router, ledger) as next_process:
        await submit(client)
        await clock.sleep(cancelled_after)
        await cancel(client, FIRST_CALL)
        await clock.sleep(repeated_after)
        another = client if same_process else next_process
        again = await submit(another)
        another_take = await submit(another)

    assert told(again)["task_id"] == "task-1"
    assert told(another_take)["task_id"] == "task-2"


async def test_a_cancel_may_come_seconds_late_and_the_repeated_call_right_behind_it(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """Both waited in the pipe of a process that was stopped."""
    async with process(router, ledger, mode="legacy") as client:
        await submit(client)
        await clock.sleep(10)
        await cancel(client, FIRST_CALL)
        again = await submit(client)
        another_take = await submit(client)

    assert told(again)["task_id"] == "task-1"
    assert told(another_take)["task_id"] == "task-2"


async def test_a_cancel_that_comes_long_after_the_answer_is_about_nothing(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger, mode="legacy") as client:
        await submit(client)
        await clock.sleep(12)
        await cancel(client, FIRST_CALL)
        another_take = await submit(client)

    assert told(another_take)["task_id"] == "task-2"


async def test_a_cancel_takes_nothing_back_that_another_call_was_told_meanwhile(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger, mode="legacy") as client:
        for _ in range(2):
            await submit(client, idempotency_key=KEY)
        await clock.sleep(2)
        await cancel(client, FIRST_CALL)
        await clock.sleep(1)
        another_take = await submit(client)

    assert told(another_take)["task_id"] == "task-2"


async def test_a_cancel_takes_back_the_answer_to_its_own_request_only(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger, mode="legacy") as client:
        for prompt in ("@1 runs", "@1 sits"):
            await submit(client, prompt)
        await cancel(client, FIRST_CALL)
        answers = [await submit(client, prompt) for prompt in ("@1 runs", "@1 sits")]

    assert [told(answer)["task_id"] for answer in answers] == ["task-1", "task-3"]


@pytest.mark.parametrize(("ids", "jobs"), [(("7", "7", "7"), 1), (("7", "8", "9"), 3), ((None, None, None), 3)])
async def test_a_request_sent_again_under_its_own_id_is_no_other_take(
    clock: VirtualClock, router: FakeRouter, ledger: Path, ids: tuple[str | None, ...], jobs: int
) -> None:
    router.submission = Reply(after=5)
    settings = Settings(api_key=API_KEY, database=ledger)
    call = Order(ReferenceVideoRequest.model_validate(CAT))
    async with running(settings, transport=router.transport, clock=clock) as state:

        async def buy(request: str | None) -> None:
            async with state.account.submitter.submit(call, caller=Caller(clock.steady(), request), buy=True):
                pass

        async with anyio.create_task_group() as tasks:
            for request in ids:
                tasks.start_soon(buy, request)
    assert len(router.posts) == jobs


async def test_a_job_that_was_asked_for_by_its_key_is_known_to_its_caller_even_if_nothing_was_answered(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """The next identical call is another take."""
    router.submissions = [Reply(after=11)]
    async with process(router, ledger) as client:
        key = told(await submit(client))["task_id"]
        await clock.sleep(1)
        await give_up(clock, 1, lambda: result(client, key))
        await clock.sleep(5)
        await submit(client)
    assert len(router.posts) == 2


@pytest.mark.parametrize("seconds", [1.5, 2.5])
async def test_a_ledger_that_is_busy_for_too_long_lets_nothing_be_sent_late(
    router: FakeRouter, ledger: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """The last second of the time for an answer is the router's."""
    monkeypatch.setattr(submitting, "ANSWER_SECONDS", 2.0)  # real seconds: the ledger is outside of our clock
    router.clock = Clock()
    async with process(router, ledger) as client:
        await client.call_tool("list_reference_videos", {})  # opens the ledger
        with closing(sqlite3.connect(ledger, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answers: Answers = []

            async def call() -> None:
                answers.append(await submit(client))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await anyio.sleep(seconds)
                other.execute("ROLLBACK")
    assert "another program holds it locked. Try again in a minute. Nothing was sent" in said(answers[0])
    assert router.posts == []


@pytest.mark.parametrize("tool", ["generate_reference_video", "get_task_result"])
async def test_a_tool_s_own_work_is_not_cut_off_by_the_time_that_users_have_for_questions(
    tool: str, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spec_tool, "QUESTION_SECONDS", 0.1)  # real seconds: a user is asked outside of our clock
    router = FakeRouter(Clock(), submission=Reply(after=0.3), result=Reply(after=0.3), takes=0)
    async with process(router, ledger) as client:
        answer = await client.call_tool(tool, CAT if tool.startswith("generate") else {"task_id": "task-1"})
    assert "question" not in said(answer)
    assert len(router.posts or router.polls) == 1
