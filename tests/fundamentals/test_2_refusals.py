"""What does not become a video, and what the agent reads then: what happened, and what to do next."""

from pathlib import Path

import pytest
from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult

from fake_router import FakeRouter, process, result, said, submit, told

pytestmark = pytest.mark.anyio

BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])


async def test_an_unknown_argument_is_refused_with_the_nearest_real_name(router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger) as client:
        answer = await result(client, wait_second=3)
    assert answer.is_error
    assert said(answer) == (
        "`wait_second` is not an argument; did you mean `wait_seconds`? "
        "Nothing was sent or bought: correct this and try again."
    )


async def test_what_a_subject_without_a_picture_would_cost_is_never_found_out(
    router: FakeRouter, ledger: Path, tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone.png")
    async with process(router, ledger) as client:
        answer = await submit(client, subjects=[{"images": [gone]}])
    assert answer.is_error
    assert said(answer) == f"There is no picture at {gone}. Ask the user for the right path. Nothing was sent."
    assert router.posts == []


async def test_every_submission_says_what_is_left(router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger) as client:
        answers = [await submit(client, f"@1 runs lap {lap}", duration=10) for lap in range(3)]
        repeated = await submit(client, idempotency_key="order-2026-11-23-0007")
        repeated = await submit(client, idempotency_key="order-2026-11-23-0007")

    left = ["Allowance: 290 of 300 s of video left in these 24 hours.", "280 of 300 s of video left", "270 of 300 s"]
    for answer, sentence in zip(answers, left, strict=True):
        assert sentence in said(answer)
        assert sentence in told(answer)["next_step"]
    assert "265 of 300 s" in said(repeated), "a job that was joined costs nothing"


async def test_a_job_longer_than_the_whole_allowance_is_promised_nothing(router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger, max_seconds_per_day=4) as client:
        answer = await submit(client)

    assert said(answer) == (
        "The allowance of 4 seconds of video in 24 hours leaves 4, and this job takes 5. Nothing was sent or bought. "
        "Tell the user: the setting REFVIDEO_MAX_SECONDS_PER_DAY raises it."
    )


@BOTH_ERAS
async def test_with_refvideo_confirm_the_user_is_asked_before_it_is_bought(
    router: FakeRouter, ledger: Path, mode: str
) -> None:
    questions: list[str] = []

    async def user(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="accept", content={"buy": "sings" in params.message})

    async with process(router, ledger, mode=mode, elicitation_callback=user, confirm_above=0) as client:
        refused = await submit(client)
        bought = await submit(client, prompt="@1\x1b[2J sings\u202e", duration=10, resolution="1080p")
    assert questions == [
        'Buy 5 s of video at 720p: "@1 runs"? Allowance: 300 of 300 s of video left in these 24 hours.',
        'Buy 10 s of video at 1080p: "@1 [2J sings"? Allowance: 300 of 300 s of video left in these 24 hours.',
    ]
    assert (refused.is_error, told(bought)["task_id"]) == (True, "task-1")
    assert len(router.posts) == 1


@BOTH_ERAS
async def test_a_failed_job_is_an_error_with_its_reason_and_what_to_change(
    router: FakeRouter, ledger: Path, mode: str
) -> None:
    router.takes = 10
    router.fails = {"task-1": "ILLEGAL_PROMPT", "task-2": "the subject left the picture"}
    async with process(router, ledger, mode=mode) as client:
        await submit(client)
        known = await result(client)
        asked = len(router.polls)
        again = await result(client)
        assert len(router.polls) == asked, "an end is remembered"
        await submit(client, "@1 leaves")
        other = await result(client, "task-2")

    assert known.is_error
    assert said(known) == (
        'Job task-1 failed: "ILLEGAL_PROMPT". The content rules refused the prompt: reword it, then try again. '
        "Whether it was billed: see the console of api.myrouter.ai."
    )
    assert told(known) == {
        "task_id": "task-1",
        "state": "failed",
        "reason": "ILLEGAL_PROMPT",
        "next_step": "The content rules refused the prompt: reword it, then try again. "
        "Whether it was billed: see the console of api.myrouter.ai.",
    }
    assert said(again) == said(known)
    assert other.is_error
    assert said(other) == (
        'Job task-2 failed: "the subject left the picture". '
        "api.myrouter.ai gives no remedy. It may pass by itself; a new try is a new job: ask the user. "
        "Whether it was billed: see the console of api.myrouter.ai."
    )
