"""The boxes of AVIF and HEIC files: which colours their main picture has, and whether a video lies beside it."""

import struct
from collections.abc import Iterator

from refvideo_mcp.images.color import CodePoints

__all__ = ["code_points", "holds_video"]

_MOST_BOXES = 10_000


def code_points(content: bytes) -> CodePoints | None:
    """The colours that the main picture's `nclx` box names, if it has one."""
    try:
        return _code_points(memoryview(content))
    except (struct.error, IndexError):
        return None


def holds_video(content: bytes) -> bool:
    """Whether it is a motion photo: a still picture with a video behind it."""
    try:
        return any(name == b"mpvd" for name, _ in _boxes(memoryview(content)))
    except struct.error:
        return False


def _boxes(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    place = 0
    for _ in range(_MOST_BOXES):
        if place + 8 > len(content):
            return
        size, name = struct.unpack_from(">I4s", content, place)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", content, place + 8)[0], 16
        elif size == 0:
            size = len(content) - place
        if size < head:
            return
        yield name, content[place + head : place + size]
        place += size


def _box(content: memoryview, *path: bytes) -> memoryview:
    for name in path:
        content = next((inner for box, inner in _boxes(content) if box == name), memoryview(b""))
        if name == b"meta":
            content = content[4:]
    return content


def _code_points(content: memoryview) -> CodePoints | None:
    meta = _box(content, b"meta")
    main = _box(meta, b"pitm")
    item = struct.unpack_from(">H" if main[0] == 0 else ">I", main, 4)[0]
    properties = list(_boxes(_box(meta, b"iprp", b"ipco")))
    for number in _properties_of(item, _box(meta, b"iprp", b"ipma")):
        if 0 < number <= len(properties):
            name, inner = properties[number - 1]
            if name == b"colr" and bytes(inner[:4]) == b"nclx":
                primaries, transfer = struct.unpack_from(">HH", inner, 4)
                return CodePoints(primaries, transfer)
    return None


def _properties_of(wanted: int, associations: memoryview) -> list[int]:
    flags, count = struct.unpack_from(">II", associations)
    wide_item, wide_number, place = flags >> 24 > 0, flags & 1, 8
    for _ in range(min(count, _MOST_BOXES)):
        item = struct.unpack_from(">I" if wide_item else ">H", associations, place)[0]
        place += 4 if wide_item else 2
        uses = associations[place]
        form = f">{uses}{'H' if wide_number else 'B'}"
        numbers = struct.unpack_from(form, associations, place + 1)
        if item == wanted:
            return [number & (0x7FFF if wide_number else 0x7F) for number in numbers]
        place += 1 + struct.calcsize(form)
    return []
