"""A file in the making. Everything here blocks: call it in a thread."""

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import BinaryIO

from refvideo_mcp.errors import Unavailable, clean
from refvideo_mcp.files import check_still_there

__all__ = ["NotReached", "PartialFile", "ending_of", "sweep"]

_HEAD = 12
_FORGOTTEN_SECONDS = 24 * 3600


class NotReached(Unavailable):
    """No video came over the link so far; a later try or a fresh link may bring it.

    `status` is what its host refused it with, None where it did not get as far as a refusal.
    """

    def __init__(self, why: str, status: int | None = None):
        super().__init__(f"The video could not be fetched yet: {why}.")
        self.status = status


class PartialFile:
    """A download on its way into `folder`: under a temporary name beside its destination until it is whole.

    `size` is what was written so far. `is_checked`: the folder is a checked destination's, and must still be what it
    was then.
    """

    def __init__(self, folder: Path, *, is_checked: bool = False):
        self.size = 0
        self._folder = folder
        self._is_checked = is_checked
        self._path = folder / f".refvideo-{secrets.token_hex(8)}.part"
        self._file: BinaryIO | None = None
        self._head = b""

    def write(self, chunk: bytes) -> None:
        """Append to the file.

        Raises:
            NotReached: what comes is no video.
            Unavailable: the folder leads elsewhere by now.
            OSError: it cannot be stored.
        """
        self._opened().write(chunk)
        self._head = (self._head + chunk[:_HEAD])[:_HEAD]
        self.size += len(chunk)
        if self.size >= _HEAD:
            self._ending()

    def restart(self) -> None:
        file = self._opened()
        file.seek(0)
        file.truncate()
        self.size, self._head = 0, b""

    def is_whole(self) -> bool:
        """Whether the file is as long as its own boxes say. A proxy that cuts a video may hide it."""
        if self._ending() != ".mp4":
            return True
        file, place = self._opened(), 0
        while place + 8 <= self.size:
            file.seek(place)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:], "big")
            if length < 8 or not head[4:8].isalnum():
                break  # a length of 0 means "to the end of the file"; the rest is nonsense behind the video
            place += length
        file.seek(self.size)
        return place <= self.size

    def publish(self, name: str) -> Path:
        """Give the whole file its name and ending, never over an existing file.

        Raises:
            NotReached: it is no video.
            Unavailable: there are too many files of this name, or the folder leads elsewhere by now.
            OSError: it cannot be stored.
        """
        ending = self._ending()
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._check()
        for number in range(1, 1000):
            target = self._folder / (f"{name}{ending}" if number == 1 else f"{name} ({number}){ending}")
            try:
                target.touch(exist_ok=False)  # claims the name among processes, on every file system
            except FileExistsError:
                continue
            try:
                self._path.replace(target)
            except BaseException:
                target.unlink(missing_ok=True)
                raise
            _sync(self._folder)
            return target
        raise Unavailable(f"There are too many files called {clean(name, 80)} in {clean(str(self._folder), 200)}.")

    def discard(self) -> None:
        """Leave nothing behind but what was published."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()  # may try once more to write
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._check()
            self._folder.mkdir(parents=True, exist_ok=True)
            sweep(self._folder, ".refvideo-*.part", _FORGOTTEN_SECONDS)  # of processes that were killed
            self._file = self._path.open("x+b")
        return self._file

    def _check(self) -> None:
        if self._is_checked:
            check_still_there(self._folder)

    def _ending(self) -> str:
        if ending := ending_of(self._head):
            return ending
        is_page = self._head.lstrip(b"\xef\xbb\xbf\r\n\t ").startswith(b"<")
        found = "a web page" if is_page else "something else" if self.size else "an empty file"
        raise NotReached(f"its link led to {found} instead of a video")


def ending_of(head: bytes) -> str | None:
    """The ending of a video's name, by the first bytes of the file; None if it is no video."""
    if head[4:8] == b"ftyp":
        return ".mp4"
    return ".gif" if head[:6] in (b"GIF87a", b"GIF89a") else None


def sweep(folder: Path, pattern: str, seconds: float) -> None:
    """Delete the files in `folder` that nobody has changed for so long."""
    for file in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > seconds:
                file.unlink()


def _sync(folder: Path) -> None:
    """Make the new name outlive a power cut, where the system lets a folder be synced."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
