"""What only the user may decide: asked through the client, where it can ask, before anything is paid."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

import anyio
from mcp import MCPError
from mcp.server.elicitation import AcceptedElicitation, CancelledElicitation, ElicitationResult
from mcp.server.mcpserver.resolve import Elicit, ListRoots, Resolve
from mcp.shared.message import ServerMessageMetadata
from mcp_types import ListRootsRequest, ListRootsResult
from mcp_types.version import is_version_at_least
from pydantic import BaseModel, Field

from refvideo_mcp.errors import Refused
from refvideo_mcp.jobs import (
    Order,
    about_buying,
    about_keeping,
    about_pictures,
    about_saving,
    about_twin,
    declined,
)
from refvideo_mcp.schemas import GenerateCall, ResultCall
from refvideo_mcp.tools.spec_tool import caller, last_question
from refvideo_mcp.tools.state import Ctx, state_of

__all__ = [
    "Buying",
    "Keeping",
    "Ordered",
    "Pictures",
    "Place",
    "Roots",
    "Saving",
    "Twin",
    "agreed",
    "folders_of",
    "may_buy",
    "remember_place",
]

ASKS_BETWEEN_CALLS = "2026-07-28"
CONFIRM_SECONDS = 25.0
ROOTS_SECONDS = 5.0


class Permission(BaseModel):
    """The user's answer about a folder."""

    allow: bool = Field(description="Allow it, now and later?")


class Keeps(BaseModel):
    """The user's answer about pictures for later."""

    keep: bool = Field(description="Keep them?")


class Release(BaseModel):
    """The user's answer about a job whose submission was never answered."""

    send_again: bool = Field(description="Send it again? It may then be paid for twice.")


class Purchase(BaseModel):
    """The user's answer about what a job takes of the allowance."""

    buy: bool = Field(description="Buy it?")


class Unasked(Permission, Keeps, Release, Purchase):
    """Nobody had to be asked, or could be. `buy`: a new job, not only one that the call joins."""

    allow: bool = False
    keep: bool = False
    send_again: bool = False


Answer: TypeAlias = ElicitationResult[Permission] | ElicitationResult[Release] | ElicitationResult[Purchase]


def agreed(answer: Answer) -> bool:
    """Whether the user was asked and said yes; False where they were not asked.

    Raises:
        Refused: they were asked and did not say yes.
    """
    if isinstance(answer, AcceptedElicitation):
        match answer.data:
            case Unasked():
                return False
            case Permission(allow=True) | Release(send_again=True) | Purchase(buy=True):
                return True
    closed = isinstance(answer, CancelledElicitation)
    raise declined("The user closed the question without an answer.") if closed else declined()


def may_buy(answer: ElicitationResult[Purchase]) -> bool:
    """Whether something may be bought; False where the call only joins a job.

    Raises:
        Refused: the user did not agree.
    """
    if isinstance(answer, AcceptedElicitation) and isinstance(answer.data, Unasked):
        return answer.data.buy
    return agreed(answer)


def must_be_kept(answer: ElicitationResult[Keeps]) -> None:
    """That nobody was asked whether the pictures may be kept, or they said yes.

    Raises:
        Refused: they did not say yes.
    """
    if not (isinstance(answer, AcceptedElicitation) and (isinstance(answer.data, Unasked) or answer.data.keep)):
        raise Refused(
            "The user did not agree that the pictures are kept.",
            "Nothing was sent or bought: call again without remember.",
        )


def folders_of(roots: ListRootsResult) -> list[Path]:
    """The client's folders on this machine."""
    files = [urlsplit(str(root.uri)) for root in roots.roots]
    return [Path(url2pathname(file.path)) for file in files if file.scheme == "file"]


async def client_roots(call: GenerateCall | ResultCall, ctx: Ctx) -> ListRootsResult | ListRoots:
    """The client's folders, asked for only where a local path is in play; a client that fails at it has none."""
    subjects = call.subjects if isinstance(call, GenerateCall) else []
    images = [image for subject in subjects for image in subject.images or ()]
    is_local = call.save_to or any(not image.strip().startswith(("https:", "http:", "data:")) for image in images)
    capabilities = ctx.client_capabilities
    if is_local and state_of(ctx).shows_paths and capabilities is not None and capabilities.roots is not None:
        if is_version_at_least(ctx.protocol_version or "", ASKS_BETWEEN_CALLS):
            return ListRoots()
        with suppress(MCPError), anyio.move_on_after(ROOTS_SECONDS):
            during = ServerMessageMetadata(related_request_id=ctx.request_id)
            roots: ListRootsResult = await ctx.session.send_request(
                ListRootsRequest(), ListRootsResult, metadata=during
            )
            return roots
    return ListRootsResult(roots=[])


