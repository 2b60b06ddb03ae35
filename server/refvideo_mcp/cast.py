"""The cast: people and things that users asked to keep, so that a later call needs only a name.

A member is a folder: pictures named by their content, and `subject.json`, which names those that count and is replaced
as a whole. Pictures are written before it and deleted after it, so a reader who finds one gone reads again, while
nobody writes. Folders are called by hashes: a name may be any text, and some file systems know no difference between
Fox and fox.
"""

import hashlib
import json
import os
import re
import sys
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, get_args

from refvideo_mcp.errors import Advice, InvalidCall, Refused, clean
from refvideo_mcp.images import Kind, Picture

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Cast", "CastError", "Guests", "Member", "SavedPicture", "listed"]

SUBJECT = "subject.json"
MOST_MEMBERS = 100
MOST_GUESTS = 20
GUEST_SECONDS = 24 * 3600.0
LONGEST_NAME, LONGEST_ABOUT = 100, 120
LATEST = 1e11  # epoch seconds; a calendar has no later ones
_FILE = re.compile(rf"[0-9a-f]{{64}}\.({'|'.join(get_args(Kind))})")
NOTHING = "Nothing was sent or bought."


class CastError(Refused):
    """What is kept can be neither read nor written now."""


class _Vanished(Exception):
    """A picture was deleted, or is no longer what it was."""


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


