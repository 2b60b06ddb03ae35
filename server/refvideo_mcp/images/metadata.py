"""What a picture file holds beside its pixels: read for what it says of them, and left out before it leaves.

What could tell on its owner is left out, and so is what only keeps a decoder busy.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from refvideo_mcp.errors import InvalidCall, ask_user
from refvideo_mcp.images import boxes, tiff
from refvideo_mcp.images.color import CodePoints, gamma_profile, profile_of
from refvideo_mcp.images.file_kind import FileKind

__all__ = ["Metadata", "jpeg_segments", "read_metadata", "without_metadata"]

_PNG = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST", b"pHYs"}
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_WEBP = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH"}
_WEBP_ALPHA, _WEBP_PROFILE = 0x10, 0x20
# Tables, frames and scans. JFIF's segment and Adobe's, which tells the colours, are judged apart.
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
_JPEG = {0xDB, 0xDD, _JPEG_SCAN, _JPEG_END, *(set(range(0xC0, 0xD0)) - {0xC8})}
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_WINDOW = 2**20  # a search holds up everything else in this process
_GIF_FRAME, _GIF_EXTENSION, _GIF_CONTROL = 0x2C, 0x21, 0xF9
# Every part takes time that nothing shows. The largest sensible picture has some 10,000, and a progressive JPEG
# some 10 scans, each of which is one more round over all pixels.
_MOST_PARTS = 100_000
_MOST_PIECES = 1_000_000  # GIF's have 255 bytes at most
_MOST_SCANS = 100

_PROFILE_BYTES = 1_000_000  # Pillow unpacks no more
_LARGEST_EXIF = 1_000_000
_GAIN_MAP = re.compile(rb"hdrgm|hdrgainmap|GainMap", re.IGNORECASE)
_VIDEO_BEHIND = re.compile(rb"ftyp(mp4|iso|qt  |M4V|avc|hvc|3gp|MSNV)")
_THUMBNAILS = {0x010001, 0x010002}
_REDUCED, _REDUCED_OR_MASK = 0b001, 0b101
_RAW_SUFFIXES = (".3fr", ".arw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".nrw", ".pef", ".srw")
_SUBFILE, _WIDTH, _BITS, _PHOTOMETRIC, _DNG = 254, 256, 258, 262, 50706
_MPF_ENTRIES = 0xB002
_CFA, _LINEAR_RAW = 32803, 34892
_ANIMATED = ("is animated: only its first frame is sent",)
_MOTION_PHOTO = ("is a motion photo: only its still picture is sent",)


@dataclass(frozen=True)
class Metadata:
    """`content` is what a decoder needs. `turn` is Exif's number of the way up, 1 where the decoder sees to that.

    `profile` is the ICC profile of colours that the file names in another way. `depth`: bits of its values.
    `inverted`: 0 is white, which Pillow overlooks. `whole` is False for a JPEG that has no end.
    `warnings` say what of the file is not sent, without its name.
    """

    content: bytes
    turn: int = 1
    profile: bytes | None = None
    depth: int = 8
    inverted: bool = False
    whole: bool = True
    warnings: tuple[str, ...] = ()


def read_metadata(content: bytes, kind: FileKind, name: str) -> Metadata:
    """The parts of a picture file.

    Raises:
        InvalidCall: it is a camera raw file, or built to keep a decoder busy.
    """
    look = _LOOKS.get(kind)
    try:
        return look(content, name) if look else Metadata(content)
    except ValueError as error:
        raise InvalidCall(
            f"{name} is a {kind.upper()} picture that consists of too many parts.",
            ask_user("export it again. Nothing was sent."),
        ) from error


def without_metadata(content: bytes, kind: str, *, keep_profile: bool) -> bytes | None:
    """The file without metadata and without what follows the picture; the same bytes if there is nothing to leave out.

    A file that ends too early stays one. None if it is not built as its kind (png, jpeg, webp, gif) should be, or
    if a decoder has to pick the first picture out of it.

    Raises:
        ValueError: it consists of too many parts.
    """
    parts = {"png": _stripped_png, "jpeg": _stripped_jpeg, "webp": _stripped_webp, "gif": _stripped_gif}[kind]
    try:
        made = b"".join(parts(memoryview(content), keep_profile))
    except (struct.error, IndexError):
        return None
    return content if made == content else made  # they may be large


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


def _counted(parts: int, most: int = _MOST_PARTS) -> int:
    if parts >= most:
        raise ValueError("too many parts")
    return parts + 1


def _png(content: bytes, _: str) -> Metadata:
    found: dict[bytes, memoryview] = {}
    for name, chunk in _png_chunks(memoryview(content)):
        found.setdefault(name, chunk[8:-4])
    depth = found[b"IHDR"][8] if len(found.get(b"IHDR", b"")) > 8 else 0
    profile: bytes | None = None
    warnings: tuple[str, ...] = _ANIMATED if b"acTL" in found else ()
    keep_profile = _unpacks(found.get(b"iCCP"))
    if len(points := found.get(b"cICP", b"")) == 4:
        named = CodePoints(points[0], points[1], narrow=not points[3])
        keep_profile, profile = False, profile_of(named)
        warnings += named.warnings
    elif not keep_profile and b"sRGB" not in found:
        profile = _gamma(found.get(b"gAMA"), found.get(b"cHRM"))
    return Metadata(
        without_metadata(content, "png", keep_profile=keep_profile) or content,
        turn=tiff.orientation(bytes(found.get(b"eXIf", b"")[:_LARGEST_EXIF])),
        profile=profile,
        depth=depth,
        warnings=warnings,
    )


def _unpacks(chunk: memoryview | None) -> bool:
    """Whether a PNG's profile is whole and of a size that Pillow takes."""
    if chunk is None:
        return False
    _, _, packed = bytes(chunk[: 2 * _PROFILE_BYTES]).partition(b"\0")
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed[1:], _PROFILE_BYTES)
    except zlib.error:
        return False
    return packed[:1] == b"\0" and unpacking.eof


