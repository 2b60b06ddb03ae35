"""Watches which files are opened, by what Python says and, on Linux, by what the kernel says."""

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

IN_OPEN, IN_NONBLOCK, IN_DONT_FOLLOW = 0x20, 0o4000, 0x02000000

_listeners: list[Callable[[str], None]] = []


def _hear(event: str, args: tuple[object, ...]) -> None:
    if event == "open" and _listeners:
        name = os.fsdecode(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else ""
        for listener in tuple(_listeners):
            listener(name)


_hooked: list[bool] = []


@contextmanager
def on_open(listener: Callable[[str], None]) -> Iterator[None]:
    """Call `listener` with the name before each file that Python opens."""
    if not _hooked:
        sys.addaudithook(_hear)  # stays for good
        _hooked.append(True)
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def nothing_opened_in(*forbidden: Path) -> Iterator[None]:
    """Fail if a file in one of these folders, or one of these files, is opened meanwhile, under whatever name.

    The kernel tells of every process, so these should be files that only this test knows.
    """
    seen: list[str] = []
    kernel = _Kernel(forbidden) if sys.platform == "linux" else None

    def note(name: str) -> None:
        if Path(name).is_absolute() and any(Path(name).is_relative_to(folder) for folder in forbidden):
            seen.append(name)

    try:
        with on_open(note):
            yield
        if kernel is not None:
            seen += kernel.opened()
    finally:
        if kernel is not None:
            kernel.close()
    if seen:
        raise AssertionError(f"opened: {seen}")


class _Kernel:
    """Linux counts every opening of a watched file, also those in C code and relative to a folder."""

    def __init__(self, watched: tuple[Path, ...]):
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(IN_NONBLOCK)
        self._names = {}
        for path in watched:
            number = libc.inotify_add_watch(self._fd, os.fsencode(path), IN_OPEN)
            assert number > 0, os.strerror(ctypes.get_errno())
            self._names[number] = path

    def opened(self) -> list[str]:
        found = []
        try:
            events = os.read(self._fd, 2**20)
        except BlockingIOError:
            return []
        while events:
            number, _, _, length = struct.unpack_from("iIII", events)
            name = events[16 : 16 + length].rstrip(b"\0").decode(errors="replace")
            found.append(str(self._names[number] / name))
            events = events[16 + length :]
        return found

    def close(self) -> None:
        os.close(self._fd)
