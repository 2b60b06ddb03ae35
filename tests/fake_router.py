"""The router as a function: it keeps jobs, answers when a test says so, and writes down what arrived.

And an agent before it: the window it works in, and the calls it makes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.extension import ClientExtension
from mcp.client.session import ElicitationFnT
from mcp_types import (
    CallToolResult,
    CancelledNotification,
    CancelledNotificationParams,
    Implementation,
    TextContent,
)

from marker import KEY
from refvideo_mcp.app import build_server
from refvideo_mcp.jobs import Clock
from refvideo_mcp.settings import Settings

BROKEN = "broken"
NEVER = float("inf")
CAT: dict[str, Any] = {"prompt": "@1 runs", "subjects": [{"images": "https://pictures.example/cat.png"}]}


@dataclass(frozen=True)
class Reply:
    """One answer. `after` is in seconds; `accepts` makes the job, whatever is answered; BROKEN = no answer at all."""

    status: int = 200
    body: dict[str, Any] | str | None = None  # None = the right one
    after: float = 0.0
    accepts: bool = True
    retry_after: float | None = None


LOST = Reply(body=BROKEN)
UNREACHABLE = Reply(body=BROKEN, accepts=False)


def refused(status: int, reason: str, *, after: float = 0.0, retry_after: float | None = None) -> Reply:
    body = {"code": status, "reason": reason, "message": "trace_id: 0123abcd"}
    return Reply(status, body, after, accepts=False, retry_after=retry_after)


@dataclass
class FakeRouter:
    """Jobs are done `takes` seconds after they were accepted, unless `fails` holds their reason.

    The first POSTs and the first polls get `submissions` and `results`; every later one gets `submission`, `result`.
    """

    clock: Clock
    takes: float = 60.0
    submission: Reply = Reply()
    result: Reply = Reply()
    submissions: list[Reply] = field(default_factory=list)
    results: list[Reply] = field(default_factory=list)
    fails: dict[str, str] = field(default_factory=dict)
    file_status: int = 200  # what the finished video's host answers; 0: it cannot be reached
    file_statuses: list[int] = field(default_factory=list)  # what it answers at first
    file: bytes = b"\0\0\0\x18ftypisom" + b"\0" * 1000
    file_after: float = 0.0  # seconds that it takes
    links: str = "https://cdn.example/{task_id}.mp4"  # {look} is another one at each look
    task: dict[str, Any] = field(default_factory=dict)  # what every answer about a task says beside its status
    fetched_at: list[float] = field(default_factory=list)
    posts: list[dict[str, Any]] = field(default_factory=list)
    posted_at: list[float] = field(default_factory=list)
    polls: list[tuple[float, str]] = field(default_factory=list)
    accepted: dict[str, float] = field(default_factory=dict)

    @property
    def transport(self) -> httpx2.MockTransport:
        return httpx2.MockTransport(self._handle)

    @property
    def tasks(self) -> Sequence[str]:
        return tuple(self.accepted)

    def polled(self, task_id: str) -> list[float]:
        """When the task was asked for, in seconds since it was accepted."""
        return [at - self.accepted[task_id] for at, polled in self.polls if polled == task_id]

    async def _handle(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "cdn.example":
            return await self._fetch(request)
        return await (self._submit(request) if request.method == "POST" else self._look(request))

    async def _fetch(self, request: httpx2.Request) -> httpx2.Response:
        self.fetched_at.append(self.clock.steady())
        status = self.file_statuses.pop(0) if self.file_statuses else self.file_status
        await self.clock.sleep(self.file_after)
        if status == 0:
            raise httpx2.ConnectError("Name or service not known", request=request)
        return httpx2.Response(status, content=self.file)

    async def _submit(self, request: httpx2.Request) -> httpx2.Response:
        self.posts.append(json.loads(request.content))
        self.posted_at.append(self.clock.steady())
        reply = self.submissions.pop(0) if self.submissions else self.submission
        task_id = f"task-{len(self.posts)}"
        if reply.accepts:
            self.accepted[task_id] = self.clock.steady()
        return await self._answer(request, reply, {"task_id": task_id})

    async def _look(self, request: httpx2.Request) -> httpx2.Response:
        task_id = request.url.params["task_id"]
        self.polls.append((self.clock.steady(), task_id))
        reply = self.results.pop(0) if self.results else self.result
        if task_id not in self.accepted:
            reply = refused(404, "TASK_NOT_FOUND") if reply.body is None else reply
            return await self._answer(request, reply, {})
        task, videos, extra = {"task_id": task_id, **self.task}, None, {}
        if self.clock.steady() - self.accepted[task_id] < self.takes:
            task["status"] = "TASK_STATUS_PROCESSING"
        elif reason := self.fails.get(task_id):
            task |= {"status": "TASK_STATUS_FAILED", "reason": reason}
        else:
            task["status"], extra = "TASK_STATUS_SUCCEED", {"seed": "7"}
            link = self.links.format(task_id=task_id, look=len(self.polls))
            videos = [{"video_url": link, "video_url_ttl": "3600", "video_type": "mp4"}]
        return await self._answer(request, reply, {"task": task, "videos": videos, "extra": extra})

    async def _answer(self, request: httpx2.Request, reply: Reply, right: dict[str, Any]) -> httpx2.Response:
        await self.clock.sleep(reply.after)
        if reply.body == BROKEN:
            raise httpx2.ReadError("connection reset", request=request)
        headers = {} if reply.retry_after is None else {"Retry-After": f"{reply.retry_after:g}"}
        return httpx2.Response(reply.status, json=right if reply.body is None else reply.body, headers=headers)


def process(
    router: FakeRouter,
    database: Path | str,
    *,
    mode: str = "auto",
    name: str = "an agent",
    elicitation_callback: ElicitationFnT | None = None,
    extensions: Sequence[ClientExtension] = (),
    **settings: Any,
) -> Client:
    """A client with a server process of its own, as one window of an IDE has it; `database` is the user's ledger."""
    server = build_server(
        Settings(**{"api_key": KEY, "database": database} | settings), transport=router.transport, clock=router.clock
    )
    info = Implementation(name=name, version="1")
    return Client(server, mode=mode, client_info=info, elicitation_callback=elicitation_callback, extensions=extensions)


