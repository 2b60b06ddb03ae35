"""A job that was accepted is never lost: not with its answer, nor with its process, nor with its link."""

from datetime import datetime
from pathlib import Path

import pytest

from fake_router import FakeRouter, files, jobs, process, result, said, submit, told
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])


async def test_a_restart_goes_on_with_unfinished_jobs_unasked(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await submit(client, "@1 sleeps")
    assert await files(videos) == []
    async with process(router, ledger, output_dir=videos) as client:
        await clock.sleep(120)
        saved = await files(videos)
        listed = await jobs(client)

    assert len(saved) == 2
    assert sorted(Path(job["saved_to"]).name for job in told(listed)["jobs"]) == saved


@BOTH_ERAS
async def test_videos_that_finished_while_nobody_looked_are_told_once(
    clock: VirtualClock, router: FakeRouter, ledger: Path, mode: str
) -> None:
    router.takes = 10
    async with process(router, ledger, mode=mode) as client:
        await submit(client, "@1 wakes up")
        await clock.sleep(1)
        await submit(client, "@1 runs")
        await clock.sleep(60)
        first = await submit(client, "@1 sleeps")
        second = await submit(client, "@1 dreams")

    news = "Since you last looked, 2 more videos finished: task-2, task-1."
    assert said(first).endswith(news)
    assert told(first)["next_step"].endswith(news)
    assert "Since" not in said(second)


async def test_a_dead_link_is_replaced_on_demand(clock: VirtualClock, router: FakeRouter, ledger: Path) -> None:
    router.takes = 10
    async with process(router, ledger) as client:
        await submit(client)
        first = await result(client)
        asked = len(router.polls)
        alive = await result(client)
        assert len(router.polls) == asked
        await clock.sleep(3600)
        fresh = await result(client)

    assert told(alive) == told(first)
    assert len(router.polls) == asked + 1
    expires_at = [datetime.fromisoformat(told(answer)["videos"][0]["expires_at"]) for answer in (first, fresh)]
    assert (expires_at[1] - expires_at[0]).total_seconds() == 3600