def _gamma(gamma: memoryview | None, chromaticities: memoryview | None) -> bytes | None:
    value = struct.unpack(">I", gamma)[0] if gamma is not None and len(gamma) == 4 else 0
    places = struct.unpack(">8I", chromaticities) if chromaticities is not None and len(chromaticities) == 32 else None
    if places is not None:
        white, colours = places[:2], places[2:]
        places = tuple(place / 100_000 for place in (*colours, *white))
    return gamma_profile(100_000 / value if value else None, places)


def _stripped_png(content: memoryview, keep_profile: bool) -> Iterator[bytes | memoryview]:
    kept = _PNG | ({b"iCCP"} if keep_profile else set())
    name = b""
    yield content[:8]
    for name, chunk in _png_chunks(content):
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


def _png_chunks(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Each chunk's name and the whole of it, up to the last one or to where the file ends."""
    place, name, parts = 8, b"", 0
    while name != b"IEND" and place + 8 < len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        yield name, content[place : place + 12 + length]
        place += 12 + length
        parts = _counted(parts)


def _jpeg(content: bytes, _: str) -> Metadata:
    exif, pictures, end, whole = b"", 1, 0, False
    for marker, segment, end in jpeg_segments(memoryview(content)):
        told = bytes(segment[4:16])
        if marker == 0xE1 and told[:6] == b"Exif\0\0":
            exif = exif or bytes(segment[10:])
        elif marker == 0xE2 and told[:4] == b"MPF\0":
            pictures = 1 + _more_pictures(content, bytes(segment[8:]), end - len(segment) + 8)
        whole = marker == 0xD9
    warnings: tuple[str, ...] = (f"holds {pictures} pictures: only the first is sent",) if pictures > 1 else ()
    if whole and _VIDEO_BEHIND.search(content, end):
        warnings += _MOTION_PHOTO
    return Metadata(
        without_metadata(content, "jpeg", keep_profile=True) or content,
        turn=tiff.orientation(exif),
        whole=whole,
        warnings=warnings,
    )


def _more_pictures(content: bytes, index: bytes, base: int) -> int:
    """How many pictures besides the first a user may have meant: neither thumbnails nor maps of brightness."""
    try:
        entries = bytes(next(tiff.directories(index)).numbers[_MPF_ENTRIES])
    except (StopIteration, KeyError, ValueError, struct.error):
        return 0
    order = "<" if index[:2] == b"II" else ">"
    count = 0
    for place in range(16, len(entries) - 15, 16):
        kind, size, start = struct.unpack_from(order + "III", entries, place)
        picture = content[base + start : base + start + min(size, 65_536)]
        count += kind & 0xFFFFFF not in _THUMBNAILS and not _GAIN_MAP.search(picture)
    return count


def _stripped_jpeg(content: memoryview, keep_profile: bool) -> Iterator[bytes | memoryview]:
    yield content[:2]
    for marker, segment, _ in jpeg_segments(content):
        told = bytes(segment[4:16])
        if marker in _JPEG or (marker == 0xE2 and keep_profile and told == b"ICC_PROFILE\0"):
            yield segment
        elif marker == 0xE0 and told[:5] == b"JFIF\0" and len(told) == 12:
            yield b"\xff\xe0\0\x10" + told + b"\0\0"  # without its thumbnail
        elif marker == 0xEE and told[:5] == b"Adobe" and len(told) == 12:
            yield b"\xff\xee\0\x0e" + told


def _next_marker(content: memoryview, place: int) -> int:
    """Where the next marker begins, or the end of the file."""
    for start in range(place, len(content), _WINDOW):
        if found := _MARKER.search(content, start, start + _WINDOW + 1):  # it may lie across the edge
            return found.start()
    return len(content)


def _webp(content: bytes, _: str) -> Metadata:
    found = {name: chunk for name, chunk in _webp_chunks(memoryview(content)) if name in (b"EXIF", b"ANIM")}
    exif = bytes(found.get(b"EXIF", b"")[8 : 8 + _LARGEST_EXIF]).removeprefix(b"Exif\0\0")
    return Metadata(
        without_metadata(content, "webp", keep_profile=True) or content,
        turn=tiff.orientation(exif),
        warnings=_ANIMATED if b"ANIM" in found else (),
    )


def _stripped_webp(content: memoryview, keep_profile: bool) -> Iterator[bytes | memoryview]:
    kept = _WEBP | ({b"ICCP"} if keep_profile else set())
    chunks: dict[bytes, bytes | memoryview] = {}
    for name, chunk in _webp_chunks(content):
        if name in kept:
            chunks.setdefault(name, chunk)
    if (head := chunks.get(b"VP8X")) is not None:  # it tells which chunks there are
        flags = head[8] & (_WEBP_ALPHA | (_WEBP_PROFILE if keep_profile else 0))
        chunks[b"VP8X"] = b"".join((head[:8], bytes([flags]), head[9:]))
    if not chunks.keys() & {b"VP8 ", b"VP8L"}:
        raise IndexError
    yield b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks.values()))) + b"WEBP"
    yield from chunks.values()


