"""Finds the file that a path means, below the folders that are allowed, and says plainly why it is not found."""

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from refvideo_mcp.errors import Advice, Refused, ask_user, ask_user_for, clean
from refvideo_mcp.images.cloud import is_elsewhere, meant_by_placeholder, only_in_the_cloud, placeholder_of
from refvideo_mcp.images.files import names_in
from refvideo_mcp.images.folders import Rule, Standing
from refvideo_mcp.images.spellings import in_the_chat, path_text
from refvideo_mcp.paths import is_broad, is_drive, real

__all__ = ["FolderNotAllowed", "Place", "find", "folder_to_ask_about", "trouble_as_refusal"]

_ASK = ask_user_for("the right path. Nothing was sent.")
# Folders of the machines that chats run on, where they put what was pasted into them.
_CHAT = (Path("/mnt/data"), Path("/mnt/user-data"))
# What clients call their hidden folders for pasted pictures: .gemini-clipboard, .claude/image-cache.
_PASTED = re.compile(r"clipboard|paste|image-?cache|attachment|screenshot", re.IGNORECASE)


class FolderNotAllowed(Refused):
    """Only the folder rule is in the way: the user may allow `folder`."""

    def __init__(self, happened: str, advice: Advice, folder: Path):
        super().__init__(happened, advice)
        self.folder = folder


@dataclass(frozen=True)
class Place:
    """A local picture: its path as it was meant, and the path without links."""

    tried: Path
    path: Path

    @property
    def shown(self) -> str:
        return clean(str(self.tried), 200)

    @property
    def name(self) -> str:
        return clean(self.tried.name, 60)


def find(source: str, where: str, rule: Rule) -> Place:
    """The allowed file that `source` means.

    Raises:
        Refused: there is none. FolderNotAllowed: there may be one, in a folder that the user has not allowed.
    """
    places = _candidates(source, where, rule)
    allowed = [place for place in places if _standing(place.path, rule) == "allowed"]
    for place in allowed:
        with trouble_as_refusal(place.shown, missing_is_fine=True):
            if stat.S_ISLNK(place.path.lstat().st_mode):
                raise OSError(errno.ELOOP, "links in a circle")
            return place
    for place in allowed:
        if (namesake := _namesake(place)) is not None and _standing(namesake.path, rule) == "allowed":
            return namesake
    raise _missing(allowed[0], rule) if allowed else _not_allowed(places[0], rule)


def folder_to_ask_about(source: str, where: str, rule: Rule) -> Path | None:
    """The folder that the user would have to allow for `source`, if that is all it needs. Opens nothing."""
    places = _candidates(source, where, rule)
    if any(_standing(place.path, rule) == "allowed" for place in places):
        return None
    return places[0].path.parent if _standing(places[0].path, rule) == "outside" else None


@contextmanager
def trouble_as_refusal(shown: str, *, missing_is_fine: bool = False) -> Iterator[None]:
    """What the system says about a file, in a sentence."""
    try:
        yield
    except ValueError as error:
        raise Refused(f"{shown} cannot be a file's name.", _ASK) from error
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        if missing and missing_is_fine:
            return
        if is_elsewhere(error, shown):
            raise only_in_the_cloud(shown) from error
        said = {
            errno.EACCES: "may not be read by this server: its permissions forbid it",
            errno.EPERM: "may not be read by this server: its permissions forbid it",
            errno.ENAMETOOLONG: "has a name that is too long for any file",
            errno.ELOOP: "is a link that leads nowhere, or was replaced by one",
        }
        happened = "was removed or replaced while it was opened" if missing else said.get(error.errno or 0)
        raise Refused(
            f"{shown} {happened or 'cannot be read: ' + clean(error.strerror or 'it failed', 80)}.",
            ask_user_for("another path. Nothing was sent."),
        ) from error


