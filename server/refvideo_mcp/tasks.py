"""The MCP Tasks extension, `io.modelcontextprotocol/tasks` (SEP-2663): a client that declares it gets a task to poll.

`Tasks` speaks the protocol; what a task is, its backend knows. Ours: the router's job is the task, under the router's
own id.

`notifications/tasks` is left out: the SDK's `subscriptions/listen` acknowledges its own kinds of events only, and an
extension cannot serve that method in its place. The specification makes it optional; clients poll.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import CallToolRequestParams, CallToolResult, RequestParams, TextContent
from mcp_types.jsonrpc import HEADER_MISMATCH, INTERNAL_ERROR, INVALID_PARAMS
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from refvideo_mcp.errors import InvalidCall, RefvideoError, UnknownTask
from refvideo_mcp.jobs import JobStatus, progress_message
from refvideo_mcp.schemas import ResultCall, read_arguments
from refvideo_mcp.tools import answer_about, state_in

__all__ = ["TASKS", "Ctx", "JobTasks", "Task", "TaskBackend", "Tasks", "no_such_task"]

TASKS = "io.modelcontextprotocol/tasks"
STARTS_JOBS = "generate_reference_video"
# The ledger forgets nothing that is younger, and nothing at all unasked.
LASTS_SECONDS = 24 * 3600.0
NO_CANCEL = "Cancelling was asked for, but the router has no cancel: the job goes on."

Ctx = ServerRequestContext[Any, Any]


@dataclass(frozen=True)
class Task:
    """A task as it stands. Times are epoch seconds; `lasts_seconds` count from its creation, None = for ever.

    `outcome` is what belongs to the status, as it goes on the wire: `result`, `error` or `inputRequests`.
    """

    id: str
    status: Literal["working", "input_required", "completed", "failed", "cancelled"]
    created_at: float
    updated_at: float
    ask_again_seconds: float
    lasts_seconds: float | None = None
    message: str | None = None
    outcome: Mapping[str, Any] = field(default_factory=dict)

    def on_the_wire(self) -> dict[str, Any]:
        """The `Task` of the specification."""
        return {
            "taskId": self.id,
            "status": self.status,
            "createdAt": _iso(self.created_at),
            "lastUpdatedAt": _iso(self.updated_at),
            "ttlMs": None if self.lasts_seconds is None else round(self.lasts_seconds * 1000),
            "pollIntervalMs": round(self.ask_again_seconds * 1000),
            **({"statusMessage": self.message} if self.message else {}),
        }


class TaskBackend(Protocol):
    """Where the tasks are."""

    async def start(
        self, ctx: Ctx, params: CallToolRequestParams, call: Callable[[], Awaitable[HandlerResult]]
    ) -> Task | HandlerResult:
        """Answer a tool call of a client that takes tasks: `call` runs the tool. `get` must know a returned task."""

    async def get(self, ctx: Ctx, task_id: str) -> Task:
        """The task as it stands.

        Raises:
            MCPError: there is none; see `no_such_task`.
        """

    async def update(self, ctx: Ctx, task_id: str, responses: Mapping[str, Any]) -> None:
        """Take answers to the `inputRequests` of a known task."""

    async def cancel(self, ctx: Ctx, task_id: str) -> None:
        """Hear that a known task is no longer wanted."""


class _TaskParams(RequestParams):
    task_id: str = Field(alias="taskId")


class _UpdateParams(_TaskParams):
    input_responses: dict[str, Any] = Field(default_factory=dict, alias="inputResponses")


class Tasks(Extension):
    """Serves the tasks of one backend, to clients of the stateless era that declare the extension on the request."""

    identifier = TASKS

    def __init__(self, backend: TaskBackend):
        self._backend = backend

    def methods(self) -> list[MethodBinding]:
        modern = frozenset(MODERN_PROTOCOL_VERSIONS)
        return [
            MethodBinding("tasks/get", _TaskParams, self._get, modern),
            MethodBinding("tasks/update", _UpdateParams, self._update, modern),
            MethodBinding("tasks/cancel", _TaskParams, self._cancel, modern),
        ]

    async def intercept_tool_call(self, params: CallToolRequestParams, ctx: Ctx, call_next: CallNext) -> HandlerResult:
        if not _takes_tasks(ctx):
            return await call_next(ctx)
        started = await self._backend.start(ctx, params, lambda: call_next(ctx))
        return {"resultType": "task", **started.on_the_wire()} if isinstance(started, Task) else started

    async def _get(self, ctx: Ctx, params: _TaskParams) -> dict[str, Any]:
        task = await self._known(ctx, params)
        return {**task.on_the_wire(), **task.outcome}

    async def _update(self, ctx: Ctx, params: _UpdateParams) -> dict[str, Any]:
        task = await self._known(ctx, params)
        await self._backend.update(ctx, task.id, params.input_responses)
        return {}

    async def _cancel(self, ctx: Ctx, params: _TaskParams) -> dict[str, Any]:
        task = await self._known(ctx, params)
        await self._backend.cancel(ctx, task.id)
        return {}

    async def _known(self, ctx: Ctx, params: _TaskParams) -> Task:
        require_client_extension(ctx, TASKS)
        headers = getattr(ctx.request, "headers", None)  # None on stdio
        if headers is not None and decode_header_value(headers.get(MCP_NAME_HEADER)) != params.task_id:
            raise MCPError(HEADER_MISMATCH, f"The {MCP_NAME_HEADER} header is not the taskId of the request.")
        return await self._backend.get(ctx, params.task_id)


class JobTasks:
    """A `TaskBackend` on the account's jobs: any process that shares their ledger answers for any of them."""

    def __init__(self) -> None:
        self._unwanted: set[str] = set()

    async def start(
        self, ctx: Ctx, params: CallToolRequestParams, call: Callable[[], Awaitable[HandlerResult]]
    ) -> Task | HandlerResult:
        """The job that the call has started, once the router has given its id; else what the tool says."""
        answer = await call()
        if params.name != STARTS_JOBS or not isinstance(answer, CallToolResult) or answer.is_error:
            return answer
        task_id = (answer.structured_content or {}).get("task_id")
        status = await state_in(ctx).account.status(task_id, tell=False) if task_id else None
        if status is None or status.over:
            return answer
        (said, *_) = answer.content
        return _task(status, "working", said.text if isinstance(said, TextContent) else None)

    async def get(self, ctx: Ctx, task_id: str) -> Task:
        state = state_in(ctx)
        try:
            handle = read_arguments(ResultCall, {"task_id": task_id}).task_id
        except InvalidCall as error:
            raise no_such_task(str(error)) from None
        try:
            with state.account.call():
                status = await state.account.status(handle)
        except UnknownTask as error:
            raise no_such_task(str(error)) from None
        except RefvideoError as error:
            raise MCPError(INTERNAL_ERROR, str(error)) from None
        if status.job.task_id != task_id:  # the ledger knows keys too
            raise no_such_task(f"This is no task id. The job's own is {status.job.task_id}.")
        if status.over:
            self._unwanted.discard(task_id)
            result = await answer_about(status.job, state)
            wire = result.model_dump(mode="json", by_alias=True, exclude_none=True)
            return _task(status, "completed", None, {"result": wire})
        message = status.last_error or f"{state.sign}{progress_message(status.job)}"
        return _task(status, "working", f"{message.rstrip('.')}. {NO_CANCEL}" if task_id in self._unwanted else message)

    async def update(self, ctx: Ctx, task_id: str, responses: Mapping[str, Any]) -> None:
        """No job ever asks for input."""

    async def cancel(self, ctx: Ctx, task_id: str) -> None:
        self._unwanted.add(task_id)


def no_such_task(why: str) -> MCPError:
    return MCPError(INVALID_PARAMS, why)


def _takes_tasks(ctx: Ctx) -> bool:
    capabilities = ctx.session.client_capabilities
    declared = (capabilities.extensions if capabilities else None) or {}
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and TASKS in declared


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _task(found: JobStatus, status: Any, message: str | None, outcome: Mapping[str, Any] | None = None) -> Task:
    job = found.job
    return Task(
        id=job.task_id or "",
        status=status,
        created_at=job.opened_at,
        updated_at=job.changed_at,
        ask_again_seconds=found.next_look_seconds,
        lasts_seconds=LASTS_SECONDS,
        message=message,
        outcome=outcome or {},
    )
