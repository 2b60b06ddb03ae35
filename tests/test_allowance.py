"""An agent spends no more than the user allows: seconds of video in 24 hours, and jobs open at once."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult

from fake_router import LOST, FakeRouter, Reply, process, refused, said, submit, told
from virtual_time import EPOCH, VirtualClock

pytestmark = pytest.mark.anyio

DAY = 24 * 3600


@pytest.fixture
def router(clock: VirtualClock) -> FakeRouter:
    return FakeRouter(clock, takes=1)


async def make(client: Client, prompt: str = "@1 runs", **arguments: Any) -> CallToolResult:
    """Submit a job and wait for its video."""
    answer = await submit(client, prompt, **arguments)
    return await client.call_tool("get_task_result", {"task_id": told(answer)["task_id"]})


def at(seconds: float) -> str:
    """A virtual time as the user's own clock shows it."""
    return f"{datetime.fromtimestamp(EPOCH + seconds, UTC).astimezone():%Y-%m-%d %H:%M %Z}"


async def test_the_seconds_of_a_day_are_used_up_to_the_last_one(router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger, max_seconds_per_day=25) as client:
        for lap in range(2):
            await make(client, f"@1 runs lap {lap}", duration=10)
        last = await submit(client)

    assert "Allowance: 0 of 25 s of video left in these 24 hours." in said(last)
    assert not last.is_error


async def test_a_refusal_tells_the_user_what_is_used_when_it_frees_and_which_setting_raises_it(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger, max_seconds_per_day=25) as client:
        await make(client, "@1 wakes up", duration=10)
        await clock.sleep(3600 - clock.steady())
        await make(client, "@1 runs", duration=10)
        answer = await submit(client, "@1 sleeps", duration=10)
        both = await submit(client, "@1 sleeps", duration=8)

    assert answer.is_error
    assert said(answer) == (
        "The allowance of 25 seconds of video in 24 hours leaves 5, and this job takes 10. "
        "Nothing was sent or bought. "
        f"Tell the user: enough is free again at {at(DAY)}; the setting REFVIDEO_MAX_SECONDS_PER_DAY raises it."
    )
    assert f"enough is free again at {at(DAY)};" in said(both)
    assert len(router.posts) == 2


async def test_a_job_that_needs_several_to_leave_the_window_is_told_the_last_of_them(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger, max_seconds_per_day=10) as client:
        for hour in range(3):
            await clock.sleep(max(0.0, hour * 3600 - clock.steady()))
            await make(client, f"@1 at {hour} o'clock", duration=3)
        answer = await submit(client, duration=7)
        too_long = await submit(client, duration=10)

    assert f"enough is free again at {at(DAY + 3600)};" in said(answer)
    assert f"enough is free again at {at(DAY + 7200)};" in said(too_long)


async def test_the_window_rolls(clock: VirtualClock, router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger, max_seconds_per_day=10) as client:
        await make(client, "@1 wakes up")
        await clock.sleep(12 * 3600 - clock.steady())
        await make(client, "@1 runs")
        refused_at_noon = await submit(client, "@1 sleeps")
        await clock.sleep(DAY - clock.steady())
        next_day = await make(client, "@1 sleeps")
        refused_again = await submit(client, "@1 dreams")

    assert refused_at_noon.is_error
    assert told(next_day)["state"] == "succeeded"
    assert refused_again.is_error
    assert f"free again at {at(DAY + 12 * 3600)};" in said(refused_again)


async def test_a_key_of_yesterday_does_not_count_today(clock: VirtualClock, router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger, max_seconds_per_day=5) as client:
        await make(client, idempotency_key="order-2026-11-23-0007")
        await clock.sleep(DAY + 3600)
        answer = await submit(client, idempotency_key="order-2026-11-23-0007")

    assert told(answer)["task_id"] == "task-2"


@pytest.mark.parametrize(
    ("submission", "counts"),
    [
        (Reply(), True),
        (LOST, True),
        (refused(400, "ILLEGAL_PROMPT"), False),
        (refused(429, "RATE_LIMIT_EXCEEDED", retry_after=60), False),
    ],
)
async def test_everything_that_may_have_been_bought_counts(
    router: FakeRouter, ledger: Path, submission: Reply, counts: bool
) -> None:
    router.submissions = [submission]
    async with process(router, ledger, max_seconds_per_day=5) as client:
        await submit(client, "@1 wakes up")
        answer = await submit(client)

    assert bool(answer.is_error) is counts
    assert len(router.posts) == (1 if counts else 2)


