"""A tool whose arguments are one model of the request spec, flat on the wire."""

import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import anyio
from mcp import MCPError
from mcp.server.apps import client_supports_apps
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import ConfigDict

from refvideo_mcp.errors import Refused, RefvideoError, clean
from refvideo_mcp.jobs import Caller, NotInCast, answer_of
from refvideo_mcp.ledger import Job
from refvideo_mcp.schemas import SpecModel, portable_schema, read_arguments
from refvideo_mcp.tools.answers import in_words, without_paths
from refvideo_mcp.tools.field import FIELD, with_field
from refvideo_mcp.tools.state import JOB_FACTS, Ctx, caller_of, state_of

__all__ = ["SpecTool", "caller", "last_question", "spec_tool"]

QUESTION_SECONDS = 40.0
UNASKED = "Nothing was sent or bought. Tell the user; do not call again unless they ask for it."


@dataclass
class _Questions:
    """What the user is asked during one call: until when, and what is said if they do not answer."""

    scope: anyio.CancelScope
    caller: Caller
    unanswered: Refused


_questions: ContextVar[_Questions] = ContextVar("_questions")


def caller() -> Caller:
    """Who makes the call."""
    return _questions.get().caller


def last_question(seconds: float, unanswered: Refused) -> None:
    """Say that what is asked next is the last question, and that it waits so long only, where anything waits for it."""
    questions = _questions.get()
    questions.scope.deadline = min(questions.scope.deadline, anyio.current_time() + seconds)
    questions.unanswered = unanswered


def _after_questions(work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The tool's own work, which begins when the questions to the user are over: their time limit is not for it."""

    async def begin(**arguments: Any) -> Any:
        _questions.get().scope.deadline = math.inf
        return await work(**arguments)

    return begin


class SpecTool(Tool):
    """Publishes the model's portable schema, validates with the model, and speaks our errors in one place."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    spec: type[SpecModel]

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        try:
            call = read_arguments(self.spec, arguments)
            unanswered = Refused(
                "Nobody answered the question in time.", "Nothing was sent or bought: ask the user, then call."
            )
            with anyio.move_on_after(QUESTION_SECONDS) as scope:
                questions = _Questions(scope, caller_of(context), unanswered)
                _questions.set(questions)
                with state_of(context).account.call():
                    return await super().run({"call": call}, context, convert_result)
            raise questions.unanswered
        except RefvideoError as error:
            return _spoken(error, context)
        except UnexpectedToolError as error:
            if isinstance(error.__cause__, RefvideoError):
                return _spoken(error.__cause__, context)
            raise
        except ToolError:  # only the SDK raises it: an accepted question came back without what was asked for
            happened = (
                "The client says that the user accepted the question, but not what they answered: that is no yes."
            )
            return _spoken(Refused(happened, UNASKED), context)
        except MCPError as error:  # the client's own answer to a question
            happened = f"The client failed at a question of this call ({clean(error.message, 100)})."
            return _spoken(Refused(happened, UNASKED), context)


def spec_tool(
    title: str, description: str, annotations: ToolAnnotations, ui: dict[str, Any] | None = None
) -> Callable[[Callable[..., Any]], Callable[[], SpecTool]]:
    """Make a tool of `async def f(call: SpecModel, …, ctx: Ctx) -> Annotated[CallToolResult, Answer]`: `f()` builds it.

    `ui` is what MCP Apps read of it.
    """

    def declared(function: Callable[..., Any]) -> Callable[[], SpecTool]:
        def build() -> SpecTool:
            types = get_type_hints(function, include_extras=True)
            spec, (_, answer) = types["call"], get_args(types["return"])
            meta = {"ui": ui} if ui else None
            tool = Tool.from_function(
                function,
                description=description,
                title=title,
                annotations=annotations,
                meta=meta,
                structured_output=False,  # or each answer, which its own model has just made, would be checked again
            )
            fields = {name: getattr(tool, name) for name in Tool.model_fields}  # `model_dump` leaves the function out
            fields["fn"] = _after_questions(function)
            fields["parameters"] = portable_schema(spec)
            fields["fn_metadata"].output_schema = portable_schema(answer)
            return SpecTool(**fields, spec=spec)

        return build

    return declared


def _spoken(error: RefvideoError, ctx: Ctx) -> CallToolResult:
    state = state_of(ctx)
    task_id = clean(error.task_id or "", 80)
    task = f" Job: {task_id}." if task_id and task_id not in str(error) else ""
    text = f"{state.sign}{error}{task}"
    structure = None
    if isinstance(error.job, Job):
        job = error.job if state.shows_paths else without_paths(error.job)
        structure = answer_of(job, text).model_dump(mode="json", exclude_none=True)
        text = f"{text} {in_words(job)}".strip()
    facts: dict[str, Any] = {"told": error.for_person, "isRefused": isinstance(error, Refused)}
    if not client_supports_apps(ctx):
        facts = {}
    elif isinstance(error, NotInCast) and state.account.cast.takes_guests:
        facts |= {"missing": list(error.ids), "goesTo": state.account.submitter.pictures_go_to}
        text = f"{with_field(text)} {FIELD}"
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content=structure,
        is_error=True,
        _meta={JOB_FACTS: facts} if facts else None,
    )
