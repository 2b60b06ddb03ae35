"""One reference picture, decoded to be sure that it is one, and rid of everything but its pixels."""

import binascii
import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from refvideo_mcp.errors import InvalidCall, Refused, ask_user
from refvideo_mcp.extras import how_to_install
from refvideo_mcp.images.color import effective_profile, is_srgb, to_srgb, tone_down
from refvideo_mcp.images.file_kind import FileKind, detect_kind
from refvideo_mcp.images.metadata import Metadata, read_metadata, without_metadata
from refvideo_mcp.images.truncated import completed

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Kind", "Picture", "decoded", "encoded", "prepare"]

Kind = Literal["png", "jpeg", "webp"]

_PASSED: dict[FileKind, Kind] = {"png": "png", "jpeg": "jpeg", "webp": "webp"}
_LOSSY = {"jpeg", "avif", "heif"}
_LONGEST_SIDE = 16_000  # WebP takes no more, and JPEG not much more
_SMALLEST_SIDE = 128
_LONGEST_SHAPE = 4


@dataclass(frozen=True)
class Picture:
    """A picture as it will be sent: 8 bits, in sRGB, upright. `name` is what messages call it."""

    name: str
    content: bytes
    kind: Kind
    width: int
    height: int
    warnings: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def data_uri(self) -> str:
        """The form in which the router takes it."""
        # One copy at a time: this may be 20 MB.
        encoded = binascii.b2a_base64(self.content, newline=False)
        encoded = b"data:image/%b;base64,%b" % (self.kind.encode(), encoded)
        return encoded.decode("ascii")


def prepare(content: bytes, name: str, shown: str) -> Picture:
    """The picture in `content`, upright, in sRGB with 8 bits, and without metadata.

    A file that is all this is passed on byte for byte; one that has only metadata too many loses just that.

    `name` is for warnings, `shown` for refusals.

    Raises:
        Refused: it is no picture, a broken one, or one that would fill the memory.
    """
    kind = detect_kind(content, shown)
    metadata = read_metadata(content, kind, shown)
    parts, lost = metadata.content, 0
    if kind == "jpeg" and not metadata.whole:
        with _trouble_as_refusal(kind, shown):
            parts, lost = completed(parts, shown)
    with decoded(parts, kind, shown) as source:
        told = [*metadata.warnings, *_others_in(source, kind), *tone_down(source)]
        profile = effective_profile(source, metadata.profile)
        cut = None if lost or profile is not None else _cut(parts, kind, source, metadata)
        if cut is not None:
            return _picture(name, cut, _PASSED[kind], source.size, told)
        drawn = to_srgb(source, profile, depth=metadata.depth, inverted=metadata.inverted)
        if lost:
            told.append(f"ends too early: its last {lost} of {source.height} rows are left out")
            drawn = drawn.crop((0, 0, drawn.width, drawn.height - lost))
        drawn = _upright(drawn, source, metadata.turn)
        sent_as, tables = _kind_for(kind, drawn), _tables(source)
    del source  # or its memory would stay while the copy is written
    drawn.info = {}  # or its writer would copy some of the metadata
    made = encoded(drawn, sent_as, **(tables if sent_as == "jpeg" else {}))
    return _picture(name, made, sent_as, drawn.size, told)


@contextmanager
def decoded(content: bytes, kind: FileKind, name: str) -> "Iterator[Image.Image]":
    """A picture in memory.

    Raises:
        Refused: it cannot be read.
    """
    from PIL import Image

    if kind == "heif":
        _learn_heif(name)
    if kind == "avif":
        _must_know_avif(name)
    # Warnings are process-wide, but so is stderr. Pillow only warns of a bomb up to twice its limit.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
    with _trouble_as_refusal(kind, name), Image.open(io.BytesIO(content), formats=[kind.upper()]) as source:
        source.load()
        yield source


def _cut(parts: bytes, kind: FileKind, source: "Image.Image", metadata: Metadata) -> bytes | None:
    """The file of a picture in sRGB without its metadata, if its pixels may stay as they are."""
    if kind not in _PASSED or metadata.turn != 1 or metadata.depth != 8 or source.mode == "CMYK":
        return None
    profile = source.info.get("icc_profile")
    return without_metadata(parts, kind, keep_profile=profile is not None and is_srgb(profile))


