"""Opens the file that was checked and no other: on the way to it, no link is followed."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from refvideo_mcp.errors import Refused

__all__ = ["MAX_BYTES", "names_in", "read"]

MAX_BYTES = 50_000_000
_LISTED = 5000

# Windows lacks some of these, and only Linux has O_PATH, which also passes folders that may not be listed.
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_LIST = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
# O_NONBLOCK: a FIFO that took the file's place must not hang us.
_FILE = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"):
    _FILE |= getattr(os, _name, 0)

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read(path: Path, shown: str) -> bytes:
    """The content of a regular file of at most 50 MB. `path` is real: none of its parts was a link when checked.

    Raises:
        Refused: it is no such file, or it changed meanwhile.
        OSError: the system does not let us.
    """
    with _opened(path, shown) as file:
        size = os.fstat(file).st_size
        if size > MAX_BYTES:
            raise _too_large(shown, size)
        parts = []
        left = size + 1
        while left and (part := os.read(file, left)):
            parts.append(part)
            left -= len(part)
        if not left:
            raise Refused(f"{shown} grew while it was read.", "Try again once it is whole. Nothing was sent.")
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


def _by_steps() -> bool:
    return os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd


@contextmanager
def _opened(path: Path, shown: str) -> Iterator[int]:
    file = _open_by_steps(path, shown) if _by_steps() else _open_and_compare(path, shown)
    try:
        yield file
    finally:
        os.close(file)


def _open_by_steps(path: Path, shown: str) -> int:
    folder = _descend(path.parent, _STEP)
    try:
        # A device may act on being opened alone, so look first.
        before = os.stat(path.name or ".", dir_fd=folder, follow_symlinks=False)
        _must_be_regular(before, shown)
        file = os.open(path.name, _FILE | _NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)
    return _same(file, before, shown)


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


def _open_and_compare(path: Path, shown: str) -> int:
    """For systems that cannot open relative to a folder: what was opened must be what its real path leads to."""
    before = path.lstat()
    _must_be_regular(before, shown)
    file = _same(os.open(path, _FILE | _NOFOLLOW), before, shown)
    if os.path.normcase(os.path.realpath(path)) != os.path.normcase(path):
        os.close(file)
        raise _swapped(shown)
    return file


def _same(file: int, before: os.stat_result, shown: str) -> int:
    now = os.fstat(file)
    if stat.S_ISREG(now.st_mode) and os.path.samestat(before, now):
        return file
    os.close(file)
    raise _swapped(shown)


def _must_be_regular(status: os.stat_result, shown: str) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _swapped(shown)
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise Refused(f"{shown} is {kind}, not a picture file.", "Use the path of a picture. Nothing was sent.")
    if status.st_size > MAX_BYTES:
        raise _too_large(shown, status.st_size)


def _too_large(shown: str, size: int) -> Refused:
    return Refused(
        f"{shown} is {size / 1e6:,.0f} MB large; pictures may have 50 MB.", "Use a smaller picture. Nothing was sent."
    )


def _swapped(shown: str) -> Refused:
    return Refused(f"{shown} was replaced while it was opened.", "Try again once it stays. Nothing was sent.")
