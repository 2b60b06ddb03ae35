"""`refvideo-mcp cast`: whom the cast has, for people: add, list, show, rename, remove."""

import argparse
import base64
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from rich.cells import cell_len

from refvideo_mcp.cli.console import Console, agreed
from refvideo_mcp.cli.jobs import from_here, read_settings, run_with_jobs
from refvideo_mcp.cli.options import add_json_option
from refvideo_mcp.cli.results import print_line
from refvideo_mcp.errors import Refused, clean
from refvideo_mcp.jobs import Account, Member, about_pictures
from refvideo_mcp.schemas import GenerateCall, read_arguments
from refvideo_mcp.schemas.coercion import bare_id

__all__ = ["add_cast"]

Result = TypeVar("Result")

STEPS_WIDTH = len("pictures")
LONGEST_NAME, LONGEST_LINE = 40, 120
SHORTEST_LINE = 30
SHOWN_PIXELS = 240
KITTY_PIECE = 4096


def add_cast(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], None], does: str, example: str) -> Any:
        added = commands.add_parser(name, help=does, description=does, epilog=f"example: refvideo-mcp cast {example}")
        added.set_defaults(run=run)
        return added

    add = command("add", _add, "Keep somebody, or say more about them.", "add fox fox.png --about 'a red fox'")
    add.add_argument("name", metavar="NAME", help="the id in prompts, with or without @")
    add.add_argument("pictures", metavar="PICTURE", nargs="+", help="a path, a public URL or a data URI")
    add.add_argument("--voice", metavar="ID", help="the voice_id, for videos with --audio")
    add.add_argument("--about", metavar="LINE", help="what it is, for whoever looks later")
    add.add_argument("--replace", action="store_true", help="take these pictures instead of those that are kept")
    add_json_option(command("list", _list, "List everybody, the last used first.", "list"))
    show = command("show", _show, "Print what is kept of somebody, and where.", "show fox")
    show.add_argument("name", metavar="NAME")
    add_json_option(show)
    rename = command("rename", _rename, "Call somebody by another name.", "rename fox vixen")
    rename.add_argument("old", metavar="OLD")
    rename.add_argument("new", metavar="NEW")
    remove = command("remove", _remove, "Delete what is kept of somebody. Nothing is asked.", "remove fox")
    remove.add_argument("name", metavar="NAME")


def _add(options: argparse.Namespace) -> None:
    """Read and clean the pictures as a call does, and keep them."""
    call = _called(
        options.name,
        [from_here(picture) for picture in options.pictures],
        about=options.about,
        voice_id=options.voice,
        remember="replace" if options.replace else "yes",
    )
    (subject,) = call.subjects

    async def add(account: Account) -> Sequence[str]:
        order = await account.cast.order(call)
        question = await about_pictures(account, order)
        if question is not None and agreed(f"Later videos with {_at(subject.id)} send them. {question.text}"):
            await question.allow()
        prepared = await account.submitter.draft(order)
        for one in prepared.keep:
            await account.cast.keep(one)
        return prepared.loaded.warnings

    console = Console(sys.stderr, STEPS_WIDTH)
    for warning in _with_cast(add):
        console.noted("note", warning)
    print_line(f"Kept as {_at(subject.id)}: {_count(len(options.pictures))}.")


def _list(options: argparse.Namespace) -> None:
    """Print everybody, and who is damaged."""

    async def look(account: Account) -> tuple[list[Member], list[tuple[Path, str | None]]]:
        return await account.cast.members(), await account.cast.damaged()

    members, damaged = _with_cast(look)
    whole = [member for member in members if member.name not in {name for _, name in damaged}]
    if options.json:
        found = [{"id": name, "folder": str(folder)} for folder, name in damaged]
        _print_json({"cast": [_told(member) for member in whole]} | ({"damaged": found} if found else {}))
        return
    if whole:
        _print_table(whole, Console(sys.stdout, 0))
    elif not damaged:
        print("Nobody is in the cast yet: refvideo-mcp cast add NAME PICTURE.")
    console = Console(sys.stderr, STEPS_WIDTH)
    for folder, name in damaged:
        if name is None:
            console.failed("damaged", f"somebody whose name is lost. Add them again with --replace, or delete {folder}")
        else:
            console.failed("damaged", f"{_at(name)} ({folder}). Add it again with --replace, or remove it.")


def _show(options: argparse.Namespace) -> None:
    """Print what is kept of one; the pictures alone on stdout, and to be seen on a terminal that can show them."""
    name = bare_id(options.name)

    async def look(account: Account) -> Member:
        return await account.cast.member(name)

    member = _with_cast(look)
    if options.json:
        _print_json(_told(member))
        return
    console = Console(sys.stderr, STEPS_WIDTH)
    facts = {"name": _at(member.name), "about": member.about, "voice": member.voice_id, "used": _day(member)}
    for what, fact in facts.items():
        if fact:
            console.noted(what, clean(fact, LONGEST_LINE))
    for kept, picture in zip(member.pictures, _pictures(member), strict=True):
        if not isinstance(kept, str) and sys.stdout.isatty() and (drawn := _drawn(kept.path)):
            print(drawn)
        print_line(picture)


