"""One reference picture, decoded to be sure that it is one, and rid of everything but its pixels."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from refvideo_mcp.errors import Refused
from refvideo_mcp.images.bare import bare
from refvideo_mcp.images.colours import in_srgb, is_srgb

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Kind", "Picture", "decoded", "encoded", "prepare"]

Kind = Literal["png", "jpeg", "webp"]

_PASSED: dict[str, Kind] = {"PNG": "png", "JPEG": "jpeg", "MPO": "jpeg", "WEBP": "webp"}
_READ = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"]  # JPEG includes MPO, which phones write
_ANIMATED = {"GIF", "PNG", "WEBP", "AVIF"}
_LOSSY = {"JPEG", "MPO", "AVIF", "HEIF"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_LONGEST_SIDE = 16_000  # WebP takes no more, and JPEG not much more
_SMALLEST_SIDE = 128
_LONGEST_SHAPE = 4


@dataclass(frozen=True)
class Picture:
    """A picture as it will be sent. `name` is what messages call it."""

    name: str
    content: bytes
    kind: Kind
    width: int
    height: int
    warnings: tuple[str, ...] = ()


def prepare(content: bytes, name: str, shown: str) -> Picture:
    """The picture in `content`, upright, in sRGB, and without metadata.

    A file that is all this is passed on byte for byte; one that has only metadata too many loses just that.

    `name` is for warnings, `shown` for refusals.

    Raises:
        Refused: it is no picture, a broken one, or one that would fill the memory.
    """
    with decoded(content, shown) as source:
        size = source.size
        animated = source.format in _ANIMATED and getattr(source, "is_animated", False)
        kind = _PASSED.get(str(source.format))
        made = _cut(content, kind, source) if kind else None
        if kind is None or made is None:
            drawn = in_srgb(_upright(source))
            kind, tables = _kind_for(source, drawn), _tables(source)
    if made is None:
        del source  # or its memory would stay while the copy is written
        drawn.info = {}  # or its writer would copy some of the metadata
        made, size = encoded(drawn, kind, **(tables if kind == "jpeg" else {})), drawn.size
    elif made != content:
        with decoded(made, shown):
            pass  # nothing that the picture needs is missing
    first = [f"{name} is animated: only its first frame is sent."] if animated else []
    return Picture(name, made, kind, *size, (*first, *_advice(name, size)))


def _cut(content: bytes, kind: Kind, source: "Image.Image") -> bytes | None:
    """The file without its metadata, if its pixels may stay as they are."""
    profile = source.info.get("icc_profile")
    if source.mode == "CMYK" or _turn(source) is not None or not (profile is None or is_srgb(profile)):
        return None
    return bare(content, kind, keep_profile=profile is not None)


@contextmanager
def decoded(content: bytes, name: str) -> "Iterator[Image.Image]":
    """The whole picture in memory; what Pillow's decoders make of hostile bytes becomes a refusal."""
    from PIL import Image

    formats = _READ
    if content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS and b"avif" not in content[16:64]:
        formats = [_heif_format(name)]
    # Warnings are process-wide, but so is stderr. Pillow only warns of a bomb up to twice its limit.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
    try:
        with Image.open(io.BytesIO(content), formats=formats) as source:
            source.load()
            yield source
    except Refused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        most = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise Refused(
            f"{name} has more than {most} million pixels.", "Use a smaller picture. Nothing was sent."
        ) from error
    except MemoryError as error:
        raise Refused(f"{name} does not fit into memory.", "Use a smaller picture. Nothing was sent.") from error
    except Exception as error:  # decoders raise many kinds for a broken file
        raise Refused(
            f"{name} is no picture that can be read, or a broken one.",
            "Use a whole PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC file. Nothing was sent.",
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


def _heif_format(name: str) -> str:
    try:
        from importlib import import_module

        import_module("pillow_heif").register_heif_opener()
    except ImportError:
        raise Refused(
            f"{name} is a HEIC picture, which this server cannot read yet.",
            "Ask the user to run pip install 'refvideo-mcp[heic]', or use a JPEG or PNG copy. Nothing was sent.",
        ) from None
    return "HEIF"


def _turn(image: "Image.Image") -> "Image.Transpose | None":
    """What sets the picture upright."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        return turns.get(image.getexif().get(0x0112, 1))
    except Exception:  # broken metadata says nothing about the pixels
        return None


def _upright(image: "Image.Image") -> "Image.Image":
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _kind_for(source: "Image.Image", image: "Image.Image") -> Kind:
    if max(image.size) > _LONGEST_SIDE:
        return "png"
    if source.format == "WEBP":
        return "webp"
    return "jpeg" if source.format in _LOSSY and image.mode != "RGBA" else "png"


def _tables(source: "Image.Image") -> dict[str, Any]:
    """How a JPEG was compressed, so that its copy is as good and as large."""
    from PIL.JpegImagePlugin import JpegImageFile, get_sampling

    if not isinstance(source, JpegImageFile) or source.mode not in ("L", "RGB"):
        return {}
    return {"qtables": source.quantization, "subsampling": get_sampling(source), "quality": -1}


def _advice(name: str, size: tuple[int, int]) -> tuple[str, ...]:
    """What Vidu's documents advise; pictures beyond it are sent all the same."""
    width, height = size
    small = min(size) < _SMALLEST_SIDE
    long = max(size) > _LONGEST_SHAPE * min(size)
    shown = f"{name} is {width}x{height}"
    return (
        *([f"{shown}, smaller than 128x128: the router may refuse it."] if small else []),
        *([f"{shown}, beyond 1:4 to 4:1: the router may refuse it."] if long else []),
    )