def _others_in(source: "Image.Image", kind: FileKind) -> list[str]:
    """What only a decoder finds beside the picture."""
    count = getattr(source, "n_frames", 1) if kind in ("avif", "heif") else 1
    if count < 2:
        return []
    if kind == "avif":
        return ["is animated: only its first frame is sent"]
    return [f"holds {count} pictures: only its main one is sent"]


@contextmanager
def _trouble_as_refusal(kind: FileKind, name: str) -> Iterator[None]:
    """What Pillow's decoders make of hostile bytes, in a sentence."""
    from PIL import Image

    try:
        yield
    except Refused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        most = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise InvalidCall(
            f"{name} has more than {most} million pixels.", "Use a smaller picture. Nothing was sent."
        ) from error
    except MemoryError as error:
        raise InvalidCall(f"{name} does not fit into memory.", "Use a smaller picture. Nothing was sent.") from error
    except Exception as error:  # decoders raise many kinds for a broken file
        spelled = "HEIC" if kind == "heif" else kind.upper()
        raise InvalidCall(
            f"{name} is a {spelled} picture that is broken, cut off, or of a rare form.",
            ask_user("download or copy it again, or to export it as a plain JPEG or PNG. Nothing was sent."),
        ) from error


def encoded(image: "Image.Image", kind: Kind, **options: Any) -> bytes:
    """The picture as a file without anything else in it."""
    usual: dict[Kind, dict[str, Any]] = {
        "png": {"compress_level": 1},  # the others take up to half a minute for a large photograph
        "jpeg": {"quality": 95, "subsampling": 0},
        "webp": {"quality": 95, "method": 2},
    }
    file = io.BytesIO()
    image.save(file, kind, **(usual[kind] | options))
    return file.getvalue()


def _learn_heif(name: str) -> None:
    try:
        from importlib import import_module

        import_module("pillow_heif").register_heif_opener()
    except ImportError:
        raise Refused(
            f"{name} is a HEIC picture, which this server cannot read yet.",
            ask_user(f"run {how_to_install('pillow-heif')}, or use a JPEG or PNG copy. Nothing was sent."),
        ) from None


def _must_know_avif(name: str) -> None:
    from PIL import features

    if not features.check("avif"):
        raise Refused(
            f"{name} is an AVIF picture, which this server cannot read.",
            ask_user("export it as a JPEG or PNG. Nothing was sent."),
        )


def _upright(image: "Image.Image", source: "Image.Image", turn: int) -> "Image.Image":
    """Set upright as Exif says: `turn`, or what AVIF's and HEIC's decoders found."""
    from PIL import ImageOps

    if source.format in ("AVIF", "HEIF"):
        try:
            turn = source.getexif().get(0x0112, 1)
        except Exception:  # broken metadata says nothing about the pixels
            turn = 1
    if turn == 1:
        return image  # Pillow would copy it
    image.info = {}
    image.getexif()[0x0112] = turn
    return ImageOps.exif_transpose(image)


def _kind_for(kind: FileKind, image: "Image.Image") -> Kind:
    if max(image.size) > _LONGEST_SIDE:
        return "png"
    if kind == "webp":
        return "webp"
    return "jpeg" if kind in _LOSSY and image.mode != "RGBA" else "png"


def _tables(source: "Image.Image") -> dict[str, Any]:
    """How a JPEG was compressed, so that its copy is as good and as large."""
    from PIL.JpegImagePlugin import JpegImageFile, get_sampling

    if not isinstance(source, JpegImageFile) or source.mode not in ("L", "RGB"):
        return {}
    return {"qtables": source.quantization, "subsampling": get_sampling(source), "quality": -1}


def _picture(name: str, content: bytes, kind: Kind, size: tuple[int, int], told: Sequence[str]) -> Picture:
    return Picture(name, content, kind, *size, (*(f"{name} {what}." for what in told), *_advice(name, size)))


def _advice(name: str, size: tuple[int, int]) -> tuple[str, ...]:
    """What Vidu's documents advise; pictures beyond it are sent all the same."""
    width, height = size
    small = min(size) < _SMALLEST_SIDE
    long = max(size) > _LONGEST_SHAPE * min(size)
    shown = f"{name} is {width}x{height}"
    return (
        *([f"{shown}, smaller than 128x128: it may be refused."] if small else []),
        *([f"{shown}, beyond 1:4 to 4:1: it may be refused."] if long else []),
    )