def _rename(options: argparse.Namespace) -> None:
    """Call one by another name, which has to be one that a call may give."""
    old, new = bare_id(options.old), _called(options.new, ["-"]).subjects[0].id

    async def rename(account: Account) -> None:
        await account.cast.rename(old, new)

    _with_cast(rename)
    print_line(f"{_at(old)} is {_at(new)} from now on.")


def _remove(options: argparse.Namespace) -> None:
    """Delete one, readable or not."""
    name = bare_id(options.name)

    async def remove(account: Account) -> Member | None:
        return await account.cast.remove(name)

    member = _with_cast(remove)
    had = "whatever was left of it" if member is None else f"its {_count(len(member.pictures))}"
    print_line(f"Removed {_at(name)} and {had}.")


def _with_cast(work: Callable[[Account], Awaitable[Result]]) -> Result:
    """Run `work` on the account's cast.

    Raises:
        RefvideoError: as `work` does, or there is no cast.
    """
    settings = read_settings(needs_memory=False)
    if settings.sandbox:
        raise Refused(
            "MYROUTER_API_KEY=sandbox simulates the router inside one command, and keeps nobody when that ends.",
            "To keep somebody on a simulated router, run refvideo-mcp sandbox, which says what to set.",
        )
    if settings.data_dir is None:
        raise Refused("REFVIDEO_DATA_DIR=off: nobody is kept.", "Leave it out, or let it name a folder.")
    return run_with_jobs(settings, work)


def _called(name: str, pictures: list[str], *, remember: str = "yes", **facts: str | None) -> GenerateCall:
    """What a call would hold that keeps them: so the same is refused.

    Raises:
        InvalidCall: such a call would be.
    """
    subject = {"id": name, "images": pictures, "remember": remember, **facts}
    return read_arguments(GenerateCall, {"prompt": "It is kept.", "subjects": [subject], "audio": True})


def _print_table(members: Sequence[Member], console: Console) -> None:
    """On a terminal what it is has the rest of the line; a program gets all of it."""
    width = max(cell_len(_at(member.name)) for member in members)
    head = f"{_padded('name', width)}  pictures  {'last used':<16}  "
    room = max(console.columns - len(head), SHORTEST_LINE) if console.is_terminal else LONGEST_LINE
    console.line(head, "dim", "about", "dim")
    for member in members:
        start = f"{_padded(_at(member.name), width)}  {len(member.pictures):>8}  {_day(member)}  "
        about = clean(member.about, room)
        console.line(start if about else start.rstrip(), "", about, "dim")


def _drawn(picture: Path) -> str:
    """What makes this terminal show the picture, small; "" where it is not known to show any."""
    is_kitty = "KITTY_WINDOW_ID" in os.environ or os.environ.get("TERM") == "xterm-kitty"
    if not is_kitty and os.environ.get("TERM_PROGRAM") not in ("iTerm.app", "WezTerm"):
        return ""
    from PIL import Image

    png = BytesIO()
    with Image.open(picture) as small:
        small.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS))
        small.save(png, "PNG")
    text = base64.b64encode(png.getvalue()).decode()
    if not is_kitty:
        return f"\033]1337;File=inline=1;size={png.tell()}:{text}\a"
    pieces = [text[start : start + KITTY_PIECE] for start in range(0, len(text), KITTY_PIECE)]
    heads = ["a=T,f=100,m=1", *["m=1"] * (len(pieces) - 1), "m=0"]  # an empty piece ends them
    return "".join(f"\033_G{head};{piece}\033\\" for head, piece in zip(heads, [*pieces, ""], strict=True))


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _day(member: Member) -> str:
    return f"{datetime.fromtimestamp(member.last_used_at).astimezone():%Y-%m-%d %H:%M}"


def _at(name: str) -> str:
    return f"@{clean(name, LONGEST_NAME)}"


def _count(pictures: int) -> str:
    return "one picture" if pictures == 1 else f"{pictures} pictures"


def _pictures(member: Member) -> list[str]:
    return [picture if isinstance(picture, str) else str(picture.path) for picture in member.pictures]


def _told(member: Member) -> Mapping[str, Any]:
    facts = {
        "id": member.name,
        "about": member.about,
        "voice_id": member.voice_id,
        "pictures": _pictures(member),
        "saved_at": _time(member.saved_at),
        "last_used_at": _time(member.last_used_at),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _print_json(told: Mapping[str, Any]) -> None:
    print(json.dumps(told, indent=2))  # in ASCII, which every terminal and pipe can carry
