"""Finds the file or place that a text means, where the policy allows it, and says plainly why it does not."""

import errno
import os
import re
import stat
import sys
import tempfile
import unicodedata
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from refvideo_mcp.errors import (
    Advice,
    InvalidCall,
    Refused,
    Unavailable,
    ask_user,
    ask_user_for,
    clean,
    is_invisible,
)
from refvideo_mcp.files.open import LocalFile, names_in, only_in_the_cloud, trouble_as_refusal
from refvideo_mcp.files.path_syntax import NoPath, in_the_chat, is_device, is_reserved, parse_path, scheme_of
from refvideo_mcp.files.policy import Policy, Standing, is_broad, is_drive, real

__all__ = [
    "FolderNotAllowed",
    "check_still_there",
    "check_writable",
    "destination",
    "find",
    "folder_and_name",
    "picture_path",
]

_ASK = ask_user_for("the right path. Nothing was sent.")
_LONGEST_PATH = 4096
# Folders of the machines that chats run on, where they put what was pasted into them.
_CHAT = (Path("/mnt/data"), Path("/mnt/user-data"))
# What clients call their hidden folders for pasted pictures: .gemini-clipboard, .claude/image-cache.
_PASTED = re.compile(r"clipboard|paste|image-?cache|attachment|screenshot", re.IGNORECASE)
# What iCloud puts in a file's place on older systems.
_PLACEHOLDER = re.compile(r"\.(.+)\.icloud")

_ADVICE = Advice(
    "Ask the user for another place, or leave save_to out. Nothing was sent.",
    "Give another place, or none. Nothing was sent.",
)
_LONGEST_NAME = 200  # bytes; leaves room for " (2)"
_NO_NAMES = ("on", "off", "yes", "no", "true", "false", "null", "none", "undefined")
_OTHER_ENDINGS = re.compile(r"\.(mov|m4v|avi|mkv|webm|gif|mpe?g|wmv|flv|mp3|wav|png|jpe?g|webp)", re.IGNORECASE)


class FolderNotAllowed(Refused):
    """Only the folder rule is in the way: the user may allow `folder`."""

    def __init__(self, happened: str, advice: Advice, folder: Path):
        super().__init__(happened, advice)
        self.folder = folder


def find(source: str, where: str, policy: Policy) -> LocalFile:
    """The allowed picture that `source` means.

    Raises:
        FolderNotAllowed: there may be one, in a folder that the user has not allowed.
        Refused: there is none.
    """
    files = _candidates(source, where, policy)
    allowed = [file for file in files if _standing(file.path, policy) == "allowed"]
    for file in allowed:
        with trouble_as_refusal(file.shown, missing_is_fine=True):
            if stat.S_ISLNK(file.path.lstat().st_mode):
                raise OSError(errno.ELOOP, "links in a circle")
            return file
    for file in allowed:
        if (namesake := _namesake(file)) is not None and _standing(namesake.path, policy) == "allowed":
            return namesake
    raise _missing(allowed[0], policy) if allowed else _not_allowed(files[0], policy)


def destination(save_to: str, policy: Policy, base: Path | None) -> Path:
    """The absolute path that `save_to` means, relative to `base`: a folder, or the .mp4 file itself.

    Raises:
        FolderNotAllowed: the user would have to allow its folder.
        Refused: no video can be saved there.
    """
    spelled = _save_path(save_to, base)
    if not policy.knows_host_of(spelled):
        raise _may_not_save(spelled.parent if spelled.suffix.lower() == ".mp4" else spelled)
    path = real(spelled)
    folder, _ = folder_and_name(path, "")
    if any(is_invisible(c) for c in str(path)):
        raise InvalidCall(f"{_shown(folder)} has an invisible character in its name.", _ADVICE)
    match policy.standing(folder / "video.mp4"):
        case "hidden":
            raise InvalidCall(f"{_shown(folder)} is a hidden folder.", _ADVICE)
        case "system":
            raise InvalidCall(f"Nothing can be written in {_shown(folder)}: it is a part of the system.", _ADVICE)
        case "outside":
            raise _may_not_save(folder)
    check_writable(folder)
    return path


