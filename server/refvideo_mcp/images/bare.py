"""Picture files cut down to what their pixels need, before a decoder sees them and before they leave.

What could tell on their owner is left out, and so is what only keeps a decoder busy.
"""

import re
import struct
import zlib
from collections.abc import Iterator

__all__ = ["GIF_FRAME", "bare", "gif_blocks", "jpeg_segments", "png_chunks", "webp_chunks"]

_PNG = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST", b"pHYs"}
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_WEBP = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH"}
_WEBP_ALPHA, _WEBP_PROFILE = 0x10, 0x20
# Tables, frames and scans. JFIF's segment and Adobe's, which tells the colours, are judged apart.
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
_JPEG = {0xDB, 0xDD, _JPEG_SCAN, _JPEG_END, *(set(range(0xC0, 0xD0)) - {0xC8})}
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_WINDOW = 2**20  # a search holds up everything else in this process
GIF_FRAME, _GIF_EXTENSION, _GIF_CONTROL = 0x2C, 0x21, 0xF9
# Every part takes time that nothing shows. The largest sensible picture has some 10,000, and a progressive JPEG
# some 10 scans, each of which is one more round over all pixels.
_MOST_PARTS = 100_000
_MOST_PIECES = 1_000_000  # GIF's have 255 bytes at most
_MOST_SCANS = 100


def bare(content: bytes, kind: str, *, keep_profile: bool) -> bytes | None:
    """The file without metadata and without what follows the picture; the same bytes if there is nothing to leave out.

    A file that ends too early stays one. None if it is not built as its kind (png, jpeg, webp, gif) should be, or
    if a decoder has to pick the first picture out of it.

    Raises:
        ValueError: it consists of too many parts.
    """
    parts = {"png": _bare_png, "jpeg": _bare_jpeg, "webp": _bare_webp, "gif": _bare_gif}[kind]
    try:
        made = b"".join(parts(memoryview(content), keep_profile))
    except (struct.error, IndexError):
        return None
    return content if made == content else made  # they may be large


def png_chunks(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Each chunk's name and the whole of it, up to the last one or to where the file ends."""
    place, name, parts = 8, b"", 0
    while name != b"IEND" and place + 8 < len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        yield name, content[place : place + 12 + length]
        place += 12 + length
        parts = _counted(parts)


def webp_chunks(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Each chunk's name and the whole of it, its padding included."""
    place, end, parts = 12, min(struct.unpack_from("<I", content, 4)[0] + 8, len(content)), 0
    while place + 8 <= end:
        name, length = struct.unpack_from("<4sI", content, place)
        following = place + 8 + length + length % 2
        yield name, content[place:following]
        place = following
        parts = _counted(parts)


def jpeg_segments(content: memoryview) -> Iterator[tuple[int, memoryview, int]]:
    """Each marker, the whole of what it begins, and where that ends in the file.

    Ends after the end marker or where the file does; a scan has its coded pixels with it.
    """
    place, marker, parts, scans = 2, 0, 0, 0
    while marker != _JPEG_END and (start := _next_marker(content, place)) < len(content):
        marker, place = content[start + 1], start + 2
        if marker != _JPEG_END:
            if place + 2 > len(content):
                return
            place += struct.unpack_from(">H", content, place)[0]
        if place > len(content):
            return
        if marker == _JPEG_SCAN:
            place = _next_marker(content, place)
            scans += 1
            if scans > _MOST_SCANS:
                raise ValueError("too many scans")
        yield marker, content[start:place], place
        parts = _counted(parts)


def _next_marker(content: memoryview, place: int) -> int:
    """Where the next marker begins, or the end of the file."""
    for start in range(place, len(content), _WINDOW):
        if found := _MARKER.search(content, start, start + _WINDOW + 1):  # it may lie across the edge
            return found.start()
    return len(content)


def gif_blocks(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Each block's label and the whole of it.

    Raises:
        IndexError: the file ends too early.
    """
    place, parts = _behind_palette(content, 10, 13), 0
    while (lead := content[place]) in (_GIF_EXTENSION, GIF_FRAME):
        start, label = place, content[place + 1] if lead == _GIF_EXTENSION else lead
        place = place + 2 if lead == _GIF_EXTENSION else _behind_palette(content, place + 9, place + 10) + 1
        while length := content[place]:
            place += 1 + length
            parts = _counted(parts, _MOST_PIECES)
        place += 1
        yield label, content[start:place]


def _behind_palette(content: memoryview, flags: int, place: int) -> int:
    return place + (3 << (content[flags] & 7) + 1 if content[flags] & 0x80 else 0)


def _counted(parts: int, most: int = _MOST_PARTS) -> int:
    if parts >= most:
        raise ValueError("too many parts")
    return parts + 1


def _bare_png(content: memoryview, keep_profile: bool) -> Iterator[bytes | memoryview]:
    kept = _PNG | ({b"iCCP"} if keep_profile else set())
    name = b""
    yield content[:8]
    for name, chunk in png_chunks(content):
        if name not in kept:
            continue
        length = struct.unpack_from(">I", chunk)[0]
        if len(chunk) == 12 + length:
            yield chunk
        elif name == b"IDAT":  # the last one, cut off: perhaps only its checksum is missing
            data = chunk[4 : 8 + length]
            yield struct.pack(">I", len(data) - 4)
            yield data
            yield struct.pack(">I", zlib.crc32(data))
    if name != b"IEND":
        yield _PNG_END


def _bare_webp(content: memoryview, keep_profile: bool) -> Iterator[bytes | memoryview]:
    kept = _WEBP | ({b"ICCP"} if keep_profile else set())
    chunks: dict[bytes, bytes | memoryview] = {}
    for name, chunk in webp_chunks(content):
        if name in kept:
            chunks.setdefault(name, chunk)
    if (head := chunks.get(b"VP8X")) is not None:  # it tells which chunks there are
        flags = head[8] & (_WEBP_ALPHA | (_WEBP_PROFILE if keep_profile else 0))
        chunks[b"VP8X"] = b"".join((head[:8], bytes([flags]), head[9:]))
    if not chunks.keys() & {b"VP8 ", b"VP8L"}:
        raise IndexError
    yield b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks.values()))) + b"WEBP"
    yield from chunks.values()


def _bare_jpeg(content: memoryview, keep_profile: bool) -> Iterator[bytes | memoryview]:
    yield content[:2]
    for marker, segment, _ in jpeg_segments(content):
        told = bytes(segment[4:16])
        if marker in _JPEG or (marker == 0xE2 and keep_profile and told == b"ICC_PROFILE\0"):
            yield segment
        elif marker == 0xE0 and told[:5] == b"JFIF\0" and len(told) == 12:
            yield b"\xff\xe0\0\x10" + told + b"\0\0"  # without its thumbnail
        elif marker == 0xEE and told[:5] == b"Adobe" and len(told) == 12:
            yield b"\xff\xee\0\x0e" + told


def _bare_gif(content: memoryview, keep_profile: bool) -> Iterator[bytes | memoryview]:
    """Its first frame."""
    yield content[: _behind_palette(content, 10, 13)]
    for label, block in gif_blocks(content):
        if label in (GIF_FRAME, _GIF_CONTROL):
            yield block
        if label == GIF_FRAME:
            yield b"\x3b"
            return
    raise IndexError
