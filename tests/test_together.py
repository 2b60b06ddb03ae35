"""Many waits at once: the router is asked as often as for one each, and a ping hardly notices them."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp_types import EmptyResult, PingRequest

from misbehaving_router import MisbehavingRouter
from stdio_server import StdioServer

pytestmark = pytest.mark.anyio

TASKS, WAITS_EACH, LOOKS = 50, 10, 3
# A loop that something blocks answers after seconds; a machine that runs other tests meanwhile, after a few tens of ms.
PATIENCE_MS = 100


async def wait_for(client: Client, tasks: list[str]) -> list[str]:
    """The states in which the waits ended."""
    states: list[str] = []

    async def wait(task_id: str) -> None:
        result = await client.call_tool("get_task_result", {"task_id": task_id})
        states.append((result.structured_content or {}).get("state", str(result.content)))

    async with anyio.create_task_group() as waits:
        for task_id in tasks:
            waits.start_soon(wait, task_id)
    return states


class Pings:
    """Pings, one after the other, in milliseconds."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.found: list[float] = []

    async def go_on(self) -> None:
        while True:
            begun = time.perf_counter()
            # `Client.send_ping` warns that the newer protocol has none.
            await self._client.session.send_request(PingRequest(), EmptyResult)
            self.found.append(1000 * (time.perf_counter() - begun))
            await anyio.sleep(0.01)

    @property
    def median(self) -> float:
        return statistics.median(self.found)


async def test_500_waits_on_50_tasks_ask_the_router_like_50_and_leave_pings_alone(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    alone = [f"alone-{n}" for n in range(TASKS)]
    together = [f"together-{n}" for n in range(TASKS)]
    async with (
        MisbehavingRouter() as router,
        StdioServer.running(tmp_path, router.url, REFVIDEO_LOG_LEVEL="warning") as server,
        Client(server.pipes(), mode="legacy") as client,  # the newer protocol has no ping
    ):
        router.accepted += alone + together
        router.polls_until_done = LOOKS
        assert await wait_for(client, alone) == ["succeeded"] * TASKS

        idle, busy = Pings(client), Pings(client)
        with anyio.move_on_after(1) as a_second:
            await idle.go_on()
        assert a_second.cancelled_caught
        async with anyio.create_task_group() as pinging:
            pinging.start_soon(busy.go_on)
            states = await wait_for(client, together * WAITS_EACH)
            pinging.cancel_scope.cancel()

    polls = [sum(router.polls[task_id] for task_id in tasks) for tasks in (alone, together)]
    record_property(
        "figures",
        f"{len(states)} waits on {TASKS} tasks: {polls[1]} polls, 50 waits: {polls[0]}; "
        f"median ping {busy.median:.1f} ms among them, {idle.median:.1f} ms idle "
        f"({len(busy.found)} pings, the longest {max(busy.found):.0f} ms)",
    )
    assert states == ["succeeded"] * TASKS * WAITS_EACH
    assert polls == [TASKS * LOOKS] * 2
    assert busy.median < max(3 * idle.median, PATIENCE_MS)