def _candidates(source: str, where: str, rule: Rule) -> list[Place]:
    """Where the file may be, the likeliest first."""
    text = path_text(source, where)
    path = Path(text)
    with suppress(RuntimeError):  # no such user: then ~ belongs to the name
        path = path.expanduser()
    if any(path.is_relative_to(folder) and not folder.is_dir() for folder in _CHAT):
        raise in_the_chat(source)
    bases = [Path()] if path.is_absolute() else rule.bases
    if not bases:
        raise Refused(
            f"{clean(text, 200)} is a relative path, and this server works in no project folder.",
            f"{_elsewhere(path, rule) or 'Give the absolute path.'} Nothing was sent.",
        )
    places = [_place(base / path, rule) for base in bases]
    if text == source:
        return places
    # A quote or a backslash may belong to the name after all.
    as_written = [_place(base / source, rule) for base in (Path(), *rule.bases)]
    return places + [p for p in as_written if _standing(p.path, rule) == "allowed" and os.path.lexists(p.path)]


def _standing(path: Path, rule: Rule) -> Standing:
    """How the rule sees a path; a client's folder for pasted pictures is hidden, but may be asked about."""
    standing = rule.standing(path)
    is_pasted = any(_PASTED.search(name) for name in path.parent.parts)
    return "outside" if standing == "hidden" and is_pasted else standing


def _elsewhere(path: Path, rule: Rule) -> str:
    """Where a file that was named without its folder is: an offer, for it is a guess."""
    if path.name != str(path):
        return ""
    found = dict.fromkeys(
        clean(str(folder / path), 200)
        for folder in (*rule.whole, *rule.flat)
        if _standing(real(folder / path), rule) == "allowed" and (folder / path).is_file()
    )
    return f"If {' or '.join(found)} is meant, give that path." if 0 < len(found) < 4 else ""


def _place(path: Path, rule: Rule) -> Place:
    tried = Path(os.path.normpath(path))
    # Asking a Windows share anything tells its host who the user is: not before the rule knows the share.
    if path.drive.startswith("\\\\") and not rule.covers(tried):
        return Place(tried, tried)
    return Place(tried, real(path))


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).split())


def _namesake(place: Place) -> Place | None:
    """The one file whose name looks the same: macOS puts special spaces into the names of screenshots."""
    with suppress(OSError):
        wanted = _plain(place.path.name)
        same = [name for name in names_in(place.path.parent) if _plain(name) == wanted]
        if len(same) == 1:
            return Place(place.tried, real(place.path.with_name(same[0])))
    return None


def _missing(place: Place, rule: Rule) -> Refused:
    try:
        names = names_in(place.path.parent)
    except OSError:
        names = []
    if placeholder_of(place.path.name) in names:
        return only_in_the_cloud(place.shown)
    if elsewhere := _elsewhere(Path(place.tried.name), rule):
        return Refused(f"There is no picture at {place.shown}.", f"{elsewhere} {_ASK}")
    names = [name for name in names if not name.startswith(".")]
    by_letters = {name.casefold(): clean(name, 60) for name in names}
    near = get_close_matches(place.path.name.casefold()[:255], by_letters, n=3, cutoff=0.5)
    hint = f"In that folder: {', '.join(by_letters[name] for name in near)}. " if near else ""
    return Refused(f"There is no picture at {place.shown}.", hint + _ASK)


def _not_allowed(place: Place, rule: Rule) -> Refused:
    leads = "" if place.path == place.tried else f" (which is {clean(str(place.path), 200)})"
    match _standing(place.path, rule):
        case "hidden" if (name := meant_by_placeholder(place.tried.name)) is not None:
            return only_in_the_cloud(clean(str(place.tried.with_name(name)), 200))
        case "hidden":
            return Refused(
                f"{place.shown}{leads} is hidden or in a hidden folder; such files are never sent.",
                ask_user(f"copy the picture to {rule.places()}. Nothing was sent."),
            )
        case "system":
            return Refused(f"{place.shown}{leads} is a part of the system, not a picture file.", _ASK)
        case _:
            folder = place.path.parent
            # What is below a home folder or a disk is not all meant.
            add = (
                ""
                if is_broad(folder) or is_drive(folder)
                else f"add {clean(str(folder), 200)} to REFVIDEO_IMAGE_DIRS, or "
            )
            return FolderNotAllowed(
                f"{place.shown}{leads} is outside the folders that pictures may be sent from.",
                ask_user(f"{add}put the picture into {rule.places()}. Nothing was sent."),
                folder,
            )
