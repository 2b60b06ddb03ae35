"""The cast, where agents and people look: a resource, names that a client completes, a line in the list of jobs."""

import base64
import json
import re
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver.exceptions import ResourceError
from mcp.server.mcpserver.resources import Resource
from mcp_types import Completion, CompletionArgument, CompletionContext, PromptReference, ResourceTemplateReference

from refvideo_mcp.errors import Refused, clean
from refvideo_mcp.jobs import Member
from refvideo_mcp.tools.state import ServerState, state_in

__all__ = ["CastResource", "cast_line", "cast_rows", "complete_names", "know_caller"]

CAST = "refvideo://cast"
MOST_COMPLETED = 100
MOST_SHOWN = 20
WORDS_OF_ONE = 6

_state: ContextVar[ServerState] = ContextVar("_state")


async def know_caller(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware for what the SDK calls without a context."""
    if ctx.method in ("completion/complete", "resources/read"):
        _state.set(state_in(ctx))
    return await call_next(ctx)


class CastResource(Resource):
    """Everybody who is kept, with a small picture of each."""

    async def read(self) -> str:
        try:
            cast = _state.get().account.cast
            members = (await cast.members())[:MOST_SHOWN]
            portraits = await cast.portraits(members)
        except Refused as error:
            raise ResourceError(str(error)) from error
        return json.dumps([_told(*found) for found in zip(members, portraits, strict=True)], ensure_ascii=False)

    @classmethod
    def build(cls) -> "CastResource":
        return cls(
            uri=CAST,
            name="cast",
            title="Cast",
            description="Saved subjects, the last used first: a call takes them by their id alone.",
            mime_type="application/json",
        )


def _told(member: Member, portrait: bytes | None) -> dict[str, Any]:
    facts = {
        "id": member.name,
        "about": member.about,
        "pictures": len(member.pictures),
        "voice_id": member.voice_id,
        "last_used_at": datetime.fromtimestamp(member.last_used_at, UTC).isoformat(timespec="seconds"),
        "picture": portrait and f"data:image/jpeg;base64,{base64.b64encode(portrait).decode()}",
    }
    return {name: fact for name, fact in facts.items() if fact}


async def complete_names(
    ref: PromptReference | ResourceTemplateReference,
    argument: CompletionArgument,
    context: CompletionContext | None,
) -> Completion:
    """Names of the cast for the word that is being written: after @ anywhere, and where pictures are asked for."""
    before, sign, begun = re.fullmatch(r"(.*?)(@?)([^\s,;@]*)", argument.value, re.DOTALL).groups()  # type: ignore[union-attr]
    if not sign and argument.name != "images":
        return Completion(values=[])
    try:
        members = await _state.get().account.cast.members()
    except Refused:  # a menu is no place to say why
        members = []
    names = [member.name for member in members if member.name.casefold().startswith(begun.casefold())]
    values = [f"{before}@{name}" for name in names[:MOST_COMPLETED]]
    return Completion(values=values, total=len(names), has_more=len(names) > len(values))


def cast_line(members: Sequence[Member]) -> str:
    """Who is in the cast, in a line of a text; "" where nobody is."""
    shown = [_named(member) for member in members[:MOST_SHOWN]]
    more = f" and {len(members) - MOST_SHOWN} more" if len(members) > MOST_SHOWN else ""
    return f"Cast, taken by id alone: {', '.join(shown)}{more}." if shown else ""


def cast_rows(members: Sequence[Member]) -> list[dict[str, str]]:
    """The same in a structure."""
    rows = [{"id": member.name, "about": member.about} for member in members[:MOST_SHOWN]]
    return [{name: text for name, text in row.items() if text} for row in rows]


def _named(member: Member) -> str:
    words = clean(member.about).split()
    about = " ".join(words[:WORDS_OF_ONE]) + ("…" if len(words) > WORDS_OF_ONE else "")
    return f"@{clean(member.name, 40)}" + (f" ({about})" if about else "")
