"""What only the user may decide, before anything is sent or bought: what has to be asked, and in which words.

A client's dialog and a terminal ask the same.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from refvideo_mcp.cast import listed
from refvideo_mcp.errors import Advice, Refused, clean
from refvideo_mcp.files import is_broad
from refvideo_mcp.jobs.account import Account
from refvideo_mcp.jobs.casting import Order
from refvideo_mcp.jobs.waiting_calls import Caller

__all__ = [
    "FolderQuestion",
    "PurchaseQuestion",
    "about_buying",
    "about_keeping",
    "about_pictures",
    "about_saving",
    "about_twin",
    "declined",
]


@dataclass(frozen=True)
class FolderQuestion:
    """`text` is for the user; `allow` remembers their yes."""

    text: str
    allow: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class PurchaseQuestion:
    """`text` is for the user, "" where they need not be asked. `buys`: a new job, not one that the call would join."""

    buys: bool
    text: str = ""


async def about_pictures(account: Account, order: Order, roots: Sequence[Path] = ()) -> FolderQuestion | None:
    """Once per folder, before its pictures leave this machine. `roots` are the client's folders."""
    folders = await account.consent.pictures_to_ask_about(order.without_lent, roots)
    if not folders:
        return None
    names = " and ".join(map(_named, folders))
    return FolderQuestion(
        f"Send pictures from {names} to {account.submitter.pictures_go_to}?",
        lambda: account.consent.allow_pictures(folders),
    )


async def about_saving(account: Account, save_to: str, roots: Sequence[Path] = ()) -> FolderQuestion | None:
    """Once per folder, before a video is put there."""
    folder = await account.consent.folder_to_ask_about(save_to, roots)
    if folder is None:
        return None
    return FolderQuestion(f"Save videos in {_named(folder)}?", lambda: account.consent.allow_saving(folder))


async def about_keeping(account: Account, order: Order) -> str | None:
    """Once per name, before its pictures are kept.

    Raises:
        Refused: they could not be kept.
    """
    names = await account.cast.new_names(order)
    here = "computer" if account.consent.local else "server"
    return f"Keep the pictures of {listed(names)} on this {here} for later videos?" if names else None


async def about_twin(account: Account, order: Order, roots: Sequence[Path] = ()) -> str | None:
    """Before a job is sent again that may exist already."""
    twin = await account.submitter.uncertain_twin(order, roots)
    if twin is None:
        return None
    return (
        f"This job was sent before ({twin.key}) and its answer was lost: it may exist and be billed. "
        f"Please look for it in the console of {account.host} first. Send it again, and perhaps pay twice?"
    )


async def about_buying(
    account: Account,
    order: Order,
    roots: Sequence[Path] = (),
    *,
    key: str | None = None,
    above: int | None,
    released: bool,
    caller: Caller | None = None,
) -> PurchaseQuestion:
    """Before a video of more than `above` seconds is bought, None = never; `released`: they said yes to it already.

    Raises:
        Refused: the call would be refused anyway.
    """
    request = order.request
    if above is None or request.duration <= above or released:
        return PurchaseQuestion(buys=True)
    quote = await account.submitter.quote(order, roots, key=key, caller=caller)
    if not quote.buys:
        return PurchaseQuestion(buys=False)
    left = f" {quote.allowance}" if quote.allowance else ""
    return PurchaseQuestion(
        True, f'Buy {request.duration} s of video at {request.resolution}: "{clean(request.prompt, 100)}"?{left}'
    )


def declined(said: str = "The user said no.") -> Refused:
    """What is answered to whoever asked for it."""
    bought = "Nothing was sent or bought."
    return Refused(said, Advice(f"{bought} Do not call again unless they ask for it.", bought))


def _named(folder: Path) -> str:
    name = clean(str(folder), 200)
    return f"{name} (that folder alone)" if is_broad(folder) else name
