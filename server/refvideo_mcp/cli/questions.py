"""What only the user may decide, asked on the terminal. Where nobody can answer, the jobs layer refuses."""

import os
import signal
import sys

from refvideo_mcp.errors import clean
from refvideo_mcp.images.spellings import kind_of
from refvideo_mcp.jobs import Jobs
from refvideo_mcp.spec import GenerateCall

__all__ = ["ask_about_twin", "ask_for_pictures", "ask_for_saving", "from_here"]


def from_here(source: str) -> str:
    """A picture or place as it was typed, a relative path from the folder where the person is."""
    text = source.strip()
    if kind_of(text) != "path" or text.startswith("~") or text[:5].lower() == "file:":
        return source
    return os.path.join(os.getcwd(), text)  # noqa: PTH109, PTH118  # pathlib would tidy what the checks should see


async def ask_for_pictures(jobs: Jobs, call: GenerateCall) -> None:
    """Ask once per folder before its pictures leave this machine."""
    for folder in await jobs.permissions.pictures_to_ask_about(call, ()):
        if _yes(f"Send pictures from {clean(str(folder), 200)} to {jobs.host}?"):
            await jobs.permissions.allow_pictures([folder])


async def ask_for_saving(jobs: Jobs, place: str) -> None:
    """Ask once per folder before a video is put there."""
    folder = await jobs.permissions.folder_to_ask_about(place, ())
    if folder is not None and _yes(f"Save videos in {clean(str(folder), 200)}?"):
        await jobs.permissions.allow_saving(folder)


async def ask_about_twin(jobs: Jobs, call: GenerateCall) -> bool:
    """Whether the person lets a job be sent again that may exist already; False where there is none."""
    twin = await jobs.buying.uncertain_twin(call)
    return twin is not None and _yes(
        f"This job was sent before ({twin.key}) and its answer was lost: it may exist and be billed.\n"
        f"Please look for it in the console of {jobs.host} first. Send it again, and perhaps pay twice?"
    )


def _yes(question: str) -> bool:
    """Whether the person at the terminal says yes; False where there is nobody to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the event loop hears nothing meanwhile
    try:
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    finally:
        signal.signal(signal.SIGINT, before)
