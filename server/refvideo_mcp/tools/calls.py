"""What the tools do: arguments in, jobs asked, answers out."""

from dataclasses import dataclass
from typing import Annotated, Any

from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp_types import CallToolResult
from pydantic import BaseModel, Field

from refvideo_mcp.errors import Refused
from refvideo_mcp.jobs import Clock, Jobs
from refvideo_mcp.ledger import Job
from refvideo_mcp.spec import GenerateCall, JobAnswer, JobList, ListCall, ResultCall
from refvideo_mcp.tools.answers import job_list, job_result, news, progress_message
from refvideo_mcp.tools.spec_tool import begin

__all__ = ["ServerState", "generate_reference_video", "get_task_result", "list_reference_videos"]

# Most clients drop a call after 60 s. These two are documented to wait for minutes.
SAFE_WAIT_SECONDS = 50
PATIENT_CLIENTS = {"claude-code": 300, "gemini-cli-mcp-client": 300}


@dataclass(frozen=True)
class ServerState:
    """What a running server hands its tools. `account` is None while no key is set; `max_wait` is in seconds."""

    account: Jobs | None
    clock: Clock
    sandbox: bool = False
    max_wait: int | None = None

    @property
    def jobs(self) -> Jobs:
        if self.account is None:
            raise Refused(
                "No API key is set, so no job can be started or read.",
                "Ask the user to put MYROUTER_API_KEY into this server's configuration and to restart it. "
                "MYROUTER_API_KEY=sandbox needs no account: it simulates the router and costs nothing.",
            )
        return self.account

    @property
    def sign(self) -> str:
        return "[sandbox] " if self.sandbox else ""


Ctx = Context[ServerState, Any]


class Release(BaseModel):
    """The user's answer about a job whose submission was never answered."""

    send_again: bool = Field(description="Send it again? It may then be paid for twice.")


async def ask_about_twin(call: GenerateCall, ctx: Ctx) -> Release | Elicit[Release]:
    """Ask the user, and only the user, before a job is sent again that may exist already."""
    capabilities = ctx.client_capabilities
    twin = await _state(ctx).jobs.uncertain_twin(call)
    if twin is None or capabilities is None or capabilities.elicitation is None:
        return Release(send_again=False)
    return Elicit(
        f"This job was sent before ({twin.key}) and its answer was lost: it may exist and be billed. "
        "Please look for it in the router's console first. Send it again?",
        Release,
    )


async def generate_reference_video(
    call: GenerateCall, release: Annotated[ElicitationResult[Release], Resolve(ask_about_twin)], ctx: Ctx
) -> Annotated[CallToolResult, JobAnswer]:
    begun = begin()
    state = _state(ctx)
    may_send_again = isinstance(release, AcceptedElicitation) and release.data.send_again
    done = await state.jobs.submit(call, key=call.idempotency_key, begun=begun, release=may_send_again)
    before = "An identical call had already started this job; nothing new was bought." if done.joined else ""
    left = f"{done.seconds_left} s left in today's allowance." if done.seconds_left is not None else ""
    return await _answer(ctx, done.job, before=before, after=left)


async def get_task_result(call: ResultCall, ctx: Ctx) -> Annotated[CallToolResult, JobAnswer]:
    begin()
    state = _state(ctx)
    reported = -1.0

    async def on_progress(job: Job, seconds: float) -> None:
        nonlocal reported
        seconds = round(seconds, 1)
        if seconds > reported:  # MCP wants progress to grow
            reported = seconds
            await ctx.report_progress(seconds, message=progress_message(job))

    wait = min(call.wait_seconds, state.max_wait or _patience(ctx))
    return await _answer(ctx, await state.jobs.wait(call.task_id, wait, on_progress))


async def list_reference_videos(call: ListCall, ctx: Ctx) -> Annotated[CallToolResult, JobList]:
    begin()
    state = _state(ctx)
    found = await state.jobs.newest(call.limit, [call.state] if call.state else [])
    shown = {job.id for job in found}
    beyond = [job for job in await state.jobs.news() if job.id not in shown]
    return job_list(found, sign=state.sign, after=news(beyond))


async def _answer(ctx: Ctx, job: Job, *, before: str = "", after: str = "") -> CallToolResult:
    state = _state(ctx)
    after = f"{after} {news(await state.jobs.news())}".strip()
    return job_result(job, sign=state.sign, protocol=ctx.protocol_version or "", before=before, after=after)


def _patience(ctx: Ctx) -> int:
    params = ctx.session.client_params
    return PATIENT_CLIENTS.get(params.client_info.name.lower() if params else "", SAFE_WAIT_SECONDS)


def _state(ctx: Ctx) -> ServerState:
    return ctx.request_context.lifespan_context
