"""`io.modelcontextprotocol/tasks` (SEP-2663) on the wire. What a task is, its backend knows.

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
from mcp_types import CallToolRequestParams, RequestParams
from mcp_types.jsonrpc import HEADER_MISMATCH, INVALID_PARAMS
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

__all__ = ["TASKS", "Ctx", "Task", "TaskBackend", "Tasks", "no_such_task"]

TASKS = "io.modelcontextprotocol/tasks"

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


def no_such_task(why: str) -> MCPError:
    return MCPError(INVALID_PARAMS, why)


def _takes_tasks(ctx: Ctx) -> bool:
    capabilities = ctx.session.client_capabilities
    declared = (capabilities.extensions if capabilities else None) or {}
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and TASKS in declared


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