def picture_path(source: str, where: str, *, windows: bool = sys.platform == "win32") -> str:
    """The path that `source` spells, as this system writes it; it may be relative or begin with ~.

    Raises:
        InvalidCall: no picture file here can be meant by it.
    """
    try:
        text = parse_path(source, windows=windows)
    except NoPath as error:
        raise _no_path(source, error, f"{error.advice} Nothing was sent.") from None
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text):
        raise InvalidCall(
            f"The path in {where} holds a line break or another control character.",
            "Rename the file, or correct the path. Nothing was sent.",
        )
    if len(text) > _LONGEST_PATH:
        raise InvalidCall(
            f"The path in {where} is {len(text)} characters long: no file has such a name.",
            "A picture's own content must be a data URI, data:image/png;base64,… Nothing was sent.",
        )
    if windows and is_device(text):
        raise InvalidCall(
            f"The path in {where} names a device or a stream, not a picture file.",
            "Use the path of an ordinary file. Nothing was sent.",
        )
    return text


def check_writable(folder: Path) -> None:
    """Whether files can be made in the folder, which need not exist yet. Blocks.

    Raises:
        Refused: they cannot.
    """
    try:
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    except StopIteration:
        raise InvalidCall(f"There is no {_shown(Path(folder.anchor))} on this machine.", _ADVICE) from None
    except OSError as error:
        raise Refused(f"{_shown(folder)} cannot be reached: {error.strerror or 'it fails'}.", _ADVICE) from None
    if not existing.is_dir():
        raise InvalidCall(f"{_shown(existing)} is a file, not a folder.", _ADVICE)
    try:
        with tempfile.TemporaryFile(dir=existing):  # nothing else tells on every system
            pass
    except OSError as error:
        said = error.strerror or "it fails"
        raise Refused(f"Nothing can be written in {_shown(existing)}: {said}.", _ADVICE) from None


def check_still_there(folder: Path) -> None:
    """That the folder of a checked destination is still what was checked, now that something is to be written.

    Raises:
        Unavailable: a link leads elsewhere in the meantime.
    """
    if os.path.normcase(real(folder)) != os.path.normcase(folder):
        raise Unavailable(
            f"The video was not saved: {_shown(folder)} leads to another folder than when the user asked for it."
        )


def folder_and_name(path: Path, name: str) -> tuple[Path, str]:
    """The folder of a checked destination, and what the video is called in it, without its ending."""
    if path.suffix.lower() == ".mp4" and not path.is_dir():
        return path.parent, path.stem
    return path, name


def _candidates(source: str, where: str, policy: Policy) -> list[LocalFile]:
    """Where the file may be, the likeliest first."""
    text = picture_path(source, where)
    path = Path(text)
    with suppress(RuntimeError):  # no such user: then ~ belongs to the name
        path = path.expanduser()
    if any(path.is_relative_to(folder) and not folder.is_dir() for folder in _CHAT):
        raise in_the_chat(source)
    bases = [Path()] if path.is_absolute() else policy.bases
    if not bases:
        raise InvalidCall(
            f"{clean(text, 200)} is a relative path, and this server works in no project folder.",
            f"{_elsewhere(path, policy) or 'Give the absolute path.'} Nothing was sent.",
        )
    files = [_file(base / path, policy) for base in bases]
    if text == source:
        return files
    # A quote or a backslash may belong to the name after all.
    as_written = [_file(base / source, policy) for base in (Path(), *policy.bases)]
    return files + [f for f in as_written if _standing(f.path, policy) == "allowed" and os.path.lexists(f.path)]


def _standing(path: Path, policy: Policy) -> Standing:
    """How the policy sees a picture; a client's folder for pasted pictures is hidden, but may be asked about."""
    standing = policy.standing(path)
    is_pasted = any(_PASTED.search(name) for name in path.parent.parts)
    return "outside" if standing == "hidden" and is_pasted else standing


def _elsewhere(path: Path, policy: Policy) -> str:
    """Where a file that was named without its folder is: an offer, for it is a guess."""
    if path.name != str(path):
        return ""
    found = dict.fromkeys(
        clean(str(folder / path), 200)
        for folder in (*policy.whole, *policy.flat)
        if _standing(real(folder / path), policy) == "allowed" and (folder / path).is_file()
    )
    return f"If {' or '.join(found)} is meant, give that path." if 0 < len(found) < 4 else ""


def _file(path: Path, policy: Policy) -> LocalFile:
    tried = Path(os.path.normpath(path))
    return LocalFile(tried, real(path) if policy.knows_host_of(tried) else tried)


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).split())


def _namesake(file: LocalFile) -> LocalFile | None:
    """The one file whose name looks the same: macOS puts special spaces into the names of screenshots."""
    with suppress(OSError):
        wanted = _plain(file.path.name)
        same = [name for name in names_in(file.path.parent) if _plain(name) == wanted]
        if len(same) == 1:
            return LocalFile(file.tried, real(file.path.with_name(same[0])))
    return None


