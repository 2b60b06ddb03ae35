"""A job is never paid for twice: what may have been accepted is never sent again."""

from pathlib import Path

import pytest
from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult

from fake_router import LOST, FakeRouter, Reply, at_once, process, said, submit, told
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])
ENGINE = "order-2026-11-23-0007"


@BOTH_ERAS
async def test_four_identical_calls_at_once_are_four_takes(router: FakeRouter, ledger: Path, mode: str) -> None:
    async with process(router, ledger, mode=mode) as client:
        answers = await at_once(4, client)

    assert {told(answer)["task_id"] for answer in answers} == {"task-1", "task-2", "task-3", "task-4"}
    assert len(router.posts) == 4


@BOTH_ERAS
async def test_an_answer_after_61_seconds_is_found_by_the_call_repeated_at_65(
    clock: VirtualClock, router: FakeRouter, ledger: Path, mode: str
) -> None:
    router.submissions = [Reply(after=61)]
    router.takes = 120
    async with process(router, ledger, mode=mode) as client:
        first = await submit(client)
        assert clock.steady() == 45
        assert told(first)["state"] == "submitting"
        await clock.sleep(20)
        again = await submit(client)

    assert said(again).startswith(
        "Job task-1 is processing. A video takes 0.5-5 minutes. "
        "An identical call had already started this job; nothing new was bought. "
    )
    assert len(router.posts) == 1


@BOTH_ERAS
async def test_the_same_idempotency_key_is_the_same_task(router: FakeRouter, ledger: Path, mode: str) -> None:
    async with process(router, ledger, mode=mode) as client, process(router, ledger, mode=mode) as another:
        first = await submit(client, idempotency_key=ENGINE)
        answers = [await submit(client, idempotency_key=ENGINE), await submit(another, idempotency_key=ENGINE)]

    assert told(first)["task_id"] == "task-1"
    for again in answers:
        assert told(again)["task_id"] == "task-1"
        assert "An identical call had already started this job; nothing new was bought." in said(again)
    assert len(router.posts) == 1


async def test_an_uncertain_job_is_reported_in_words_that_offer_no_way_round(router: FakeRouter, ledger: Path) -> None:
    router.submissions = [LOST]
    async with process(router, ledger) as client:
        answer = await submit(client)

    assert answer.is_error
    key = told(answer)["idempotency_key"]
    assert said(answer) == (
        "The connection to api.myrouter.ai broke before the answer. The job may have been accepted and billed all the "
        f"same. (Job {key}.) Do not submit again for this video. Tell the user, and ask them to look for "
        "the job in the console of api.myrouter.ai before anything else is made."
    )


@BOTH_ERAS
async def test_only_the_user_has_it_sent_again(router: FakeRouter, ledger: Path, mode: str) -> None:
    router.submissions = [LOST]
    questions: list[str] = []

    async def user(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="accept", content={"send_again": len(questions) > 1})

    async with process(router, ledger, mode=mode, elicitation_callback=user) as client:
        key = told(await submit(client))["idempotency_key"]
        refused = await submit(client)
        assert len(router.posts) == 1
        released = await submit(client)

    assert refused.is_error
    assert questions == 2 * [
        f"This job was sent before ({key}) and its answer was lost: it may exist and be billed. "
        "Please look for it in the console of api.myrouter.ai first. Send it again, and perhaps pay twice?"
    ]
    assert told(released)["task_id"] == "task-2"
