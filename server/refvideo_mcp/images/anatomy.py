"""What a picture file says about its pixels: which way up, in which colours, and what else is in it."""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from refvideo_mcp.errors import InvalidCall, ask_user
from refvideo_mcp.images import boxes, tiff
from refvideo_mcp.images.bare import GIF_FRAME, bare, gif_blocks, jpeg_segments, png_chunks, webp_chunks
from refvideo_mcp.images.kinds import FileKind
from refvideo_mcp.images.profiles import CodePoints, gamma_profile, profile_of

__all__ = ["Anatomy", "about_colours", "examined"]

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


@dataclass(frozen=True)
class Anatomy:
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


def examined(content: bytes, kind: FileKind, name: str) -> Anatomy:
    """The parts of a picture file.

    Raises:
        InvalidCall: it is a camera raw file, or built to keep a decoder busy.
    """
    look = _LOOKS.get(kind)
    try:
        return look(content, name) if look else Anatomy(content)
    except ValueError as error:
        raise InvalidCall(
            f"{name} is a {kind.upper()} picture that consists of too many parts.",
            ask_user("export it again. Nothing was sent."),
        ) from error


def _png(content: bytes, _: str) -> Anatomy:
    found: dict[bytes, memoryview] = {}
    for name, chunk in png_chunks(memoryview(content)):
        found.setdefault(name, chunk[8:-4])
    depth = found[b"IHDR"][8] if len(found.get(b"IHDR", b"")) > 8 else 0
    profile, warnings = None, ["is animated: only its first frame is sent"] if b"acTL" in found else []
    keep_profile = _unpacks(found.get(b"iCCP"))
    if len(points := found.get(b"cICP", b"")) == 4:
        named = CodePoints(points[0], points[1], narrow=not points[3])
        keep_profile, profile = False, profile_of(named)
        warnings += about_colours(named)
    elif not keep_profile and b"sRGB" not in found:
        profile = _gamma(found.get(b"gAMA"), found.get(b"cHRM"))
    return Anatomy(
        bare(content, "png", keep_profile=keep_profile) or content,
        turn=tiff.orientation(bytes(found.get(b"eXIf", b"")[:_LARGEST_EXIF])),
        profile=profile,
        depth=depth,
        warnings=tuple(warnings),
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


def about_colours(points: CodePoints) -> list[str]:
    """What to say of colours that do not come out as they are."""
    if points.is_hdr:
        return ["is an HDR picture: its bright parts are toned down, as in an ordinary picture"]
    return [] if points.is_known else ["names colours that are unknown here: they may come out wrong"]


def _webp(content: bytes, _: str) -> Anatomy:
    found = {name: chunk for name, chunk in webp_chunks(memoryview(content)) if name in (b"EXIF", b"ANIM")}
    exif = bytes(found.get(b"EXIF", b"")[8 : 8 + _LARGEST_EXIF]).removeprefix(b"Exif\0\0")
    return Anatomy(
        bare(content, "webp", keep_profile=True) or content,
        turn=tiff.orientation(exif),
        warnings=("is animated: only its first frame is sent",) if b"ANIM" in found else (),
    )


def _gif(content: bytes, name: str) -> Anatomy:
    cut, frames = bare(content, "gif", keep_profile=False), 0
    try:
        for label, _ in gif_blocks(memoryview(content)):
            frames += label == GIF_FRAME
            if frames > 1:
                break
    except IndexError:  # it ends too early: its decoder says so
        pass
    return Anatomy(cut or content, warnings=("is animated: only its first frame is sent",) if frames > 1 else ())


def _jpeg(content: bytes, _: str) -> Anatomy:
    exif, pictures, end, whole = b"", 1, 0, False
    for marker, segment, end in jpeg_segments(memoryview(content)):
        told = bytes(segment[4:16])
        if marker == 0xE1 and told[:6] == b"Exif\0\0":
            exif = exif or bytes(segment[10:])
        elif marker == 0xE2 and told[:4] == b"MPF\0":
            pictures = 1 + _more_pictures(content, bytes(segment[8:]), end - len(segment) + 8)
        whole = marker == 0xD9
    warnings = [f"holds {pictures} pictures: only the first is sent"] if pictures > 1 else []
    if whole and _VIDEO_BEHIND.search(content, end):
        warnings.append("is a motion photo: only its still picture is sent")
    return Anatomy(
        bare(content, "jpeg", keep_profile=True) or content,
        turn=tiff.orientation(exif),
        whole=whole,
        warnings=tuple(warnings),
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


def _tiff(content: bytes, name: str) -> Anatomy:
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
        return Anatomy(content)
    others = [page for page in (*pages[1:], *below) if not page.first(_SUBFILE, 0) & _REDUCED_OR_MASK]
    if name.lower().endswith(_RAW_SUFFIXES) or (others and pages[0].first(_SUBFILE, 0) & _REDUCED):
        raise _raw(name)
    count = 1 + sum(page.is_page for page in others)
    depth = pages[0].first(_BITS, 1)
    return Anatomy(
        content,
        depth=depth,
        inverted=pages[0].first(_PHOTOMETRIC, 1) == 0 and depth > 8,
        warnings=(f"has {count} pages: only the first is sent",) if count > 1 else (),
    )


def _raw(name: str) -> InvalidCall:
    return InvalidCall(f"{name} is a camera raw file.", ask_user("export a JPEG from it. Nothing was sent."))


def _boxed(content: bytes, _: str) -> Anatomy:
    points = boxes.code_points(content)
    warnings = about_colours(points) if points else []
    if boxes.holds_video(content):
        warnings.append("is a motion photo: only its still picture is sent")
    profile = profile_of(points) if points else None
    return Anatomy(content, profile=profile, warnings=tuple(warnings))


_LOOKS: dict[FileKind, Callable[[bytes, str], Anatomy]] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
    "gif": _gif,
    "tiff": _tiff,
    "avif": _boxed,
    "heif": _boxed,
}
