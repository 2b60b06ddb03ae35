"""The casts: people and things that users asked to keep, so that a later call needs only a name.

A member is a folder: pictures named by their content, and `subject.json`, which names those that count and is replaced
as a whole. Pictures are written before it and deleted after it, so a reader who finds one gone reads again, while
nobody writes. Folders are called by hashes: a name may be any text, and some file systems know no difference between
Fox and fox.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

from refvideo_mcp.cast.member import (
    Member,
    SavedPicture,
    delete,
    digests_of,
    is_damaged,
    key_of,
    name_in,
    read,
    saved_in,
    write,
)
from refvideo_mcp.errors import Advice, InvalidCall, Refused, clean
from refvideo_mcp.images import Picture

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Cast", "CastError", "listed"]

MOST_MEMBERS = 100
LONGEST_NAME, LONGEST_ABOUT = 100, 120
NOTHING = "Nothing was sent or bought."


class CastError(Refused):
    """What is kept can be neither read nor written now."""


class _Vanished(Exception):
    """A picture was deleted, or is no longer what it was."""


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
                found.append(read(folder))
        return sorted(found, key=lambda member: (-member.last_used_at, member.name))

    def damaged(self, account: str) -> list[tuple[Path, str | None]]:
        """Folders of members that cannot be read, or lack a picture, with their names where these can still be read.

        Raises:
            CastError: so it is with all.
        """
        return [(folder, name_in(folder)) for folder in self._folders(account) if is_damaged(folder)]

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
            return read(folder)
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

    def check(self, account: str, name: str, pictures: Sequence[Picture | str], *, replaces: bool) -> Member | None:
        """That `keep` would take it, as far as can be told before; the member of that name so far.

        Raises:
            InvalidCall: there is another one of that name.
            CastError: there is no place, or it cannot be read.
        """
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
        if known is not None and not replaces and known.digests != digests_of(pictures):
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
            before = self.check(account, name, pictures, replaces=replaces)
            folder = self._folder(account, name)
            is_same = before is not None and before.digests == digests_of(pictures)
            before = before or Member(name, ())
            member = Member(
                name,
                before.pictures if is_same and not replaces else saved_in(folder, pictures),
                clean(about, LONGEST_ABOUT) or before.about,
                voice_id or before.voice_id,
                before.saved_at if is_same else now,
                now,
            )
            write(account, folder, member, pictures)
            return member

    def used(self, account: str, name: str, now: float) -> None:
        """Remember that a member was sent.

        Raises:
            CastError: it cannot be written.
        """
        with self._writing(account):
            member = self.get(account, name)
            if member is not None:
                write(account, self._folder(account, name), replace(member, last_used_at=now))

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
            if key_of(new) != key_of(old) and self.get(account, new) is not None:
                raise InvalidCall(f"The cast has @{clean(new, 40)} already.", "Take another name.")
            member, pictures = found
            folder = self._folder(account, new)
            write(account, folder, replace(member, name=new, pictures=saved_in(folder, pictures)), pictures)
            if key_of(new) != key_of(old):
                delete(self._folder(account, old))

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
            delete(folder)

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
        return self._around(account) / key_of(name)

    def _around(self, account: str) -> Path:
        if self._root is None:
            raise CastError("There is no place to keep pictures in.", "The setting REFVIDEO_DATA_DIR names one.")
        return self._root / key_of(account)

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


def listed(names: Sequence[str], most: int = 9) -> str:
    """Names as a prompt writes them."""
    shown = ", ".join(f"@{clean(name, 40)}" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _check_length(name: str) -> None:
    if len(name) > LONGEST_NAME:
        raise InvalidCall(f"A name to be remembered has at most {LONGEST_NAME} characters.", NOTHING)


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
