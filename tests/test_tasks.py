"""The Tasks extension: the router's job is the task. What the public suite asks of its wire is in test_conformance."""

from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.extension import advertise

from fake_router import LOST, NEVER, UNREACHABLE, FakeRouter, Reply, files, process, refused, said, told
from http_server import HttpServer
from misbehaving_router import MisbehavingRouter
from task_client import TakesTasks, ask
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

ORDER = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
GENERATE = "generate_reference_video"


async def call(client: Client) -> dict[str, Any]:
    """What the server answers to the tool call itself, task or not."""
    answer = await client.session.call_tool(GENERATE, ORDER, allow_claimed=True)
    return answer.model_dump(by_alias=True, mode="json", exclude_none=True)


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
async def test_a_client_that_does_not_declare_the_extension_sees_no_difference(
    router: FakeRouter, ledger: Path, era: str
) -> None:
    """In the older revisions there is nothing to declare: what is under the same name there means something else."""
    extensions = [advertise("io.modelcontextprotocol/tasks")] if era == "legacy" else []
    async with process(router, ledger, mode=era, extensions=extensions) as client:
        started = await client.call_tool(GENERATE, ORDER)
        with pytest.raises(MCPError) as refusal:
            await ask(client, "tasks/get", "task-1")
    assert (started.is_error, told(started)["task_id"], told(started)["state"]) == (False, "task-1", "queued")
    assert refusal.value.error.code == (-32601 if era == "legacy" else -32021)


@pytest.mark.parametrize(
    ("submission", "is_error", "state"),
    [(Reply(after=60), False, "submitting"), (UNREACHABLE, True, "uncertain"), (LOST, True, "uncertain")],
    ids=["answered late", "unreachable", "answer lost"],
)
async def test_without_a_task_id_there_is_no_task(
    router: FakeRouter, ledger: Path, submission: Reply, is_error: bool, state: str
) -> None:
    router.submission = submission
    async with process(router, ledger, extensions=[TakesTasks()]) as client:
        answer = await call(client)
    assert (answer["resultType"], answer["isError"]) == ("complete", is_error)
    assert answer.get("structuredContent", {}).get("state") == state


