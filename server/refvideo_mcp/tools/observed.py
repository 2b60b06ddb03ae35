"""What an operator sees of the calls: a line in the log for each, and measures for whoever runs OpenTelemetry.

No prompt, no picture and no link is in either.
"""

import logging
import time
from collections.abc import Collection
from typing import Any

from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext
from opentelemetry import metrics

from refvideo_mcp.errors import clean
from refvideo_mcp.tools.state import state_in

__all__ = ["observed"]

log = logging.getLogger("refvideo_mcp.calls")

_meter = metrics.get_meter("refvideo_mcp")
_seconds = _meter.create_histogram("mcp.server.operation.duration", "s", "How long a request took")
_under_way = _meter.create_up_down_counter("refvideo.calls.under_way", "{call}", "Requests that are not answered yet")
_answers = _meter.create_counter("refvideo.answers", "{answer}", "Answers of tools, by what they tell of a job")

# Of a job about which there is nothing to complain.
STATES = ("submitting", "queued", "processing", "succeeded")


def observed(tools: Collection[str]) -> ServerMiddleware[Any]:
    """Middleware for a server with these tools."""

    async def observe(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        began, params = time.monotonic(), ctx.params or {}
        tool = None
        if ctx.method == "tools/call":
            tool = (
                name if (name := params.get("name")) in tools else "unknown"
            )  # callers are not to fill a table of names
        outcome, task_id = "cancelled", params.get("taskId")
        about = {"mcp.method.name": ctx.method} | ({"gen_ai.tool.name": tool} if tool else {})
        _under_way.add(1, about)
        try:
            result = await call_next(ctx)
            told = (
                result if isinstance(result, dict) else result.model_dump(by_alias=True) if result is not None else {}
            )
            outcome, task_id = _outcome(told), (told.get("structuredContent") or {}).get("task_id", task_id)
            return result
        except MCPError as error:
            outcome = f"error {error.error.code}"
            raise
        except Exception as error:
            outcome = type(error).__qualname__
            raise
        finally:
            seconds = time.monotonic() - began
            failed = {} if outcome in ("ok", *STATES) else {"error.type": outcome}
            _under_way.add(-1, about)
            _seconds.record(seconds, about | failed)
            if tool:
                _answers.add(1, {"gen_ai.tool.name": tool, "outcome": outcome})
            call = {
                "account": state_in(ctx).owner,
                "method": ctx.method,
                "tool": tool,
                "task_id": clean(task_id, 80) if isinstance(task_id, str) else None,
                "outcome": outcome,
                "seconds": round(seconds, 3),
            }
            call = {name: value for name, value in call.items() if value is not None}
            log.info(" ".join(f"{name}={value}" for name, value in call.items()), extra={"call": call})

    return observe


def _outcome(told: dict[str, Any]) -> str:
    """The state of the job that an answer tells of, if it tells of one."""
    state = (told.get("structuredContent") or {}).get("state")
    if isinstance(state, str):
        return state
    return "refused" if told.get("isError") else "ok"
