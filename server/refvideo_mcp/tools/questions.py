"""What only the user may decide: asked through the client, where it can ask, before anything is paid."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mcp.server.elicitation import AcceptedElicitation, CancelledElicitation, ElicitationResult
from mcp.server.mcpserver.resolve import Elicit, ListRoots, Resolve
from mcp_types import ListRootsResult
from mcp_types.version import is_version_at_least
from pydantic import BaseModel, Field

from refvideo_mcp.errors import Refused, clean
from refvideo_mcp.spec import GenerateCall
from refvideo_mcp.tools.spec_tool import arrived, last_question
from refvideo_mcp.tools.state import Ctx, state_of

__all__ = ["Buying", "Pictures", "Roots", "Saving", "Twin", "folders_of", "granted", "may_buy", "released"]

ASKS_BETWEEN_CALLS = "2026-07-28"
CONFIRM_SECONDS = 25.0


class Permission(BaseModel):
    """The user's answer about a folder."""

    allow: bool = Field(description="Allow it, now and later?")


class Release(BaseModel):
    """The user's answer about a job whose submission was never answered."""

    send_again: bool = Field(description="Send it again? It may then be paid for twice.")


class Purchase(BaseModel):
    """The user's answer about what a job takes of the allowance."""

    buy: bool = Field(description="Buy it?")


class Joining(Purchase):
    """Nobody was asked: the call joins an earlier job."""


def granted(answer: ElicitationResult[Permission]) -> bool:
    return isinstance(answer, AcceptedElicitation) and answer.data.allow


def released(answer: ElicitationResult[Release]) -> bool:
    return isinstance(answer, AcceptedElicitation) and answer.data.send_again


def folders_of(roots: ListRootsResult) -> list[Path]:
    """The client's folders on this machine."""
    files = [urlsplit(str(root.uri)) for root in roots.roots]
    return [Path(url2pathname(file.path)) for file in files if file.scheme == "file"]


def client_roots(call: GenerateCall, ctx: Ctx) -> ListRootsResult | ListRoots:
    """The client's folders, asked for only where a local path is in play."""
    images = [image for subject in call.subjects for image in subject.images]
    is_local = call.save_to or any(not image.strip().startswith(("https:", "http:", "data:")) for image in images)
    capabilities = ctx.client_capabilities
    if is_local and state_of(ctx).shows_paths and capabilities is not None and capabilities.roots is not None:
        return ListRoots()
    return ListRootsResult(roots=[])


Roots = Annotated[ListRootsResult, Resolve(client_roots)]


async def ask_for_pictures(call: GenerateCall, roots: Roots, ctx: Ctx) -> Permission | Elicit[Permission]:
    """Ask once per folder before its pictures leave this machine."""
    jobs = state_of(ctx).jobs
    folders = await jobs.permissions.pictures_to_ask_about(call, folders_of(roots))
    if not folders or not _can_ask(ctx):
        return Permission(allow=False)
    return Elicit(f"Send pictures from {_listed(folders)} to {jobs.buying.pictures_go_to}?", Permission)


Pictures = Annotated[ElicitationResult[Permission], Resolve(ask_for_pictures)]


async def ask_for_saving(call: GenerateCall, roots: Roots, ctx: Ctx) -> Permission | Elicit[Permission]:
    """Ask once per folder before a video is put there."""
    jobs = state_of(ctx).jobs
    folder = await jobs.permissions.folder_to_ask_about(call.save_to, folders_of(roots)) if call.save_to else None
    if folder is None or not _can_ask(ctx):
        return Permission(allow=False)
    return Elicit(f"Save videos in {_listed([folder])}?", Permission)


Saving = Annotated[ElicitationResult[Permission], Resolve(ask_for_saving)]


async def ask_about_twin(call: GenerateCall, roots: Roots, pictures: Pictures, ctx: Ctx) -> Release | Elicit[Release]:
    """Ask the user, and only the user, before a job is sent again that may exist already."""
    jobs = state_of(ctx).jobs
    folders = folders_of(roots)
    if granted(pictures):
        await jobs.permissions.allow_pictures(await jobs.permissions.pictures_to_ask_about(call, folders))
    twin = await jobs.buying.uncertain_twin(call, folders) if _can_ask(ctx) else None
    if twin is None:
        return Release(send_again=False)
    return Elicit(
        f"This job was sent before ({twin.key}) and its answer was lost: it may exist and be billed. "
        "Please look for it in the router's console first. Send it again?",
        Release,
    )


Twin = Annotated[ElicitationResult[Release], Resolve(ask_about_twin)]


async def ask_before_buying(call: GenerateCall, roots: Roots, twin: Twin, ctx: Ctx) -> Purchase | Elicit[Purchase]:
    """Ask the user before a video is bought, where they want to be asked."""
    state = state_of(ctx)
    if state.confirm_above is None or call.duration <= state.confirm_above or released(twin):
        return Purchase(buy=True)
    offer = await state.jobs.buying.offer(call, folders_of(roots), key=call.idempotency_key, begun=arrived())
    if not offer.buys:
        return Joining(buy=False)
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
    left = f" {offer.seconds_left} s are left in today's allowance." if offer.seconds_left is not None else ""
    return Elicit(f'Buy {call.duration} s of video at {call.resolution}: "{clean(call.prompt, 100)}"?{left}', Purchase)


Buying = Annotated[ElicitationResult[Purchase], Resolve(ask_before_buying)]


def may_buy(answer: ElicitationResult[Purchase]) -> bool:
    """Whether something may be bought; False where nothing is to be.

    Raises:
        Refused: the user did not agree.
    """
    if isinstance(answer, AcceptedElicitation) and (answer.data.buy or isinstance(answer.data, Joining)):
        return answer.data.buy
    closed = isinstance(answer, CancelledElicitation)
    raise Refused(
        "The user closed the question without an answer." if closed else "The user said no.",
        "Nothing was sent or bought. Do not call again unless they ask for it.",
    )


def _can_ask(ctx: Ctx) -> bool:
    elicitation = ctx.client_capabilities.elicitation if ctx.client_capabilities else None
    if elicitation is None or (elicitation.form is None and elicitation.url is not None):
        return False
    # The older protocol asks while the call is open, which a stateless connection cannot carry.
    return is_version_at_least(ctx.protocol_version or "", ASKS_BETWEEN_CALLS) or ctx.session.can_send_request


def _listed(folders: Sequence[Path]) -> str:
    return " and ".join(clean(str(folder), 200) for folder in folders[:3])
