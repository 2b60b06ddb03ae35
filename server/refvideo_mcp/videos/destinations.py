"""Where a video may go: decided before anything is paid."""

import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from refvideo_mcp.errors import Advice, Refused, Unavailable, clean, is_invisible
from refvideo_mcp.paths import NoPath, is_broad, is_drive, is_reserved, meant, real, working_folder

__all__ = ["DestinationNotAllowed", "check_still_there", "check_writable", "checked_destination", "folder_and_name"]

_ADVICE = Advice(
    "Ask the user for another place, or leave save_to out. Nothing was sent.",
    "Give another place, or none. Nothing was sent.",
)
_LONGEST_NAME = 200  # bytes; leaves room for " (2)"
_NO_NAMES = ("on", "off", "yes", "no", "true", "false", "null", "none", "undefined")
_OTHER_ENDINGS = re.compile(r"\.(mov|m4v|avi|mkv|webm|gif|mpe?g|wmv|flv|mp3|wav|png|jpe?g|webp)", re.IGNORECASE)


class DestinationNotAllowed(Refused):
    """Only the user's permission to save in `folder` is missing."""

    def __init__(self, folder: Path):
        super().__init__(
            f"Nobody has allowed yet that videos are saved in {_shown(folder)}.",
            # Pictures may be sent from the output folder: a home folder or a disk is none.
            _ADVICE
            if is_broad(folder) or is_drive(folder)
            else Advice(
                "Ask the user to set REFVIDEO_OUTPUT_DIR to it, or leave save_to out. Nothing was sent.",
                "Set REFVIDEO_OUTPUT_DIR to it, or give no place. Nothing was sent.",
            ),
        )
        self.folder = folder


def checked_destination(save_to: str, output: Path | None, roots: Sequence[Path], grants: Sequence[Path]) -> Path:
    """See `Videos.destination`."""
    here = working_folder()
    around = [folder for folder in (*roots, here, output) if folder is not None]
    path = real(_spelled(save_to, around[0] if around else None))
    folder, _ = folder_and_name(path, "")
    if any(is_invisible(c) for c in str(path)):
        raise Refused(f"{_shown(folder)} has an invisible character in its name.", _ADVICE)
    existing = _existing(folder)
    _check_folder(existing)
    _check_allowed(folder, [*around, *grants])
    _check_writable(existing)
    return path


def check_writable(folder: Path) -> None:
    """Whether files can be made in the folder, which need not exist yet. Blocks.

    Raises:
        Refused: they cannot.
    """
    existing = _existing(folder)
    _check_folder(existing)
    _check_writable(existing)


def check_still_there(folder: Path) -> None:
    """That the folder of a checked destination is still what was checked, now that something is to be written.

    Raises:
        Unavailable: a link leads elsewhere in the meantime.
    """
    if os.path.normcase(real(folder)) != os.path.normcase(folder):
        raise Unavailable(
            f"The video was not saved: {_shown(folder)} leads to another folder than when the user asked for it."
        )


def folder_and_name(destination: Path, name: str) -> tuple[Path, str]:
    """The folder of a checked destination, and what the video is called in it, without its ending."""
    if destination.suffix.lower() == ".mp4" and not destination.is_dir():
        return destination.parent, destination.stem
    return destination, name


def _spelled(save_to: str, base: Path | None) -> Path:
    try:
        text = meant(save_to)
    except NoPath as error:
        raise Refused(f"{clean(save_to, 200)} {clean(str(error), 120)}.", _ADVICE) from None
    if text.casefold() in _NO_NAMES:
        raise Refused(f"A video is saved in a folder or at an .mp4 path, not at {text}.", _ADVICE)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text):  # two letters at least: `C:` is a drive
        raise Refused("A video is saved at a path of this machine, not at an address.", _ADVICE)
    if any(is_invisible(c) for c in text):
        raise Refused("The place for the video holds a line break or another invisible character.", _ADVICE)
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise Refused(f"There is no home folder for {clean(text, 80)}.", _ADVICE) from None
    if _OTHER_ENDINGS.fullmatch(path.suffix):
        raise Refused(f"{clean(path.name, 80)} is no name for the video, which is an .mp4 file.", _ADVICE)
    if any(len(os.fsencode(name)) > _LONGEST_NAME for name in path.parts):
        raise Refused("The place for the video holds a name that is too long.", _ADVICE)
    if is_reserved(path.name):
        raise Refused(f"{clean(path.name, 80)} is the name of a device on Windows.", _ADVICE)
    if path.is_absolute():
        return path
    if base is None:
        raise Refused(f"{_shown(path)} is relative, and there is no folder that it could be below.", _ADVICE)
    return base / path


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one around it that exists."""
    try:
        return next(parent for parent in (folder, *folder.parents) if parent.exists())
    except StopIteration:
        raise Refused(f"There is no {_shown(Path(folder.anchor))} on this machine.", _ADVICE) from None
    except OSError as error:
        raise Refused(f"{_shown(folder)} cannot be reached: {error.strerror or 'it fails'}.", _ADVICE) from None


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise Refused(f"{_shown(path)} is a file, not a folder.", _ADVICE)


def _check_writable(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):  # nothing else tells on every system
            pass
    except OSError as error:
        raise Refused(f"Nothing can be written in {_shown(folder)}: {error.strerror or 'it fails'}.", _ADVICE) from None


def _check_allowed(folder: Path, allowed: Iterable[Path]) -> None:
    # Permission for a whole disk or home folder is not meant for all that is below it.
    around = [
        below
        for below in map(real, allowed)
        if folder == below or (folder.is_relative_to(below) and not is_broad(below))
    ]
    if any(not _is_hidden(folder, below) for below in around):
        return
    if around or _is_hidden(folder, Path(folder.anchor)):
        raise Refused(f"{_shown(folder)} is a hidden folder.", _ADVICE)
    raise DestinationNotAllowed(folder)


def _is_hidden(folder: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in folder.relative_to(below).parts)


def _shown(path: Path) -> str:
    return clean(str(path), 200)