Roots = Annotated[ListRootsResult, Resolve(client_roots)]


async def with_cast(call: GenerateCall, ctx: Ctx) -> Order:
    return await state_of(ctx).account.cast.order(call)


Ordered = Annotated[Order, Resolve(with_cast)]


async def ask_for_pictures(order: Ordered, roots: Roots, ctx: Ctx) -> Permission | Elicit[Permission]:
    question = await about_pictures(state_of(ctx).account, order, folders_of(roots))
    return Elicit(question.text, Permission) if question and _can_ask(ctx) else Unasked(buy=False)


Pictures = Annotated[ElicitationResult[Permission], Resolve(ask_for_pictures)]


async def ask_for_saving(
    call: GenerateCall, roots: Roots, pictures: Pictures, ctx: Ctx
) -> Permission | Elicit[Permission]:
    agreed(pictures)
    return await ask_for_place(call, roots, ctx)


Saving = Annotated[ElicitationResult[Permission], Resolve(ask_for_saving)]


async def ask_for_place(call: GenerateCall | ResultCall, roots: Roots, ctx: Ctx) -> Permission | Elicit[Permission]:
    question = await about_saving(state_of(ctx).account, call.save_to, folders_of(roots)) if call.save_to else None
    return Elicit(question.text, Permission) if question and _can_ask(ctx) else Unasked(buy=False)


Place = Annotated[ElicitationResult[Permission], Resolve(ask_for_place)]


async def remember_place(call: GenerateCall | ResultCall, roots: Roots, place: Place, ctx: Ctx) -> None:
    """Allow the folder that the user was asked about and said yes to.

    Raises:
        Refused: they did not.
    """
    account, folders = state_of(ctx).account, folders_of(roots)
    if agreed(place) and call.save_to and (question := await about_saving(account, call.save_to, folders)):
        await question.allow()


async def ask_for_keeping(order: Ordered, saving: Saving, ctx: Ctx) -> Keeps | Elicit[Keeps]:
    """A client that cannot ask has been asked already: the flag is the user's wish."""
    agreed(saving)
    question = await about_keeping(state_of(ctx).account, order)
    return Elicit(question, Keeps) if question and _can_ask(ctx) else Unasked(buy=False)


Keeping = Annotated[ElicitationResult[Keeps], Resolve(ask_for_keeping)]


async def ask_about_twin(
    call: GenerateCall,
    order: Ordered,
    roots: Roots,
    pictures: Pictures,
    saving: Saving,
    keeping: Keeping,
    ctx: Ctx,
) -> Release | Elicit[Release]:
    """What was allowed is remembered here: the pictures have to be read to find the twin."""
    account, folders = state_of(ctx).account, folders_of(roots)
    must_be_kept(keeping)
    if agreed(pictures) and (question := await about_pictures(account, order, folders)):
        await question.allow()
    await remember_place(call, roots, saving, ctx)
    twin = await about_twin(account, order, folders) if _can_ask(ctx) else None
    return Elicit(twin, Release) if twin else Unasked(buy=False)


Twin = Annotated[ElicitationResult[Release], Resolve(ask_about_twin)]


async def ask_before_buying(
    call: GenerateCall, order: Ordered, roots: Roots, twin: Twin, ctx: Ctx
) -> Purchase | Elicit[Purchase]:
    state = state_of(ctx)
    question = await about_buying(
        state.account,
        order,
        folders_of(roots),
        key=call.idempotency_key,
        above=state.confirm_above,
        released=agreed(twin),
        caller=caller(),
    )
    if not question.text:
        return Unasked(buy=question.buys)
    if not _can_ask(ctx):
        raise Refused(
            "The user wants to be asked before a video is bought (REFVIDEO_CONFIRM), and this client cannot ask.",
            "Nothing was sent or bought. Tell the user: REFVIDEO_CONFIRM=never lets it go through.",
        )
    last_question(
        CONFIRM_SECONDS,
        Refused(
            f"Nobody answered within {CONFIRM_SECONDS:.2g} s whether to buy this video (REFVIDEO_CONFIRM asks).",
            "Nothing was sent or bought: ask the user, then call again.",
        ),
    )
    return Elicit(question.text, Purchase)


Buying = Annotated[ElicitationResult[Purchase], Resolve(ask_before_buying)]


def _can_ask(ctx: Ctx) -> bool:
    elicitation = ctx.client_capabilities.elicitation if ctx.client_capabilities else None
    if elicitation is None or (elicitation.form is None and elicitation.url is not None):
        return False
    # The older protocol asks while the call is open, which a stateless connection cannot carry.
    return is_version_at_least(ctx.protocol_version or "", ASKS_BETWEEN_CALLS) or ctx.session.can_send_request
