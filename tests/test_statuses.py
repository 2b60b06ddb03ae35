"""What the router says in words of its own, against what it shows: when a job has ended, and what is told meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from fake_router import FakeRouter, Reply, process, result, said, submit, told
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

LINK = "https://cdn.example/task-1.mp4"


def saying(status: str, reason: str = "", **more: Any) -> Reply:
    return Reply(body={"task": {"task_id": "task-1", "status": status, "reason": reason}, **more})


@pytest.mark.parametrize("status", ["TASK_STATUS_SUCCEEDED", "SUCCESS", "COMPLETED", "TASK_STATUS_FAILED", "WHATEVER"])
async def test_a_video_is_a_success_whatever_the_status(router: FakeRouter, ledger: Path, status: str) -> None:
    router.result = saying(status, "sorry", videos=[{"video_url": LINK}])
    async with process(router, ledger) as client:
        await submit(client)
        answer = told(await result(client))
    assert (answer["state"], answer["videos"][0]["url"]) == ("succeeded", LINK)
    assert not {"raw_status", "reason"} & answer.keys()
    assert len(router.polls) == 1


@pytest.mark.parametrize("status", ["FAILED", "TASK_STATUS_CANCELED", "TIMEOUT", "TASK_STATUS_EXPIRED"])
async def test_a_failure_in_other_words_ends_the_job_when_it_was_said_three_times(
    router: FakeRouter, ledger: Path, status: str
) -> None:
    router.result = saying(status, "the worker went away")
    async with process(router, ledger) as client:
        await submit(client)
        answer = await result(client)
    assert answer.is_error
    assert said(answer).startswith('Job task-1 failed: "the worker went away".')
    assert told(answer)["state"] == "failed"
    assert len(router.polls) == 3


async def test_a_failure_in_other_words_that_is_taken_back_is_none(router: FakeRouter, ledger: Path) -> None:
    router.takes = 0
    failed, other = saying("TIMEOUT", "slow"), saying("TIMEOUT", "slower")
    router.results = [failed, failed, other, failed, failed, saying("TASK_STATUS_PROCESSING"), failed, failed]
    async with process(router, ledger) as client:
        await submit(client)
        for _ in range(3):
            answer = await result(client)
            if told(answer)["state"] == "succeeded":
                break
    assert told(answer)["state"] == "succeeded"
    assert len(router.polls) == 9


async def test_an_unknown_status_is_no_end_and_its_reason_is_shown(router: FakeRouter, ledger: Path) -> None:
    router.result = saying("TASK_STATUS_PAUSED", "the queue is being moved")
    async with process(router, ledger) as client:
        await submit(client)
        reports: list[str] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            reports.append(message or "")

        answer = await client.call_tool("get_task_result", {"task_id": "task-1"}, progress_callback=note)
    assert reports[-1] == "processing (TASK_STATUS_PAUSED: the queue is being moved)"
    assert not answer.is_error
    assert 'api.myrouter.ai says "TASK_STATUS_PAUSED: the queue is being moved"' in said(answer)
    assert told(answer)["state"] == "processing"
    assert told(answer)["raw_status"] == "TASK_STATUS_PAUSED"
    assert told(answer)["reason"] == "the queue is being moved"


async def test_a_video_that_comes_later_than_the_success_is_waited_for(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    empty = saying("TASK_STATUS_SUCCEED", videos=[])
    router.takes, router.results = 0, [empty] * 5
    async with process(router, ledger) as client:
        await submit(client)
        answer = await result(client)
    assert (told(answer)["state"], clock.steady() < 60) == ("succeeded", True)


async def test_a_success_without_a_video_is_a_failure_after_a_minute_for_the_routers_support(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.result = saying("TASK_STATUS_SUCCEED", videos=[])
    async with process(router, ledger) as client:
        await submit(client)
        first = await result(client)
        answer = await result(client)
    assert told(first)["state"] == "processing"
    assert 62 <= clock.steady() <= 75
    assert answer.is_error
    assert "the router says that it succeeded but gives no video: ask its support" in said(answer)
    assert told(answer)["reason"] == "the router says that it succeeded but gives no video: ask its support"