async def submit(client: Client, prompt: str = "@1 runs", **arguments: Any) -> CallToolResult:
    return await client.call_tool("generate_reference_video", CAT | {"prompt": prompt} | arguments)


async def result(client: Client, task_id: str = "task-1", **arguments: Any) -> CallToolResult:
    return await client.call_tool("get_task_result", {"task_id": task_id, **arguments})


async def cancel(client: Client, request: int) -> None:
    """What a client sends that gives a request up, though the answer be on its way by then."""
    given_up = CancelledNotificationParams(request_id=request)
    await client.session.send_notification(CancelledNotification(params=given_up))


async def at_once(calls: int, client: Client) -> list[CallToolResult]:
    """The answers to identical calls that begin together."""
    answers: list[CallToolResult] = []

    async def call() -> None:
        answers.append(await submit(client))

    async with anyio.create_task_group() as tasks:
        for _ in range(calls):
            tasks.start_soon(call)
    return answers


async def jobs(client: Client, **arguments: Any) -> CallToolResult:
    return await client.call_tool("list_reference_videos", arguments)


async def files(folder: Path) -> list[str]:
    return sorted([path.name async for path in anyio.Path(folder).glob("*")])


def said(answer: CallToolResult) -> str:
    """What a client shows its model of an answer."""
    text = answer.content[0]
    assert isinstance(text, TextContent)
    return text.text


def told(answer: CallToolResult) -> dict[str, Any]:
    """What a client shows its model that reads structured content only."""
    assert isinstance(answer.structured_content, dict), said(answer)
    return answer.structured_content
