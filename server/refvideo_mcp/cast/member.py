"""One member of a cast: its folder, read and written."""

import hashlib
import json
import os
import re
import tempfile
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from refvideo_mcp.images import Kind, Picture

__all__ = [
    "Member",
    "SavedPicture",
    "delete",
    "digests_of",
    "is_damaged",
    "key_of",
    "name_in",
    "read",
    "saved_in",
    "write",
]

SUBJECT = "subject.json"
LATEST = 1e11  # epoch seconds; a calendar has no later ones
_FILE = re.compile(rf"[0-9a-f]{{64}}\.({'|'.join(get_args(Kind))})")


@dataclass(frozen=True)
class SavedPicture:
    """A picture on disk, as it is sent."""

    path: Path
    kind: Kind
    width: int
    height: int


@dataclass(frozen=True)
class Member:
    """One of the cast. A picture is a file of ours, or a public URL that is passed on as it was given."""

    name: str
    pictures: tuple[SavedPicture | str, ...]
    about: str = ""
    voice_id: str | None = None
    saved_at: float = 0.0
    last_used_at: float = 0.0
    is_guest: bool = False

    @property
    def digests(self) -> frozenset[str]:
        """What its pictures are, in whatever order."""
        return frozenset(picture if isinstance(picture, str) else picture.path.stem for picture in self.pictures)


def key_of(text: str) -> str:
    return hashlib.sha256(unicodedata.normalize("NFC", text).encode(errors="surrogatepass")).hexdigest()[:32]


def digests_of(pictures: Sequence[Picture | str]) -> frozenset[str]:
    return frozenset(picture if isinstance(picture, str) else picture.sha256 for picture in pictures)


def saved_in(folder: Path, pictures: Sequence[Picture | str]) -> tuple[SavedPicture | str, ...]:
    return tuple(picture if isinstance(picture, str) else _saved(folder, picture) for picture in pictures)


def _saved(folder: Path, picture: Picture) -> SavedPicture:
    return SavedPicture(folder / f"{picture.sha256}.{picture.kind}", picture.kind, picture.width, picture.height)


def _as_json(account: str, member: Member) -> dict[str, Any]:
    return {
        "account": account,
        "name": member.name,
        "about": member.about,
        "voice_id": member.voice_id,
        "pictures": [
            {"url": picture}
            if isinstance(picture, str)
            else {"file": picture.path.name, "width": picture.width, "height": picture.height}
            for picture in member.pictures
        ],
        "saved_at": member.saved_at,
        "last_used_at": member.last_used_at,
    }


def write(account: str, folder: Path, member: Member, pictures: Sequence[Picture | str] = ()) -> None:
    """Pictures first, then what names them, then away with what nothing names."""
    folder.mkdir(mode=0o700, exist_ok=True)
    new: list[Path] = []
    try:
        for picture in pictures:
            if isinstance(picture, Picture):
                path = _saved(folder, picture).path
                new += [] if path.exists() else [path]
                _put(path, picture.content)
        _put(folder / SUBJECT, json.dumps(_as_json(account, member), indent=2).encode())
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()  # unless somebody is in it
        raise
    for path in folder.iterdir():
        if path.name != SUBJECT and path.stem not in member.digests:
            with suppress(OSError):  # the next time, then
                path.unlink()


def read(folder: Path) -> Member:
    """The member in a folder.

    Raises:
        OSError: it cannot be read. FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    text = (folder / SUBJECT).read_text("utf-8")
    try:
        told = json.loads(text)
        member = Member(
            str(told["name"]),
            tuple(_picture(folder, picture) for picture in told["pictures"]),
            str(told["about"]),
            None if told["voice_id"] is None else str(told["voice_id"]),
            float(told["saved_at"]),
            float(told["last_used_at"]),
        )
    except (TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None
    is_time = all(0 <= time < LATEST for time in (member.saved_at, member.last_used_at))
    if not (is_time and member.pictures and key_of(member.name) == folder.name):
        raise ValueError(member.name)
    return member


def is_damaged(folder: Path) -> bool:
    """Whether the member in a folder cannot be read, or lacks a picture."""
    try:
        pictures = read(folder).pictures
        are_there = all(isinstance(picture, str) or picture.path.is_file() for picture in pictures)
        return not are_there and read(folder).pictures == pictures  # else somebody replaced them meanwhile
    except FileNotFoundError:  # a process was killed before it was a member
        return False
    except (OSError, ValueError):
        return True


def name_in(folder: Path) -> str | None:
    """Whose folder it is, if what is left in it still tells."""
    with suppress(OSError, ValueError):
        told = re.search(r'"name": ("(?:[^"\\]|\\.)*")', (folder / SUBJECT).read_text("utf-8"))
        name = json.loads(told[1]) if told else ""
        if folder.name == key_of(name):
            return str(name)
    return None


def _picture(folder: Path, told: dict[str, Any]) -> SavedPicture | str:
    if "url" in told:
        return str(told["url"])
    match = _FILE.fullmatch(told["file"])
    if match is None:
        raise ValueError(told["file"])
    kind: Any = match[1]
    return SavedPicture(folder / match[0], kind, int(told["width"]), int(told["height"]))


def _put(path: Path, content: bytes) -> None:
    """Write a file readable by its owner only, all of it or nothing."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as part:
        try:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
            part.close()
            Path(part.name).replace(path)
        except BaseException:
            part.close()
            Path(part.name).unlink(missing_ok=True)
            raise


def delete(folder: Path) -> None:
    (folder / SUBJECT).unlink(missing_ok=True)  # first: what is half deleted is nobody
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