def _webp_chunks(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Each chunk's name and the whole of it, its padding included."""
    place, end, parts = 12, min(struct.unpack_from("<I", content, 4)[0] + 8, len(content)), 0
    while place + 8 <= end:
        name, length = struct.unpack_from("<4sI", content, place)
        following = place + 8 + length + length % 2
        yield name, content[place:following]
        place = following
        parts = _counted(parts)


def _gif(content: bytes, name: str) -> Metadata:
    cut, frames = without_metadata(content, "gif", keep_profile=False), 0
    try:
        for label, _ in _gif_blocks(memoryview(content)):
            frames += label == _GIF_FRAME
            if frames > 1:
                break
    except IndexError:  # it ends too early: its decoder says so
        pass
    return Metadata(cut or content, warnings=_ANIMATED if frames > 1 else ())


def _stripped_gif(content: memoryview, keep_profile: bool) -> Iterator[bytes | memoryview]:
    """Its first frame."""
    yield content[: _behind_palette(content, 10, 13)]
    for label, block in _gif_blocks(content):
        if label in (_GIF_FRAME, _GIF_CONTROL):
            yield block
        if label == _GIF_FRAME:
            yield b"\x3b"
            return
    raise IndexError


def _gif_blocks(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Each block's label and the whole of it.

    Raises:
        IndexError: the file ends too early.
    """
    place, parts = _behind_palette(content, 10, 13), 0
    while (lead := content[place]) in (_GIF_EXTENSION, _GIF_FRAME):
        start, label = place, content[place + 1] if lead == _GIF_EXTENSION else lead
        place = place + 2 if lead == _GIF_EXTENSION else _behind_palette(content, place + 9, place + 10) + 1
        while length := content[place]:
            place += 1 + length
            parts = _counted(parts, _MOST_PIECES)
        place += 1
        yield label, content[start:place]


def _behind_palette(content: memoryview, flags: int, place: int) -> int:
    return place + (3 << (content[flags] & 7) + 1 if content[flags] & 0x80 else 0)


def _tiff(content: bytes, name: str) -> Metadata:
    pages: list[tiff.Directory] = []
    below: list[tiff.Directory] = []
    size = 0
    try:
        for directory in tiff.directories(content):
            size += directory.size
            if size > 2 * len(content):  # a decoder would read them all
                raise ValueError("values larger than the file")
            if directory.first(_PHOTOMETRIC, 0) in (_CFA, _LINEAR_RAW) or _DNG in directory.numbers:
                raise _raw(name)
            if _WIDTH in directory.numbers:
                (pages if directory.is_page else below).append(directory)
    except struct.error:
        pass
    if not pages:
        return Metadata(content)
    others = [page for page in (*pages[1:], *below) if not page.first(_SUBFILE, 0) & _REDUCED_OR_MASK]
    if name.lower().endswith(_RAW_SUFFIXES) or (others and pages[0].first(_SUBFILE, 0) & _REDUCED):
        raise _raw(name)
    count = 1 + sum(page.is_page for page in others)
    depth = pages[0].first(_BITS, 1)
    return Metadata(
        content,
        depth=depth,
        inverted=pages[0].first(_PHOTOMETRIC, 1) == 0 and depth > 8,
        warnings=(f"has {count} pages: only the first is sent",) if count > 1 else (),
    )


def _raw(name: str) -> InvalidCall:
    return InvalidCall(f"{name} is a camera raw file.", ask_user("export a JPEG from it. Nothing was sent."))


def _boxed(content: bytes, _: str) -> Metadata:
    points = boxes.code_points(content)
    warnings = points.warnings if points else ()
    if boxes.holds_video(content):
        warnings += _MOTION_PHOTO
    return Metadata(content, profile=profile_of(points) if points else None, warnings=warnings)


_LOOKS: dict[FileKind, Callable[[bytes, str], Metadata]] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
    "gif": _gif,
    "tiff": _tiff,
    "avif": _boxed,
    "heif": _boxed,
}
