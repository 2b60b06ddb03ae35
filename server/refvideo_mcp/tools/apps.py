"""What the player gets from the tools, beside what the agent reads."""

import base64
from typing import Annotated

from mcp.server.apps import client_supports_apps
from mcp_types import CallToolResult, TextContent, ToolAnnotations

from refvideo_mcp.errors import clean
from refvideo_mcp.jobs import failure, is_lost, loss
from refvideo_mcp.ledger import Job
from refvideo_mcp.schemas import AddedPictures, AddPicturesCall, PieceCall, VideoPiece
from refvideo_mcp.tools.spec_tool import spec_tool
from refvideo_mcp.tools.state import JOB_FACTS, PLAYER, Ctx, state_of

__all__ = ["add_pictures", "is_asked_by_player", "read_video_piece", "with_facts"]

PLAYER_MARK = "refvideo/player"


def is_asked_by_player(ctx: Ctx) -> bool:
    """Whether the player asks, so that the agent has still to be told."""
    return PLAYER_MARK in (ctx.request_context.meta or {})


async def with_facts(ctx: Ctx, result: CallToolResult, job: Job) -> CallToolResult:
    """The result with what the player cannot know otherwise; unchanged for clients without MCP Apps."""
    if not client_supports_apps(ctx):
        return result
    mark = (ctx.request_context.meta or {}).get(PLAYER_MARK)
    has_subjects = isinstance(mark, dict) and bool(mark.get("hasSubjects"))
    portraits = {} if has_subjects else await state_of(ctx).account.portraits(job)
    subjects = [
        {"id": clean(id, 40), "picture": f"data:image/jpeg;base64,{base64.b64encode(portrait).decode()}"}
        for id, portrait in portraits.items()
    ]
    # An age, not a time: the clock of the person's device may be another.
    seconds = (job.changed_at if job.ended else state_of(ctx).clock.now()) - job.opened_at
    facts = {
        "seconds": round(max(0.0, seconds), 1),
        "prompt": clean(job.prompt or "", 500),
        "subjects": subjects,
        "told": _told(job),
    }
    given = {name: fact for name, fact in facts.items() if fact not in ("", [])}
    return result.model_copy(update={"meta": {JOB_FACTS: given}})


def _told(job: Job) -> str:
    """Why there is no video, for whoever looks at the page."""
    if is_lost(job):
        return f"{loss(job)[:1].upper()}{loss(job)[1:]}."
    if job.state == "failed":
        return f"{clean(job.reason or '')}. {failure(job, job.gateway).advice.for_person}"
    return ""


@spec_tool(
    "Read a piece of a video",
    "For the player: a piece of a finished job's saved video.",
    ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False),
    ui={"resourceUri": PLAYER, "visibility": ["app"]},
)
async def read_video_piece(call: PieceCall, ctx: Ctx) -> Annotated[CallToolResult, VideoPiece]:
    piece = await state_of(ctx).account.chunk(call.task_id, call.offset)
    answer = VideoPiece(data=base64.b64encode(piece.content).decode(), size=piece.size, type=piece.type)
    end = call.offset + len(piece.content)
    return CallToolResult(
        content=[TextContent(type="text", text=f"Bytes {call.offset}-{end} of {piece.size}.")],
        structured_content=answer.model_dump(mode="json"),
    )


@spec_tool(
    "Add pictures",
    "For the player: a piece of the pictures that somebody gives for a subject. Starts no job.",
    ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False),
    ui={"resourceUri": PLAYER, "visibility": ["app"]},
)
async def add_pictures(call: AddPicturesCall, ctx: Ctx) -> Annotated[CallToolResult, AddedPictures]:
    account = state_of(ctx).account
    kept = await account.add_pictures(call.subject, call.upload, call.pictures, call.offset, call.data)
    text = f"The pictures of @{clean(call.subject, 40)} are here." if kept else "More is to come."
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content=AddedPictures(kept=kept).model_dump(mode="json"),
    )
