"""Jobs as tasks: the router's job is the task, under the router's own id."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mcp.server.context import HandlerResult
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams, CallToolResult, TextContent
from mcp_types.jsonrpc import INTERNAL_ERROR

from refvideo_mcp.errors import InvalidCall, RefvideoError, UnknownTask
from refvideo_mcp.jobs import JobStatus, progress_message
from refvideo_mcp.schemas import ResultCall, read_arguments
from refvideo_mcp.tasks.extension import Ctx, Task, no_such_task
from refvideo_mcp.tools import ServerState, answer_about

__all__ = ["JobTasks"]

STARTS_JOBS = "generate_reference_video"
# The ledger forgets nothing that is younger, and nothing at all unasked.
LASTS_SECONDS = 24 * 3600.0
NO_CANCEL = "Cancelling was asked for, but the router has no cancel: the job goes on."


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
        status = await _state(ctx).account.status(task_id, tell=False) if task_id else None
        if status is None or status.over:
            return answer
        (said, *_) = answer.content
        return _task(status, "working", said.text if isinstance(said, TextContent) else None)

    async def get(self, ctx: Ctx, task_id: str) -> Task:
        state = _state(ctx)
        try:
            handle = read_arguments(ResultCall, {"task_id": task_id}).task_id
        except InvalidCall as error:
            raise no_such_task(str(error)) from None
        try:
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


def _state(ctx: Ctx) -> ServerState:
    state: ServerState = ctx.lifespan_context
    return state


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