def _missing(file: LocalFile, policy: Policy) -> Refused:
    try:
        names = names_in(file.path.parent)
    except OSError:
        names = []
    if f".{file.path.name}.icloud" in names:
        return only_in_the_cloud(file.shown)
    if elsewhere := _elsewhere(Path(file.tried.name), policy):
        return InvalidCall(f"There is no picture at {file.shown}.", f"{elsewhere} {_ASK}")
    names = [name for name in names if not name.startswith(".")]
    by_letters = {name.casefold(): clean(name, 60) for name in names}
    near = get_close_matches(file.path.name.casefold()[:255], by_letters, n=3, cutoff=0.5)
    hint = f"In that folder: {', '.join(by_letters[name] for name in near)}. " if near else ""
    return InvalidCall(f"There is no picture at {file.shown}.", hint + _ASK)


def _not_allowed(file: LocalFile, policy: Policy) -> Refused:
    leads = "" if file.path == file.tried else f" (which is {clean(str(file.path), 200)})"
    match _standing(file.path, policy):
        case "hidden" if (placeholder := _PLACEHOLDER.fullmatch(file.tried.name)) is not None:
            return only_in_the_cloud(clean(str(file.tried.with_name(placeholder[1])), 200))
        case "hidden":
            return InvalidCall(
                f"{file.shown}{leads} is hidden or in a hidden folder; such files are never sent.",
                ask_user(f"copy the picture to {policy.places()}. Nothing was sent."),
            )
        case "system":
            return InvalidCall(f"{file.shown}{leads} is a part of the system, not a picture file.", _ASK)
        case _:
            folder = file.path.parent
            add = "" if _is_too_much(folder) else f"add {clean(str(folder), 200)} to REFVIDEO_IMAGE_DIRS, or "
            return FolderNotAllowed(
                f"{file.shown}{leads} is outside the folders that pictures may be sent from.",
                ask_user(f"{add}put the picture into {policy.places()}. Nothing was sent."),
                folder,
            )


def _may_not_save(folder: Path) -> FolderNotAllowed:
    set_it = Advice(
        "Ask the user to set REFVIDEO_OUTPUT_DIR to it, or leave save_to out. Nothing was sent.",
        "Set REFVIDEO_OUTPUT_DIR to it, or give no place. Nothing was sent.",
    )
    return FolderNotAllowed(
        f"Nobody has allowed yet that videos are saved in {_shown(folder)}.",
        # Pictures may be sent from the output folder.
        _ADVICE if _is_too_much(folder) else set_it,
        folder,
    )


def _is_too_much(folder: Path) -> bool:
    """Whether no advice should open a folder: what is below a home folder or a disk is not all meant."""
    return is_broad(folder) or is_drive(folder)


def _save_path(save_to: str, base: Path | None) -> Path:
    try:
        text = parse_path(save_to)
    except NoPath as error:
        raise _no_path(save_to, error, _ADVICE) from None
    if text.casefold() in _NO_NAMES:
        raise InvalidCall(f"A video is saved in a folder or at an .mp4 path, not at {text}.", _ADVICE)
    if scheme_of(text):
        raise InvalidCall("A video is saved at a path of this machine, not at an address.", _ADVICE)
    if any(is_invisible(c) for c in text):
        raise InvalidCall("The place for the video holds a line break or another invisible character.", _ADVICE)
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise InvalidCall(f"There is no home folder for {clean(text, 80)}.", _ADVICE) from None
    if _OTHER_ENDINGS.fullmatch(path.suffix):
        raise InvalidCall(f"{clean(path.name, 80)} is no name for the video, which is an .mp4 file.", _ADVICE)
    if any(len(os.fsencode(name)) > _LONGEST_NAME for name in path.parts):
        raise InvalidCall("The place for the video holds a name that is too long.", _ADVICE)
    if is_reserved(path.name) or (sys.platform == "win32" and is_device(str(path))):
        raise InvalidCall(f"{clean(path.name, 80)} is the name of a device on Windows.", _ADVICE)
    if path.is_absolute():
        return path
    if base is None:
        raise InvalidCall(f"{_shown(path)} is relative, and there is no folder that it could be below.", _ADVICE)
    return base / path


def _no_path(source: str, error: NoPath, advice: Advice | str) -> InvalidCall:
    return InvalidCall(f"{clean(source, 200)} {clean(str(error), 120)}.", advice)


def _shown(path: Path) -> str:
    return clean(str(path), 200)
