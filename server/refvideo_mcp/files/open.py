"""Opens the file that was checked and no other: on the way to it, no link is followed."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from refvideo_mcp.errors import InvalidCall, Refused, ask_user, ask_user_for, clean

__all__ = ["MAX_BYTES", "LocalFile", "names_in", "only_in_the_cloud", "read", "trouble_as_refusal"]

MAX_BYTES = 50_000_000
_LISTED = 5000

# Windows lacks some of these, and only Linux has O_PATH, which also passes folders that may not be listed.
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_STEP, _LIST = getattr(os, "O_PATH", os.O_RDONLY) | _FOLDER, os.O_RDONLY | _FOLDER
# O_NONBLOCK: a FIFO that took the file's place must not hang us.
_FILE = os.O_RDONLY | _NOFOLLOW
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"):
    _FILE |= getattr(os, _name, 0)

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_SAID = {
    errno.EACCES: "may not be read by this server: its permissions forbid it",
    errno.EPERM: "may not be read by this server: its permissions forbid it",
    errno.ENAMETOOLONG: "has a name that is too long for any file",
    errno.ELOOP: "is a link that leads nowhere, or was replaced by one",
}
_MISSING = (errno.ENOENT, errno.ENOTDIR)
# What iCloud and OneDrive answer where they may not fetch a file for this process, or cannot.
_CLOUD = {errno.EDEADLK, errno.ETIMEDOUT, errno.ECANCELED}
_WINDOWS_CLOUD = {*range(358, 405), 426}  # ERROR_CLOUD_FILE_…
_CLOUD_FOLDER = re.compile(r"[\\/](OneDrive|Mobile Documents|CloudStorage|iCloud ?Drive|Dropbox|Google ?Drive)", re.I)


@dataclass(frozen=True)
class LocalFile:
    """A local picture: its path as it was meant, and the path without links."""

    tried: Path
    path: Path

    @property
    def shown(self) -> str:
        return clean(str(self.tried), 200)

    @property
    def name(self) -> str:
        return clean(self.tried.name, 60)


def read(file: LocalFile) -> bytes:
    """The content of a regular file of at most 50 MB. None of its path's parts was a link when it was checked.

    Raises:
        Refused: it is no such file, it changed meanwhile, or the system does not let us.
    """
    with trouble_as_refusal(file.shown), _opened(file.path, file.shown) as opened:
        size = os.fstat(opened).st_size
        if size > MAX_BYTES:
            raise _too_large(file.shown, size)
        parts = []
        left = size + 1
        while left and (part := os.read(opened, left)):
            parts.append(part)
            left -= len(part)
        if not left:
            raise Refused(f"{file.shown} grew while it was read.", "Try again once it is whole. Nothing was sent.")
    return b"".join(parts)


def names_in(folder: Path) -> list[str]:
    """Names in a real folder, at most 5000 of them.

    Raises:
        OSError: it cannot be listed, or a link took its place.
    """
    listed = _descend(folder, _LIST) if _by_steps() else None
    try:
        with os.scandir(folder if listed is None else listed) as entries:
            return [entry.name for entry in islice(entries, _LISTED)]
    finally:
        if listed is not None:
            os.close(listed)


@contextmanager
def trouble_as_refusal(shown: str, *, missing_is_fine: bool = False) -> Iterator[None]:
    """What the system says about a file, in a sentence."""
    try:
        yield
    except ValueError as error:
        raise InvalidCall(
            f"{shown} cannot be a file's name.", ask_user_for("the right path. Nothing was sent.")
        ) from error
    except OSError as error:
        missing = error.errno in _MISSING
        if missing and missing_is_fine:
            return
        if _is_in_the_cloud(error, shown):
            raise only_in_the_cloud(shown) from error
        happened = "was removed or replaced while it was opened" if missing else _SAID.get(error.errno or 0)
        raise InvalidCall(
            f"{shown} {happened or 'cannot be read: ' + clean(error.strerror or 'it failed', 80)}.",
            ask_user_for("another path. Nothing was sent."),
        ) from error


def only_in_the_cloud(shown: str) -> Refused:
    return Refused(
        f"{shown} is only in the cloud, not on this machine.",
        ask_user(
            "download it there first (iCloud: Download Now; OneDrive: Always keep on this device). Nothing was sent."
        ),
    )


def _is_in_the_cloud(error: OSError, path: str) -> bool:
    unclear = error.errno in (errno.EIO, errno.EINVAL) and _CLOUD_FOLDER.search(path) is not None
    return unclear or error.errno in _CLOUD or getattr(error, "winerror", None) in _WINDOWS_CLOUD


def _by_steps() -> bool:
    """Whether files can be opened relative to a folder, as on Windows they cannot."""
    return os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd


@contextmanager
def _opened(path: Path, shown: str) -> Iterator[int]:
    folder = _descend(path.parent, _STEP) if _by_steps() else None
    name = path if folder is None else path.name or "."
    try:
        # A device may act on being opened alone, so look first.
        before = os.stat(name, dir_fd=folder, follow_symlinks=False)
        _must_be_regular(before, shown)
        file = os.open(name, _FILE, dir_fd=folder)
    finally:
        if folder is not None:
            os.close(folder)
    try:
        now = os.fstat(file)
        is_same = stat.S_ISREG(now.st_mode) and os.path.samestat(before, now)
        if not is_same or (folder is None and os.path.normcase(os.path.realpath(path)) != os.path.normcase(path)):
            raise _swapped(shown)
        yield file
    finally:
        os.close(file)


def _descend(path: Path, flags: int) -> int:
    """A descriptor of a folder; opening a link on the way fails."""
    folder = os.open(path.anchor, _STEP if len(path.parts) > 1 else flags)
    for place, part in enumerate(path.parts[1:], 2):
        try:
            below = os.open(part, (flags if place == len(path.parts) else _STEP) | _NOFOLLOW, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return folder


def _must_be_regular(status: os.stat_result, shown: str) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _swapped(shown)
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise InvalidCall(f"{shown} is {kind}, not a picture file.", "Use the path of a picture. Nothing was sent.")
    if status.st_size > MAX_BYTES:
        raise _too_large(shown, status.st_size)


def _too_large(shown: str, size: int) -> InvalidCall:
    return InvalidCall(
        f"{shown} is {size / 1e6:,.0f} MB large; pictures may have 50 MB.", "Use a smaller picture. Nothing was sent."
    )


def _swapped(shown: str) -> Refused:
    return Refused(f"{shown} was replaced while it was opened.", "Try again once it stays. Nothing was sent.")