class Cast:
    """The casts of all accounts, below one folder; None = there is no place for any. All of it blocks.

    `shows_path`: messages may name its files.
    """

    def __init__(self, folder: Path | None, *, shows_path: bool = True):
        self._root = folder
        self._shows_path = shows_path

    @property
    def has_place(self) -> bool:
        return self._root is not None

    def members(self, account: str) -> list[Member]:
        """Those that can be read, the last used first.

        Raises:
            CastError: none can.
        """
        found = []
        for folder in self._folders(account):
            with suppress(OSError, ValueError):
                found.append(_read(folder))
        return sorted(found, key=lambda member: (-member.last_used_at, member.name))

    def damaged(self, account: str) -> list[Path]:
        """Folders of members that cannot be read, or lack a picture.

        Raises:
            CastError: so it is with all.
        """
        found = []
        for folder in self._folders(account):
            try:
                is_whole = _is_whole(folder)
            except FileNotFoundError:  # a process was killed before it was a member
                is_whole = True
            except (OSError, ValueError):
                is_whole = False
            if not is_whole:
                found.append(folder)
        return found

    def name_in(self, folder: Path) -> str | None:
        """Whose folder it is, if what is left in it still tells."""
        with suppress(OSError, ValueError):
            told = re.search(r'"name": ("(?:[^"\\]|\\.)*")', (folder / SUBJECT).read_text("utf-8"))
            name = json.loads(told[1]) if told else ""
            if folder.name == _key(name):
                return str(name)
        return None

    def names(self, account: str, near: str = "") -> list[str]:
        """The members' names: those first that are spelled most like `near`.

        Raises:
            CastError: none can be read.
        """
        names = [member.name for member in self.members(account)]
        return sorted(names, key=lambda name: -SequenceMatcher(None, name.casefold(), near.casefold()).ratio())

    def get(self, account: str, name: str) -> Member | None:
        """A member without the content of its pictures.

        Raises:
            CastError: it cannot be read.
        """
        if self._root is None:
            return None
        folder = self._folder(account, name)
        try:
            return _read(folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._trouble(folder, "read", error) from error
        except ValueError:
            raise self._damaged(name, folder) from None

    def load(self, account: str, name: str) -> tuple[Member, tuple[Picture | str, ...]] | None:
        """A member and its pictures, byte for byte as they were kept.

        Raises:
            CastError: it cannot be read.
        """
        with suppress(_Vanished):
            return self._load(account, name)
        with self._writing(account):  # another process may have replaced the pictures meanwhile
            return self._load_alone(account, name)

    def check(self, account: str, name: str, pictures: Sequence[Picture | str], *, replaces: bool) -> None:
        """That `keep` would take it, as far as can be told before.

        Raises:
            InvalidCall: there is another one of that name.
            CastError: there is no place, or it cannot be read.
        """
        self._before(account, name, pictures, replaces=replaces)

    def _before(self, account: str, name: str, pictures: Sequence[Picture | str], *, replaces: bool) -> Member | None:
        """The member of that name so far; raises as `check` does."""
        if self._root is None:
            raise CastError(
                "This server has no place to keep pictures in (the setting REFVIDEO_DATA_DIR).",
                f"{NOTHING} " + Advice("Call again", "Try again") + " without remember.",
            )
        _check_length(name)
        try:
            known = self.get(account, name)
        except CastError:
            if not replaces:
                raise
            known = None
        if known is None and len(self._folders(account)) >= MOST_MEMBERS:
            raise InvalidCall(
                f"The cast has {MOST_MEMBERS} members, and takes no more.",
                Advice(
                    f"Call again without remember, or ask the user to remove one: refvideo-mcp cast remove NAME. "
                    f"{NOTHING}",
                    "Remove one first: refvideo-mcp cast remove NAME.",
                ),
            )
        if known is not None and not replaces and known.digests != _digests(pictures):
            shown = clean(name, 40)
            raise InvalidCall(
                f"The cast has another @{shown} already, with other pictures.",
                Advice(
                    f"Leave images out to take that one, give another id, or, if the user wants @{shown} to be these "
                    f'pictures from now on, remember: "replace". {NOTHING}',
                    "Take another name, or --replace it.",
                ),
            )
        return known

    def keep(
        self,
        account: str,
        name: str,
        pictures: Sequence[Picture | str],
        *,
        about: str = "",
        voice_id: str | None = None,
        replaces: bool = False,
        now: float,
    ) -> Member:
        """Keep a member. `about` and `voice_id` stay as they were where they are not given.

        Raises:
            InvalidCall: there is another one of that name, and it is not to be replaced.
            CastError: it cannot be written.
        """
        with self._writing(account):
            before = self._before(account, name, pictures, replaces=replaces)
            folder = self._folder(account, name)
            is_same = before is not None and before.digests == _digests(pictures)
            before = before or Member(name, ())
            member = Member(
                name,
                before.pictures if is_same and not replaces else _saved_in(folder, pictures),
                clean(about, LONGEST_ABOUT) or before.about,
                voice_id or before.voice_id,
                before.saved_at if is_same else now,
                now,
            )
            _write(account, folder, member, pictures)
            return member

    def used(self, account: str, name: str, now: float) -> None:
        """Remember that a member was sent.

        Raises:
            CastError: it cannot be written.
        """
        with self._writing(account):
            member = self.get(account, name)
            if member is not None:
                _write(account, self._folder(account, name), replace(member, last_used_at=now))

    def rename(self, account: str, old: str, new: str) -> None:
        """Call a member by another name.

        Raises:
            InvalidCall: there is none of the old name, or one of the new, or that is too long.
            CastError: it cannot be written.
        """
        _check_length(new)
        with self._writing(account):
            found = self._load_alone(account, old)
            if found is None:
                raise self.unknown(account, old)
            if _key(new) != _key(old) and self.get(account, new) is not None:
                raise InvalidCall(f"The cast has @{clean(new, 40)} already.", "Take another name.")
            member, pictures = found
            folder = self._folder(account, new)
            _write(account, folder, replace(member, name=new, pictures=_saved_in(folder, pictures)), pictures)
            if _key(new) != _key(old):
                _delete(self._folder(account, old))

    def remove(self, account: str, name: str) -> None:
        """Delete a member and its pictures, readable or not.

        Raises:
            InvalidCall: there is none of that name.
            CastError: it cannot be deleted.
        """
        with self._writing(account):
            folder = self._folder(account, name)
            if not folder.exists():
                raise self.unknown(account, name)
            _delete(folder)

    def unknown(self, account: str, name: str) -> InvalidCall:
        """The refusal of a name that nobody has."""
        names = self.names(account, name)
        known = f"it has {listed(names)}" if names else "nobody is in it"
        return InvalidCall(f"The cast has no @{clean(name, 40)}: {known}.", "Correct the name.")

    def _load(self, account: str, name: str) -> tuple[Member, tuple[Picture | str, ...]] | None:
        member = self.get(account, name)
        if member is None:
            return None
        return member, tuple(self._content(member, picture) for picture in member.pictures)

    def _load_alone(self, account: str, name: str) -> tuple[Member, tuple[Picture | str, ...]] | None:
        """The same while nobody writes."""
        try:
            return self._load(account, name)
        except _Vanished:
            raise self._damaged(name, self._folder(account, name)) from None

    def _folders(self, account: str) -> list[Path]:
        return [] if self._root is None else self._entries(self._around(account))

    def _entries(self, around: Path | None) -> list[Path]:
        if around is None:
            return []
        try:
            return sorted(entry for entry in around.iterdir() if entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._trouble(around, "read", error) from error

    def _folder(self, account: str, name: str) -> Path:
        return self._around(account) / _key(name)

    def _around(self, account: str) -> Path:
        if self._root is None:
            raise CastError("There is no place to keep pictures in.", "The setting REFVIDEO_DATA_DIR names one.")
        return self._root / _key(account)

    @contextmanager
    def _writing(self, account: str) -> Iterator[None]:
        with self._locked(self._around(account)):
            yield

    @contextmanager
    def _locked(self, around: Path) -> Iterator[None]:
        """One process at a time, or one would delete the pictures that another is about to name."""
        try:
            for folder in (around.parent, around):  # with parents, only the last would be for its owner alone
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (around / "lock").open("a+b") as file:
                _lock(file.fileno())
                yield
        except OSError as error:
            raise self._trouble(around, "written", error) from error

    def _content(self, member: Member, picture: SavedPicture | str) -> Picture | str:
        if isinstance(picture, str):
            return picture
        try:
            content = picture.path.read_bytes()
        except FileNotFoundError:
            raise _Vanished from None
        except OSError as error:
            raise self._trouble(picture.path, "read", error) from error
        found = Picture(f"A picture of @{clean(member.name, 40)}", content, picture.kind, picture.width, picture.height)
        if found.sha256 != picture.path.stem:
            raise _Vanished
        return found

    def _trouble(self, path: Path, what: str, error: OSError) -> CastError:
        said = clean(error.strerror or "it fails", 80)
        return CastError(f"The cast cannot be {what}{self._shown(path)}: {said}.", _MEND)

    def _damaged(self, name: str, folder: Path) -> CastError:
        return CastError(f"What the cast kept of @{clean(name, 40)} is damaged{self._shown(folder)}.", _AGAIN)

    def _shown(self, path: Path) -> str:
        return f" ({clean(str(path), 200)})" if self._shows_path else ""


class Guests(Cast):
    """Members for a day: pictures that somebody gave in a chat, where they have no path.

    `is_watched`: somebody sees to it that they are forgotten in time.
    """

    is_watched = False

    def give(self, account: str, name: str, pictures: Sequence[Picture], now: float) -> None:
        """Take the pictures in the place of earlier ones. An account with too many guests loses its oldest.

        Raises:
            InvalidCall: the name is too long.
            CastError: they cannot be written.
        """
        self.forget(now)
        for member in self.members(account)[MOST_GUESTS - 1 :]:
            self.remove(account, member.name)
        self.keep(account, name, pictures, replaces=True, now=now)

    def here(self, account: str, name: str, now: float) -> tuple[Member, tuple[Picture | str, ...]] | None:
        """A guest and its pictures.

        Raises:
            CastError: they cannot be read.
        """
        found = self.load(account, name)
        if found is None or found[0].last_used_at <= now - GUEST_SECONDS:
            return None
        member, pictures = found
        return replace(member, is_guest=True), pictures

    def forget(self, now: float) -> bool:
        """Delete those of all accounts whose day is over; whether there are others.

        Raises:
            CastError: they cannot be read or deleted.
        """
        are_left = False
        for around in self._entries(self._root):
            with self._locked(around):
                for folder in self._entries(around):
                    if _last_used(folder) > now - GUEST_SECONDS:
                        are_left = True
                    else:
                        _delete(folder)
        return are_left


def listed(names: Sequence[str], most: int = 9) -> str:
    """Names as a prompt writes them."""
    shown = ", ".join(f"@{clean(name, 40)}" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _check_length(name: str) -> None:
    if len(name) > LONGEST_NAME:
        raise InvalidCall(f"A name to be remembered has at most {LONGEST_NAME} characters.", NOTHING)


def _key(text: str) -> str:
    return hashlib.sha256(unicodedata.normalize("NFC", text).encode(errors="surrogatepass")).hexdigest()[:32]


def _digests(pictures: Sequence[Picture | str]) -> frozenset[str]:
    return frozenset(picture if isinstance(picture, str) else picture.sha256 for picture in pictures)


def _saved_in(folder: Path, pictures: Sequence[Picture | str]) -> tuple[SavedPicture | str, ...]:
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


def _write(account: str, folder: Path, member: Member, pictures: Sequence[Picture | str] = ()) -> None:
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


def _read(folder: Path) -> Member:
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
    if not (is_time and member.pictures and _key(member.name) == folder.name):
        raise ValueError(member.name)
    return member


def _last_used(folder: Path) -> float:
    try:
        return _read(folder).last_used_at
    except (FileNotFoundError, ValueError):  # a process was killed before it was a member, or it is damaged
        return folder.stat().st_mtime


def _is_whole(folder: Path) -> bool:
    """Whether the member in a folder has its pictures; raises as `_read` does."""
    pictures = _read(folder).pictures
    are_there = all(isinstance(picture, str) or picture.path.is_file() for picture in pictures)
    return are_there or _read(folder).pictures != pictures  # somebody replaced them meanwhile


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


def _delete(folder: Path) -> None:
    (folder / SUBJECT).unlink(missing_ok=True)  # first: what is half deleted is nobody
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


_MEND = Advice(f"{NOTHING} Give the pictures themselves, and tell the user.", "Mend that, then try again.")
_AGAIN = Advice(
    f'Give its pictures again, with remember: "replace" to keep them. {NOTHING}',
    "Add it again with --replace, or remove it.",
)


def _lock(file: int) -> None:
    """Held until the file is closed, also by the end of the process."""
    if sys.platform == "win32":
        msvcrt.locking(file, msvcrt.LK_LOCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX)
