"""A server with the tools that the public conformance suite calls, on our Tasks extension and a backend in memory.

As a program of its own it serves HTTP: `python tests/tasks_server.py` prints its URL on the first line.
"""

import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import anyio
import anyio.abc
import uvicorn
from mcp import MCPError
from mcp.server.context import HandlerResult
from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context, MCPServer, require_client_extension
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp_types import CallToolRequestParams, InputRequiredResult
from pydantic import BaseModel

from refvideo_mcp.tasks import TASKS, Ctx, Task, Tasks, no_such_task

__all__ = ["server"]


class Answer(BaseModel):
    """What a task asks its user for."""

    name: str = ""
    confirm: bool = False


@dataclass
class Running:
    """A tool call that goes on by itself."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    status: Any = "working"
    outcome: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, anyio.Event] = field(default_factory=dict)
    created: float = field(default_factory=time.time)

    async def ask(self, *messages: str) -> None:
        """Ask all of it at once, and wait for every answer."""
        form = Answer.model_json_schema()
        self.asked = {message: anyio.Event() for message in messages}
        params = {message: {"mode": "form", "message": message, "requestedSchema": form} for message in messages}
        requests = {key: {"method": "elicitation/create", "params": params[key]} for key in messages}
        self.status, self.outcome = "input_required", {"inputRequests": requests}
        for event in self.asked.values():
            await event.wait()
        self.status, self.outcome = "working", {}

    def hear(self, key: str) -> None:
        self.outcome["inputRequests"].pop(key)
        self.asked[key].set()

    def end(self, status: str, **outcome: Any) -> None:
        self.status, self.outcome = status, outcome


QUESTIONS = {"confirm_delete": ["Delete it?"], "multi_input": ["Your name?", "Really?"]}


class MemoryTasks:
    """Every call becomes a task, but those of `greet` and those that first have a question to the client."""

    def __init__(self) -> None:
        self._running: dict[str, Running] = {}

    async def start(
        self, ctx: Ctx, params: CallToolRequestParams, call: Callable[[], Awaitable[HandlerResult]]
    ) -> Task | HandlerResult:
        if params.name == "greet":
            return await call()
        answer = await call() if params.name == "test_tool_with_task" else None
        if isinstance(answer, InputRequiredResult):
            return answer
        task_id, running = uuid.uuid4().hex, Running()
        self._running[task_id] = running

        async def run() -> None:
            with running.scope:
                await running.ask(*QUESTIONS.get(params.name, []))
                try:
                    result = answer or await call()
                except MCPError as error:
                    running.end("failed", error={"code": error.code, "message": error.message})
                else:
                    assert isinstance(result, BaseModel)
                    running.end("completed", result=result.model_dump(mode="json", by_alias=True, exclude_none=True))
            if running.scope.cancelled_caught:
                running.end("cancelled")

        tasks: anyio.abc.TaskGroup = ctx.lifespan_context
        tasks.start_soon(run)
        return await self.get(ctx, task_id)

    async def get(self, ctx: Ctx, task_id: str) -> Task:
        running = self._running.get(task_id)
        if running is None:
            raise no_such_task("There is no such task.")
        return Task(task_id, running.status, running.created, time.time(), 0.2, 600.0, outcome=running.outcome)

    async def update(self, ctx: Ctx, task_id: str, responses: Mapping[str, Any]) -> None:
        running = self._running[task_id]
        for key in responses.keys() & running.outcome.get("inputRequests", {}).keys():
            running.hear(key)

    async def cancel(self, ctx: Ctx, task_id: str) -> None:
        self._running[task_id].scope.cancel()


def ask_for_name() -> Elicit[Answer]:
    return Elicit("What is your name?", Answer)


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[anyio.abc.TaskGroup]:
    async with anyio.create_task_group() as tasks:
        yield tasks
        tasks.cancel_scope.cancel()


def server() -> MCPServer[anyio.abc.TaskGroup]:
    app = MCPServer("conformance fixtures", extensions=[Tasks(MemoryTasks())], lifespan=lifespan, log_level="ERROR")

    @app.tool()
    def greet(name: str) -> str:
        return f"Hello, {name}!"

    @app.tool()
    async def slow_compute(seconds: float, label: str = "") -> str:
        await anyio.sleep(seconds)
        return f"{label} took {seconds:g} s"

    @app.tool()
    def failing_job(ctx: Context[anyio.abc.TaskGroup, Any]) -> str:
        require_client_extension(ctx.request_context, TASKS)
        raise ToolError("It failed, as it should.")

    @app.tool()
    def protocol_error_job() -> str:
        raise MCPError(-32603, "It broke, as it should.")

    @app.tool()
    def confirm_delete(filename: str) -> str:
        return f"{filename} is deleted"

    @app.tool()
    def multi_input() -> str:
        return "Both answers came."

    @app.tool()
    def test_tool_with_task(answer: Annotated[ElicitationResult[Answer], Resolve(ask_for_name)]) -> str:
        return f"Hello, {answer.data.name if isinstance(answer, AcceptedElicitation) else 'stranger'}!"

    return app


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp\n")
    sys.stdout.flush()
    app = server().streamable_http_app(stateless_http=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
