"""What an operator sees of the calls: a line in the log for each, and measures for whoever runs OpenTelemetry.

No prompt, no picture and no link is in either.
"""

import logging
import time
from collections.abc import Collection
from typing import Any

from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext
from mcp_types.jsonrpc import METHOD_NOT_FOUND
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
        outcome, task_id = "cancelled", params.get("taskId")
        _under_way.add(1)
        try:
            result = await call_next(ctx)
            outcome, told_of = _outcome(result)
            task_id = told_of or task_id
            return result
        except MCPError as error:
            outcome = f"error {error.error.code}"
            raise
        except Exception as error:
            outcome = type(error).__qualname__
            raise
        finally:
            seconds = time.monotonic() - began
            # Callers are not to fill a table of names.
            method = "unknown" if outcome == f"error {METHOD_NOT_FOUND}" else ctx.method
            name = params.get("name") if method == "tools/call" else None
            tool = name if isinstance(name, str) and name in tools else "unknown" if name else None
            about = {"mcp.method.name": method} | ({"gen_ai.tool.name": tool} if tool else {})
            _under_way.add(-1)
            _seconds.record(seconds, about | ({} if outcome in ("ok", *STATES) else {"error.type": outcome}))
            if tool:
                _answers.add(1, {"gen_ai.tool.name": tool, "outcome": outcome})
            call = {
                "account": state_in(ctx).owner,
                "method": method,
                "tool": tool,
                "task_id": clean(task_id, 80) if isinstance(task_id, str) else None,
                "outcome": outcome,
                "seconds": round(seconds, 3),
            }
            call = {name: value for name, value in call.items() if value is not None}
            log.info(" ".join(f"{name}={value}" for name, value in call.items()), extra={"call": call})

    return observe


def _outcome(result: Any) -> tuple[str, str | None]:
    """The state of the job that an answer tells of, and its id, if it tells of one."""
    if isinstance(result, dict):
        structure, is_error = result.get("structuredContent"), result.get("isError")
    else:
        structure, is_error = getattr(result, "structured_content", None), getattr(result, "is_error", False)
    told = structure if isinstance(structure, dict) else {}
    return told.get("state") or ("refused" if is_error else "ok"), told.get("task_id")
