"""What only the user may decide, asked on the terminal. Where nobody can answer, the jobs layer refuses."""

import os
import signal
import sys

from refvideo_mcp.errors import Refused
from refvideo_mcp.images.spellings import kind_of
from refvideo_mcp.jobs import Jobs, about_buying, about_pictures, about_saving, about_twin
from refvideo_mcp.paths import NoPath, meant, unwrapped
from refvideo_mcp.schemas import GenerateCall

__all__ = ["ask_about_folders", "ask_about_twin", "ask_before_buying", "ask_for_saving", "from_here"]


def from_here(source: str) -> str:
    """A picture or place as it was typed, a relative path from the folder where the person is."""
    if kind_of(unwrapped(source)) != "path":
        return source
    try:
        text = meant(source)
    except NoPath:
        return source  # where it is read, it is refused
    if text.startswith("~"):
        return text
    return os.path.join(os.getcwd(), text)  # noqa: PTH109, PTH118  # pathlib would tidy what the checks should see


async def ask_about_folders(jobs: Jobs, call: GenerateCall) -> None:
    """Ask before pictures leave a folder, or a video is put into one, that the person has not allowed.

    Raises:
        Refused: they said no.
    """
    pictures = await about_pictures(jobs, call)
    if pictures is not None and _agreed(pictures.text):
        await pictures.allow()
    if call.save_to:
        await ask_for_saving(jobs, call.save_to)


async def ask_for_saving(jobs: Jobs, place: str) -> None:
    """Ask before a video is put into a folder that the person has not allowed.

    Raises:
        Refused: they said no.
    """
    saving = await about_saving(jobs, place)
    if saving is not None and _agreed(saving.text):
        await saving.allow()


async def ask_about_twin(jobs: Jobs, call: GenerateCall) -> bool:
    """Whether the person lets a job be sent again that may exist already; False where there is none.

    Raises:
        Refused: they said no.
    """
    twin = await about_twin(jobs, call)
    return twin is not None and _agreed(twin)


async def ask_before_buying(jobs: Jobs, call: GenerateCall, *, above: int | None, released: bool, yes: bool) -> bool:
    """Whether a new job may be bought; False where the call only joins one. `yes` was said beforehand.

    Raises:
        Refused: they said no, or there is nobody to ask.
    """
    question = await about_buying(jobs, call, above=above, released=released)
    if question.text and not yes and not _agreed(question.text):
        raise Refused(
            "REFVIDEO_CONFIRM asks before a video is bought, and here is no terminal to ask on.",
            "Nothing was sent or bought. --yes says yes beforehand.",
        )
    return question.buys


def _agreed(question: str) -> bool:
    """Whether the person at the terminal says yes; False where there is nobody to ask.

    Raises:
        Refused: they said no.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the event loop hears nothing meanwhile
    try:
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        said = sys.stdin.readline().strip().lower()
    finally:
        signal.signal(signal.SIGINT, before)
    if said not in ("y", "yes"):
        raise Refused("You said no: nothing was sent or bought.")
    return True
