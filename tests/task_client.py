"""A client that takes tasks: it declares the extension, and polls as it is told to."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Literal

import anyio
from mcp import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.session import ClientSession
from mcp_types import CallToolResult, Request, Result
from pydantic import ConfigDict

__all__ = ["TakesTasks", "ask"]


class TaskRequest(Request[dict[str, Any], str]):
    """`tasks/get`, `tasks/update` or `tasks/cancel`."""

    name_param: ClassVar[str | None] = "taskId"  # what the Mcp-Name header repeats
    method: str
    params: dict[str, Any]


class Anything(Result):
    model_config = ConfigDict(extra="allow")


class CreatedTask(Result):
    model_config = ConfigDict(extra="allow")
    result_type: Literal["task"] = "task"


async def ask(client: Client | ClientSession, method: str, task_id: str, **params: Any) -> dict[str, Any]:
    """One request about a task; the result as it came, without what is on every result."""
    session = client.session if isinstance(client, Client) else client
    request = TaskRequest(method=method, params={"taskId": task_id, **params})
    answer = (await session.send_request(request, Anything)).model_dump(by_alias=True, mode="json", exclude_none=True)
    return {name: value for name, value in answer.items() if name != "_meta"}


class TakesTasks(ClientExtension):
    """Polls a task to its end, `sleep`ing as long as the server asks; `seen` is all that it was told."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = anyio.sleep) -> None:
        self._sleep = sleep
        self.seen: list[dict[str, Any]] = []

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=self._resolve)]

    async def _resolve(self, created: CreatedTask, context: ClaimContext) -> CallToolResult:
        task = created.model_dump(by_alias=True, mode="json", exclude={"meta"})
        self.seen.append(task)
        while task["status"] == "working":
            await self._sleep(task["pollIntervalMs"] / 1000)
            task = await ask(context.session, "tasks/get", task["taskId"])
            self.seen.append(task)
        return CallToolResult.model_validate(task["result"])
