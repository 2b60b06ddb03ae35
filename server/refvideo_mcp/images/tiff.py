"""Directories of TIFF files and Exif blocks, read within bounds: what a hostile one says is not believed."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Directory", "directories", "orientation"]

_MOST_DIRECTORIES, _MOST_ENTRIES = 1000, 20_000
_MOST_VALUES = 1024
_TYPES = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_ORIENTATION, _SUB_DIRECTORIES = 274, 330
_BELOW = (_SUB_DIRECTORIES, 34665, 34853, 40965)  # Exif's own ones too: decoders read them
# How it is built, which way up, camera raw's version, and a multi-picture file's index.
_KEPT = {254, 256, 258, 262, _ORIENTATION, *_BELOW, 50706, 0xB002}


@dataclass(frozen=True)
class Directory:
    """One directory: some tags and their whole numbers, at most 1024 each. `size`: bytes of all its values.

    `is_page`: it belongs to the file's own chain, not to another directory.
    """

    numbers: dict[int, tuple[int, ...]]
    entries: int
    size: int
    is_page: bool

    def first(self, tag: int, otherwise: int) -> int:
        return self.numbers.get(tag, (otherwise,))[0]


def directories(content: bytes) -> Iterator[Directory]:
    """All directories, each page before those below it, each once.

    Raises:
        ValueError: there are too many. struct.error: it ends too early.
    """
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        return
    big = struct.unpack_from(order + "H", content, 2)[0] == 43
    waiting = [(struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)[0], True)]
    seen, entries = set[int](), 0
    while waiting:
        place, is_page = waiting.pop()
        if place == 0 or place in seen:
            continue
        seen.add(place)
        directory, following = _directory(content, place, order, big, is_page)
        entries += directory.entries
        if len(seen) > _MOST_DIRECTORIES or entries > _MOST_ENTRIES:
            raise ValueError("too many directories")
        yield directory
        waiting.append((following, is_page))
        waiting += [(below, False) for tag in _BELOW for below in directory.numbers.get(tag, ())]


def orientation(exif: bytes) -> int:
    """Which way up an Exif block says its picture is, 1 to 8; 1 if it says nothing."""
    try:
        turn = next(directories(exif)).first(_ORIENTATION, 1)
    except (StopIteration, ValueError, struct.error):
        return 1
    return turn if 1 <= turn <= 8 else 1


def _directory(content: bytes, place: int, order: str, big: bool, is_page: bool) -> tuple[Directory, int]:
    count = struct.unpack_from(order + ("Q" if big else "H"), content, place)[0]
    place += 8 if big else 2
    if count > _MOST_ENTRIES:
        raise ValueError("too many entries")
    head, inline = order + ("HHQ" if big else "HHI"), 8 if big else 4
    step = struct.calcsize(head) + inline
    numbers, size = dict[int, tuple[int, ...]](), 0
    for entry in range(place, place + count * step, step):
        tag, kind, values = struct.unpack_from(head, content, entry)
        length = values * _SIZES.get(kind, 1)
        size += length
        start = entry + step - inline
        if length > inline:
            start = struct.unpack_from(order + ("Q" if big else "I"), content, start)[0]
        if tag in _KEPT and kind in _TYPES and values:
            form = f"{order}{min(values, _MOST_VALUES)}{_TYPES[kind]}"
            if start + struct.calcsize(form) <= len(content):
                numbers[tag] = struct.unpack_from(form, content, start)
    end = place + count * step
    try:
        following = struct.unpack_from(order + ("Q" if big else "I"), content, end)[0]
    except struct.error:  # nothing has to follow the last one
        following = 0
    return Directory(numbers, count, size, is_page), following