async def test_a_failed_job_counts(router: FakeRouter, ledger: Path) -> None:
    router.fails = {"task-1": "ILLEGAL_PROMPT"}
    async with process(router, ledger, max_seconds_per_day=5) as client:
        await make(client, "@1 wakes up")
        answer = await submit(client)

    assert answer.is_error


async def test_open_jobs_are_limited_until_one_ends(clock: VirtualClock, router: FakeRouter, ledger: Path) -> None:
    router.takes = 60
    async with process(router, ledger, max_open_jobs=2) as client:
        for scene in ("@1 wakes up", "@1 runs"):
            await submit(client, scene)
            await clock.sleep(1)
        answer = await submit(client, "@1 sleeps")
        await client.call_tool("get_task_result", {"task_id": "task-1"})
        await client.call_tool("get_task_result", {"task_id": "task-1"})
        now = await submit(client, "@1 sleeps")

    assert answer.is_error
    assert said(answer) == (
        "2 jobs are open, and 2 is the limit. Nothing was sent or bought. Wait for one of them: "
        'get_task_result with task_id "task-1" waits for it; the setting REFVIDEO_MAX_OPEN_JOBS raises the limit.'
    )
    assert told(now)["task_id"] == "task-3"


async def test_a_submission_without_an_answer_is_open_until_it_is_uncertain(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=3600)]
    async with (
        process(router, ledger, max_open_jobs=1) as killed,
        process(router, ledger, max_open_jobs=1) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(submit, killed, "@1 wakes up")
        await clock.sleep(60)
        answer = await submit(client, "@1 runs")
        await clock.sleep(61)
        later = await submit(client, "@1 runs")
        tasks.cancel_scope.cancel()

    assert answer.is_error
    assert told(later)["task_id"] == "task-2"


async def test_a_job_that_never_ends_is_open_for_two_hours(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 30 * 3600
    async with process(router, ledger, max_open_jobs=1) as client:
        await submit(client, "@1 waits")
    await clock.sleep(2 * 3600 - 60)
    async with process(router, ledger, max_open_jobs=1) as client:
        answer = await submit(client, "@1 runs")
        await clock.sleep(60)
        later = await submit(client, "@1 runs")

    assert answer.is_error
    assert told(later)["task_id"] == "task-2"


async def test_zero_is_no_limit(router: FakeRouter, ledger: Path) -> None:
    router.takes = 60
    async with process(router, ledger, max_seconds_per_day=0, max_open_jobs=0) as client:
        answers = [await submit(client, f"@1 runs lap {lap}", duration=10) for lap in range(40)]

    assert not any(answer.is_error for answer in answers)
    assert "allowance" not in said(answers[-1])
    assert len(router.posts) == 40


@pytest.mark.parametrize("limits", [{"max_seconds_per_day": 15}, {"max_open_jobs": 3}])
async def test_two_processes_together_stay_within_the_allowance(
    router: FakeRouter, ledger: Path, limits: dict[str, Any]
) -> None:
    router.takes = 60
    answers: list[CallToolResult] = []

    async def call(client: Client, scene: int) -> None:
        answers.append(await submit(client, f"@1 in scene {scene}"))

    async with (
        process(router, ledger, **limits) as one,
        process(router, ledger, **limits) as other,
        anyio.create_task_group() as tasks,
    ):
        for scene in range(6):
            tasks.start_soon(call, one if scene % 2 else other, scene)

    assert sum(not answer.is_error for answer in answers) == 3
    assert len(router.posts) == 3


async def test_another_gateway_has_an_allowance_of_its_own(router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger, max_seconds_per_day=5) as client:
        await submit(client)
    async with process(router, ledger, max_seconds_per_day=5, base_url="https://gateway.example") as client:
        answer = await submit(client)

    assert not answer.is_error


async def test_a_limit_that_was_set_below_what_is_used_leaves_nothing(router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger, max_seconds_per_day=12) as client:
        for prompt in ("@1 runs", "@1 sleeps"):
            await submit(client, prompt)
    async with process(router, ledger, max_seconds_per_day=5) as client:
        answer = await submit(client, "@1 waves")

    assert said(answer).startswith("The allowance of 5 seconds of video in 24 hours leaves 0, and this job takes 5. ")
    assert len(router.posts) == 2
