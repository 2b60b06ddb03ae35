"""The tools: arguments in, jobs asked, answers out."""

from dataclasses import replace
from typing import Annotated

from mcp_types import CallToolResult, ToolAnnotations

from refvideo_mcp.errors import Refused, clean
from refvideo_mcp.jobs import Member, progress_message
from refvideo_mcp.ledger import Job
from refvideo_mcp.schemas import GenerateCall, JobAnswer, JobList, ListCall, ResultCall
from refvideo_mcp.tools.answers import NOTHING_ELSE, Around, job_list, job_result, news, with_last_frame, without_paths
from refvideo_mcp.tools.apps import is_asked_by_player, with_facts
from refvideo_mcp.tools.questions import (
    Buying,
    Ordered,
    Place,
    Roots,
    Twin,
    agreed,
    folders_of,
    may_buy,
    remember_place,
)
from refvideo_mcp.tools.spec_tool import caller, spec_tool
from refvideo_mcp.tools.state import PLAYER, Ctx, ServerState, state_of

__all__ = ["answer_about", "generate_reference_video", "get_task_result", "list_reference_videos"]

# Most clients drop a call after 60 s. These two are documented to wait for minutes.
SAFE_WAIT_SECONDS = 50
PATIENT_CLIENTS = {"claude-code": 300, "gemini-cli-mcp-client": 300}

# Windows for people, which may show a link to a file. Programs get none: LangChain hands it on as a file for the
# provider to fetch, and its converters raise, after the video is paid. The path is in text and structure anyway.
LINK_CLIENTS = {"claude-ai", "cursor", "cursor-vscode", "visual studio code", "visual studio code - insiders"}
LINKS_SINCE = "2025-06-18"
# What the SDK calls a client that gave no name: an agent framework, mostly. Some put a picture into a message where
# their provider takes only text, which ends the run after the video is paid.
NAMELESS = "mcp"

MOST_OTHERS = 50


@spec_tool(
    "Make a video",
    "Start ONE paid job: a 1-10 s video that keeps the people or things in reference pictures. "
    "Returns a task_id; the video takes 0.5-5 minutes, and get_task_result waits for it. "
    "Never call this again because a job is slow. It cannot be cancelled.",
    ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True),
    ui={"resourceUri": PLAYER},
)
async def generate_reference_video(
    call: GenerateCall, order: Ordered, roots: Roots, twin: Twin, buying: Buying, ctx: Ctx
) -> Annotated[CallToolResult, JobAnswer]:
    buy = may_buy(buying)
    state = state_of(ctx)
    account = state.account
    submitted = account.submitter.submit(
        order,
        roots=folders_of(roots),
        key=call.idempotency_key,
        save_to=call.save_to,
        caller=caller(),
        release=agreed(twin),
        buy=buy,
    )
    async with submitted as done:
        sent = [*(clean(path.name, 60) for path in done.sent), *(f"{clean(name, 40)} (cast)" for name in done.members)]
        sent += [f"{clean(name, 40)} (chat)" for name in done.guests]
        around = Around(done.joined, sent, account.submitter.pictures_go_to, done.allowance, kept=done.kept)
        return await _answer(ctx, state, done.job, around)


@spec_tool(
    "Wait for a video",
    "Wait for a job and get its video, saved to disk where possible. Free. Not ready in time: you get its "
    "state; call again, without sleeping. A link that died: call again.",
    # With `save_to` it writes where its caller says. Nothing is ever written over, and a place that has the video
    # already gets no second copy.
    ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True),
    ui={"resourceUri": PLAYER},
)
async def get_task_result(
    call: ResultCall, roots: Roots, place: Place, ctx: Ctx
) -> Annotated[CallToolResult, JobAnswer]:
    state = state_of(ctx)
    await remember_place(call, roots, place, ctx)
    reported = -1.0

    async def on_progress(job: Job, seconds: float) -> None:
        nonlocal reported
        seconds = round(seconds, 1)
        if seconds > reported:  # MCP wants progress to grow
            reported = seconds
            await ctx.report_progress(seconds, message=progress_message(job))

    wait = min(call.wait_seconds, state.max_wait or _patience(ctx))
    tell = not is_asked_by_player(ctx)
    job = await state.account.wait(
        call.task_id, wait, on_progress, caller=caller(), save_to=call.save_to, roots=folders_of(roots), tell=tell
    )
    return await _answer(ctx, state, job, tell=tell)


@spec_tool(
    "List videos",
    "Jobs and their files, newest first, and the allowance: for a lost task_id, an earlier video, a variant. Free.",
    ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False),
)
async def list_reference_videos(call: ListCall, ctx: Ctx) -> Annotated[CallToolResult, JobList]:
    state = state_of(ctx)
    found = await state.account.search(call)
    ids = {job.id for job in found.jobs}
    beyond = [job for job in await _news(state) if job.id not in ids]
    others = await state.account.newest(MOST_OTHERS) if not found.jobs else []
    if not state.shows_paths:
        found = replace(found, jobs=[without_paths(job) for job in found.jobs])
    elif found.one:
        found = replace(found, jobs=[await with_last_frame(found.one)])
    cast, trouble = await _cast(state) if call.task_id is None and call.before is None else ([], "")
    after = " ".join(filter(None, (trouble, news(beyond))))
    return job_list(found, call, others, sign=state.sign, cast=cast, after=after, paths=state.shows_paths)


async def _answer(
    ctx: Ctx, state: ServerState, job: Job, around: Around = NOTHING_ELSE, *, tell: bool = True
) -> CallToolResult:
    client = _client(ctx)
    links = client in LINK_CLIENTS and (ctx.protocol_version or "") >= LINKS_SINCE
    result = await answer_about(job, state, around, links=links, pictures=client != NAMELESS, tell=tell)
    return await with_facts(ctx, result, job)


async def answer_about(
    job: Job,
    state: ServerState,
    around: Around = NOTHING_ELSE,
    *,
    links: bool = False,
    pictures: bool = True,
    tell: bool = True,
) -> CallToolResult:
    """What both job tools answer, with the news if an agent is told; `job_result` says what the arguments are."""
    around = replace(around, finished=await _news(state) if tell else ())
    return await job_result(
        job,
        sign=state.sign,
        now=state.clock.now(),
        links=links,
        pictures=pictures,
        paths=state.shows_paths,
        around=around,
    )


async def _cast(state: ServerState) -> tuple[list[Member], str]:
    """Who is in the cast, or why nobody can tell."""
    try:
        return await state.account.cast.members(), ""
    except Refused as error:
        return [], error.happened


async def _news(state: ServerState) -> list[Job]:
    finished = await state.account.news()
    return finished if state.shows_paths else [without_paths(job) for job in finished]


def _patience(ctx: Ctx) -> int:
    return PATIENT_CLIENTS.get(_client(ctx), SAFE_WAIT_SECONDS)


def _client(ctx: Ctx) -> str:
    params = ctx.session.client_params
    return params.client_info.name.lower() if params else ""
