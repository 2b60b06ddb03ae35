"""PNG, JPEG and WebP files cut down to what their pixels need: what could tell on their owner is left out."""

import re
import struct
from collections.abc import Iterator

__all__ = ["bare"]

_PNG = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST", b"pHYs"}
_WEBP = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH"}
_WEBP_ALPHA, _WEBP_PROFILE = 0x10, 0x20
# Tables, frames and scans. JFIF's segment without a thumbnail and Adobe's, which tells the colours, are judged apart.
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
_JPEG = {0xDB, 0xDD, _JPEG_SCAN, _JPEG_END, *(set(range(0xC0, 0xD0)) - {0xC8})}
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def bare(content: bytes, kind: str, *, keep_profile: bool) -> bytes | None:
    """The file without metadata and without what follows the picture; the same bytes if there is nothing to leave out.

    None if it is not built as its kind should be.
    """
    parts = {"png": _bare_png, "jpeg": _bare_jpeg, "webp": _bare_webp}[kind]
    try:
        return b"".join(parts(memoryview(content), keep_profile))
    except (struct.error, IndexError):  # it ends too early
        return None


def _bare_png(content: memoryview, keep_profile: bool) -> Iterator[bytes | memoryview]:
    kept = _PNG | ({b"iCCP"} if keep_profile else set())
    place, name = 8, b""
    yield content[:place]
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", content, place)
        if name in kept:
            yield content[place : place + 12 + length]
        place += 12 + length


def _bare_webp(content: memoryview, keep_profile: bool) -> Iterator[bytes | memoryview]:
    kept = _WEBP | ({b"ICCP"} if keep_profile else set())
    chunks: dict[bytes, bytes | memoryview] = {}
    place, end = 12, struct.unpack_from("<I", content, 4)[0] + 8
    while place < end:
        name, length = struct.unpack_from("<4sI", content, place)
        following = place + 8 + length + length % 2
        if name in kept:
            chunks.setdefault(name, content[place:following])
        place = following
    if (head := chunks.get(b"VP8X")) is not None:  # it tells which chunks there are
        flags = head[8] & (_WEBP_ALPHA | (_WEBP_PROFILE if keep_profile else 0))
        chunks[b"VP8X"] = b"".join((head[:8], bytes([flags]), head[9:]))
    if not chunks.keys() & {b"VP8 ", b"VP8L"}:
        raise IndexError
    yield b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks.values()))) + b"WEBP"
    yield from chunks.values()


def _bare_jpeg(content: memoryview, keep_profile: bool) -> Iterator[bytes | memoryview]:
    yield content[:2]
    place, marker = 2, 0
    while marker != _JPEG_END:
        start = place
        while content[place] == content[place + 1] == 0xFF:  # fill bytes
            place += 1
        lead, marker = content[place], content[place + 1]
        length = 0 if marker == _JPEG_END else struct.unpack_from(">H", content, place + 2)[0]
        told = bytes(content[place + 4 : place + 2 + min(length, 16)])
        place += 2 + length
        if marker == _JPEG_SCAN:
            following = _NEXT_MARKER.search(content, place)
            place = following.start() if following else len(content)
        if lead != 0xFF or place > len(content):
            raise IndexError
        if (
            marker in _JPEG
            or (marker == 0xE0 and length == 16 and told.startswith(b"JFIF\0"))
            or (marker == 0xEE and length == 14 and told.startswith(b"Adobe"))
            or (marker == 0xE2 and keep_profile and told.startswith(b"ICC_PROFILE\0"))
        ):
            yield content[start:place]