async def test_the_next_process_answers_for_the_task_of_the_last(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 30
    async with process(router, ledger, extensions=[TakesTasks()]) as client:
        created = await call(client)
    async with process(router, ledger, extensions=[TakesTasks()]) as client:
        working = await ask(client, "tasks/get", created["taskId"])
        await clock.sleep(60)
        completed = await ask(client, "tasks/get", created["taskId"])
    assert [look["status"] for look in (created, working, completed)] == ["working", "working", "completed"]
    assert {look["createdAt"] for look in (created, working, completed)} == {created["createdAt"]}
    assert completed["result"]["structuredContent"]["videos"][0]["url"] == "https://cdn.example/task-1.mp4"


async def test_a_failed_job_is_a_completed_task_whose_result_is_an_error(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 5
    router.fails = {"task-1": "ILLEGAL_PROMPT"}
    takes_tasks = TakesTasks(clock.sleep)
    async with process(router, ledger, extensions=[takes_tasks]) as client:
        finished = await client.call_tool(GENERATE, ORDER)
    assert takes_tasks.seen[-1]["status"] == "completed"
    assert finished.is_error
    assert said(finished).startswith('Job task-1 failed: "ILLEGAL_PROMPT". The content rules refused the prompt')


async def test_a_client_is_told_to_ask_as_often_as_the_router_is_asked(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 120
    takes_tasks = TakesTasks(clock.sleep)
    async with process(router, ledger, extensions=[takes_tasks]) as client:
        await client.call_tool(GENERATE, ORDER)
    pauses = [look["pollIntervalMs"] for look in takes_tasks.seen[:-1]]
    assert 1800 <= min(pauses) <= 2200
    assert 9000 <= max(pauses) <= 11000
    # Somebody who asks by the clock makes the poller ask no more often than it would by itself.
    assert len(router.polls) <= 18


async def test_a_task_is_not_completed_while_its_file_is_about_to_be_there(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    """A CDN that lags refuses a link at first."""
    router.takes = 5
    router.file_statuses = [403] * 5
    takes_tasks = TakesTasks(clock.sleep)
    async with process(router, ledger, extensions=[takes_tasks], output_dir=videos) as client:
        finished = await client.call_tool(GENERATE, ORDER)
    assert said(finished).startswith("Done: the video is saved at")
    assert "its host answered 403" in takes_tasks.seen[-2]["statusMessage"]


async def test_a_file_that_came_late_and_was_deleted_is_fetched_again_for_its_task(tmp_path: Path) -> None:
    clock = VirtualClock()
    router = FakeRouter(clock, takes=5, file_statuses=[403])
    takes_tasks = TakesTasks(clock.sleep)
    client = process(router, tmp_path / "ledger.db", extensions=[takes_tasks], output_dir=tmp_path / "videos")
    async with clock.passing(), client:
        finished = await client.call_tool(GENERATE, ORDER)
        file = anyio.Path(told(finished)["videos"][0]["saved_to"])
        await clock.sleep(1)
        await file.unlink()
        await ask(client, "tasks/get", "task-1")
        assert await file.exists()


async def test_a_task_whose_file_may_never_come_is_completed_with_its_link(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.takes = 5
    router.file_status = 403
    takes_tasks = TakesTasks(clock.sleep)
    async with process(router, ledger, extensions=[takes_tasks], output_dir=videos) as client:
        finished = await client.call_tool(GENERATE, ORDER)
    assert said(finished).startswith("Done: https://cdn.example/task-1.mp4")
    assert "its host answered 403" in said(finished)
    assert 40 < clock.steady() < 180


async def test_a_task_is_completed_when_the_file_is_there_and_not_before(
    clock: VirtualClock, ledger: Path, videos: Path
) -> None:
    class SlowVideos(FakeRouter):
        async def _handle(self, request: httpx2.Request) -> httpx2.Response:
            await self.clock.sleep(20 if request.url.host == "cdn.example" else 0)
            return await super()._handle(request)

    takes_tasks = TakesTasks(clock.sleep)
    async with process(SlowVideos(clock, takes=5), ledger, extensions=[takes_tasks], output_dir=videos) as client:
        finished = await client.call_tool(GENERATE, ORDER)
    messages = [look.get("statusMessage") for look in takes_tasks.seen]
    assert messages.count("succeeded, saving the video") > 2
    (name,) = await files(videos)
    assert told(finished)["videos"][0]["saved_to"] == str(videos / name)


async def test_a_video_that_cannot_be_saved_completes_its_task_with_the_link(
    clock: VirtualClock, ledger: Path, videos: Path
) -> None:
    class NoVideos(FakeRouter):
        async def _handle(self, request: httpx2.Request) -> httpx2.Response:
            if request.url.host == "cdn.example":
                return httpx2.Response(200, content=b"this is no video")
            return await super()._handle(request)

    async with process(
        NoVideos(clock, takes=5),
        ledger,
        extensions=[TakesTasks(clock.sleep)],
        output_dir=videos,
    ) as client:
        finished = await client.call_tool(GENERATE, ORDER)
    assert said(finished).startswith("Done: https://cdn.example/task-1.mp4 (the link dies about ")


async def test_a_router_that_does_not_answer_leaves_the_task_working_and_says_so(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.result = refused(503, "SERVICE_NOT_AVAILABLE")
    async with process(router, ledger, extensions=[TakesTasks()]) as client:
        await call(client)
        await clock.sleep(30)
        look = await ask(client, "tasks/get", "task-1")
    assert look["status"] == "working"
    assert look["statusMessage"] == (
        'api.myrouter.ai answered 503 SERVICE_NOT_AVAILABLE: "trace_id: 0123abcd". '
        "The job is not affected: ask again in a minute."
    )


async def test_cancelling_is_acknowledged_but_stops_nothing_that_is_paid_for(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.takes = 30
    async with process(router, ledger, extensions=[TakesTasks()], output_dir=videos) as client:
        await call(client)
        acknowledged = await ask(client, "tasks/cancel", "task-1")
        working = await ask(client, "tasks/get", "task-1")
        await clock.sleep(60)
        completed = await ask(client, "tasks/get", "task-1")
    assert acknowledged == {"resultType": "complete"}
    assert working["status"] == "working"
    assert working["statusMessage"].endswith("Cancelling was asked for, but the router has no cancel: the job goes on.")
    assert completed["status"] == "completed"
    assert len(await files(videos)) == 1


async def test_input_that_nobody_asked_for_is_acknowledged(router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger, extensions=[TakesTasks()]) as client:
        await call(client)
        acknowledged = await ask(client, "tasks/update", "task-1", inputResponses={"a": {"action": "accept"}})
    assert acknowledged == {"resultType": "complete"}


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
@pytest.mark.parametrize(
    ("task_id", "why"),
    [
        ("gone", "api.myrouter.ai does not know the task gone. The newest jobs here: task-1."),
        ("no id at all", "`task_id` must be the job's id or key as it was given"),
        ("a-key-of-the-caller", "This is no task id. The job's own is task-1."),
    ],
    ids=["unknown", "malformed", "a key"],
)
async def test_what_is_no_task_is_an_invalid_parameter(
    router: FakeRouter, ledger: Path, method: str, task_id: str, why: str
) -> None:
    router.takes = NEVER
    async with process(router, ledger, extensions=[TakesTasks()]) as client:
        order = ORDER | {"idempotency_key": "a-key-of-the-caller"}
        await client.session.call_tool(GENERATE, order, allow_claimed=True)
        with pytest.raises(MCPError) as refusal:
            await ask(client, method, task_id)
    assert refusal.value.error.code == -32602
    assert refusal.value.error.message.startswith(why)


async def test_over_http_a_task_is_finished_by_links_and_its_header_must_name_it(tmp_path: Path) -> None:
    async with (
        MisbehavingRouter() as router,
        HttpServer.running(tmp_path, router.url) as server,
        Client(server.url, extensions=[TakesTasks()]) as client,
    ):
        finished = await client.call_tool(GENERATE, ORDER)
        envelope = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
        }
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tasks/get",
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"taskId": "task-1", "_meta": envelope}}
        async with httpx2.AsyncClient(headers=headers) as http:
            answers = [
                await http.post(server.url, json=body, headers={"Mcp-Name": "task-1"}),
                await http.post(server.url, json=body, headers={"Mcp-Name": "task-2"}),
                await http.post(server.url, json=body),
            ]
    assert told(finished)["videos"][0]["url"] == router.video_url("task-1")
    assert answers[0].json()["result"]["status"] == "completed"
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers[1:]] == [(400, -32020)] * 2
