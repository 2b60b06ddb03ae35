"""What a file is, by its first bytes: a picture of a kind that is read here, or something else with a name."""

import re
from codecs import getincrementaldecoder
from typing import Literal

from refvideo_mcp.errors import Advice, InvalidCall, ask_user, ask_user_for

__all__ = ["FileKind", "detect_kind"]

FileKind = Literal["png", "jpeg", "webp", "gif", "bmp", "tiff", "avif", "heif"]

_EXPORT = ask_user("export it as a JPEG or PNG.")
_RAW = ("a camera raw file", ask_user("export a JPEG from it."))
_FRAME = ask_user_for("one frame of it, saved as a picture.")
_UNPACK = ask_user("take the picture out of it.")
_LED = "Use the picture that it leads to."
_VIDEO, _SOUND = ("a video", _FRAME), ("a sound file", ask_user_for("a picture."))
_ARCHIVE, _SHORTCUT = ("an archive", _UNPACK), ("a shortcut", _LED)

_PICTURES: dict[FileKind, tuple[bytes, ...]] = {
    "png": (b"\x89PNG\r\n\x1a\n",),
    "jpeg": (b"\xff\xd8\xff",),
    "gif": (b"GIF87a", b"GIF89a"),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_OTHERS: dict[tuple[str, Advice | str], tuple[bytes, ...]] = {
    ("a Photoshop document", _EXPORT): (b"8BPS",),
    ("a GIMP document", _EXPORT): (b"gimp xcf",),
    ("a PostScript file", _EXPORT): (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    ("a Windows icon", _EXPORT): (b"\0\0\1\0",),
    ("a Windows cursor", _EXPORT): (b"\0\0\2\0",),
    ("a macOS icon", _EXPORT): (b"icns",),
    ("a JPEG 2000 picture", _EXPORT): (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    ("a JPEG XL picture", _EXPORT): (b"\0\0\0\x0cJXL ", b"\xff\x0a"),
    ("an OpenEXR picture", _EXPORT): (b"\x76\x2f\x31\x01",),
    ("a Radiance picture", _EXPORT): (b"#?RADIANCE",),
    ("a DirectDraw texture", _EXPORT): (b"DDS ",),
    ("a QOI picture", _EXPORT): (b"qoif",),
    ("a FITS picture", _EXPORT): (b"SIMPLE  =",),
    ("a DPX picture", _EXPORT): (b"SDPX", b"XPDS"),
    ("a Windows metafile", _EXPORT): (b"\xd7\xcd\xc6\x9a",),
    ("an Affinity document", _EXPORT): (b"\0\xffKA",),
    ("a DjVu document", _EXPORT): (b"AT&TFORM",),
    # Fujifilm, Olympus, Panasonic, old Canons, Minolta, Sigma.
    _RAW: (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"II\x1a\0\0\0HEAPCCDR", b"\0MRM", b"FOVb"),
    _VIDEO: (b"\x1a\x45\xdf\xa3", b"FLV\1", b"\0\0\1\xba", b"\0\0\1\xb3", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    ("a video or sound file", _FRAME): (b"OggS",),
    _SOUND: (b"fLaC", b"ID3"),
    ("a ZIP archive or a document", _UNPACK): (b"PK\3\4",),
    _ARCHIVE: (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"),
    ("an Office document", _UNPACK): (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",),
    ("a Windows shortcut", _LED): (b"L\0\0\0\x01\x14\x02\0",),
    ("a macOS alias", _LED): (b"book\0\0\0\0mark",),
    ("a macOS property list", ask_user_for("the picture itself.")): (b"bplist00",),
    ("a program", ask_user_for("a picture.")): (b"\x7fELF",),
    ("a database", ask_user_for("a picture.")): (b"SQLite format 3\0",),
}
_BMP_HEADS = {12, 16, 40, 52, 56, 64, 108, 124}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_MOVIE_BOXES = {b"moov", b"mdat", b"wide", b"pnot", b"skip", b"moof"}

_RAW_TIFF = re.compile(rb"II\*\0(\x10\0\0\0CR|....IIII.waR)|MM\0\*....MMMMRaw", re.DOTALL)
_PAGE = re.compile(r"<!doctype html|<(html|head|body|script|meta|title)[\s>]", re.IGNORECASE)
_TEXTS = (
    (
        re.compile(r"version https://git-lfs"),
        ("a Git LFS pointer", ask_user("run `git lfs pull` in that project.")),
    ),
    (
        re.compile(r"[./]*\.git/annex/objects/|/annex/objects/"),
        ("a git-annex pointer", ask_user("run `git annex get` on it.")),
    ),
    (re.compile(r"(\[\{[^\]]*\}\][^\[]*)?\[(InternetShortcut|Desktop Entry)\]"), _SHORTCUT),
    (re.compile(r"data:image/"), ("the text of a data URI", "Give that text itself as the image.")),
    (
        re.compile(r"(iVBORw0KGgo|/9j/|R0lGOD|UklGR)"),
        ("the base64 text of a picture", "Give it as a data URI, data:image/png;base64,…"),
    ),
)


def detect_kind(content: bytes, name: str) -> FileKind:
    """The kind of picture that a file begins like, whatever it is called.

    Raises:
        InvalidCall: it is something else, which is named, or nothing that is known here.
    """
    for kind, starts in _PICTURES.items():
        if content.startswith(starts) and not _is_raw_tiff(content):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    if content[:2] == b"BM" and int.from_bytes(content[14:18], "little") in _BMP_HEADS:
        return "bmp"
    if content[4:8] == b"ftyp":
        brand, others = content[8:12], {content[place : place + 4] for place in range(16, min(_size(content), 96), 4)}
        if brand in _AVIF_BRANDS or (brand in (b"mif1", b"msf1") and others & _AVIF_BRANDS):
            return "avif"
        if brand in _HEIF_BRANDS or (others & _HEIF_BRANDS and not others & {b"isom", b"mp41", b"mp42"}):
            return "heif"
    what, way_out = _other(content)
    raise InvalidCall(f"{name} is {what}.", way_out + " Nothing was sent.")


def _size(content: bytes) -> int:
    return int.from_bytes(content[:4])


def _is_raw_tiff(content: bytes) -> bool:
    """Canon's and Phase One's have a mark behind TIFF's own; the others are told apart by what is in them."""
    return _RAW_TIFF.match(content) is not None


def _other(content: bytes) -> tuple[str, Advice | str]:
    if not content:
        return "empty", ask_user_for("another file.")
    if content.count(0) == len(content):
        return "empty: it holds only zeros", ask_user("download or copy it again.")
    if _is_raw_tiff(content):
        return _RAW
    for other, starts in _OTHERS.items():
        if content.startswith(starts):
            return other
    if content[4:8] == b"ftyp":
        return _of_brand(content[8:12])
    if content[4:8] in _MOVIE_BOXES or content[:1] + content[188:189] + content[376:377] == b"GGG":
        return _VIDEO
    if content[:4] == b"RIFF":
        return {b"AVI ": _VIDEO, b"WAVE": _SOUND}.get(content[8:12], ("a RIFF file of an unknown kind", _EXPORT))
    if re.match(rb"P[1-7]\s+(#|[0-9]|WIDTH)", content):
        return "a Netpbm picture", _EXPORT
    if content[128:132] == b"DICM":
        return "a DICOM picture", _EXPORT
    if content[257:262] == b"ustar":
        return _ARCHIVE
    if b"%PDF-" in content[:1024]:
        return "a PDF document", ask_user("export the page or picture as a JPEG or PNG.")
    text = _of_text(content[:4096])
    if text is None and content[:2] == b"MZ":
        return "a program", ask_user_for("a picture.")
    return text or (
        "no picture of a kind that can be read here",
        "Use a PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC file.",
    )


def _of_brand(brand: bytes) -> tuple[str, Advice | str]:
    if brand == b"crx ":
        return _RAW
    return _SOUND if brand in (b"M4A ", b"M4B ", b"M4P ") else _VIDEO


def _of_text(start: bytes) -> tuple[str, Advice | str] | None:
    """What kind of text it is; None if it is none."""
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = getincrementaldecoder(encoding)().decode(start).strip()  # a character may be cut in two
    except UnicodeDecodeError:
        text = start.decode("latin-1").strip()
    if not text:
        return None
    if any(character < " " and character not in "\t\n\r\f\x1b" for character in text):
        return None
    for pattern, other in _TEXTS:
        if pattern.match(text):
            return other
    page, drawing = _PAGE.search(text), re.search(r"<svg[\s>]", text)
    if drawing and not (page and page.start() < drawing.start()):
        return "an SVG drawing", _EXPORT
    if page:
        return "a web page", ask_user("save the picture itself, not the page around it.")
    return "a text file", ask_user_for("the picture itself.")
