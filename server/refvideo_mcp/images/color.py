"""The one way to the colours that a viewer shows: sRGB, 8 bits, with or without alpha.

Colours that a file names by numbers are written as the ICC profile that says the same.
"""

import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CodePoints", "effective_profile", "gamma_profile", "is_srgb", "profile_of", "to_srgb", "tone_down"]

# The largest profile that calls itself sRGB and is one has 61 kB.
_PROFILE_BYTES = 70_000
# As viewers do: a profile of another kind of colours than the picture's says nothing.
_SPACES = {"RGB": ("RGB",), "L": ("GRAY", "RGB"), "CMYK": ("CMYK",), "LAB": ("Lab",)}
_SAME = 2  # no eye sees a difference of so little
_WIDE = ("I", "F")

Chromaticities = tuple[float, float, float, float, float, float, float, float]  # red, green, blue, white: x, y
Matrix = list[list[float]]

_D65 = (0.3127, 0.3290)
_SRGB: Chromaticities = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, *_D65)
# By the numbers of ITU-T H.273.
_PRIMARIES: dict[int, Chromaticities] = {
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316),
    5: (0.640, 0.330, 0.290, 0.600, 0.150, 0.060, *_D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *_D65),
}
_PLAIN_PRIMARIES = {1, 2}
# Video's curves were made for screens like sRGB's, and that is how pictures with them are shown.
_PLAIN_CURVES = {1, 2, 6, 13, 14, 15}
_PQ, _HLG = 16, 18
_WHITE_NITS, _PEAK_NITS = 203, 1000
_BRADFORD = [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
_D50 = [0.9642, 1.0, 0.8249]
_STEPS = 4096


@dataclass(frozen=True)
class CodePoints:
    """Colours by the numbers of ITU-T H.273, as PNG's `cICP` and AVIF's and HEIC's `nclx` name them.

    `narrow`: black is 16 and white 235, as in video.
    """

    primaries: int
    transfer: int
    narrow: bool = False

    @property
    def is_hdr(self) -> bool:
        return self.transfer in (_PQ, _HLG)

    @property
    def is_known(self) -> bool:
        return (self.primaries in _PLAIN_PRIMARIES or self.primaries in _PRIMARIES) and (
            self.transfer in _PLAIN_CURVES or self.transfer in _CURVES
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to say of colours that do not come out as they are."""
        if self.is_hdr:
            return ("is an HDR picture: its bright parts are toned down, as in an ordinary picture",)
        return () if self.is_known else ("names colours that are unknown here: they may come out wrong",)


def profile_of(points: CodePoints) -> bytes | None:
    """The ICC profile of these colours; None if they are sRGB or unknown. HDR is toned down to what a screen shows."""
    if not points.is_known:
        return None
    plain = points.primaries in _PLAIN_PRIMARIES and points.transfer in _PLAIN_CURVES
    if plain and not points.narrow:
        return None
    curve = _CURVES.get(points.transfer, _srgb)
    if points.narrow:
        return _profile(
            _PRIMARIES.get(points.primaries, _SRGB), lambda value: curve(_clamped((value * 255 - 16) / 219))
        )
    return _profile(_PRIMARIES.get(points.primaries, _SRGB), curve)


def gamma_profile(gamma: float | None, chromaticities: Chromaticities | None) -> bytes | None:
    """The ICC profile for PNG's `gAMA` (as an exponent, 2.2) and `cHRM`; None if they are sRGB's or senseless."""
    usual = gamma is None or abs(gamma - 2.2) < 0.05
    if chromaticities is not None and all(
        abs(given - plain) < 0.003 for given, plain in zip(chromaticities, _SRGB, strict=True)
    ):
        chromaticities = None
    if (usual and chromaticities is None) or not (gamma is None or 0.4 < gamma < 6):
        return None
    try:
        return _profile(chromaticities or _SRGB, _srgb if gamma is None or usual else _power(gamma))
    except (ZeroDivisionError, struct.error):
        return None


def effective_profile(image: "Image.Image", named: bytes | None) -> bytes | None:
    """The ICC profile that says what the picture's numbers mean: its own, or else `named`. None: they mean sRGB."""
    kind = _kind(image)
    for profile in (image.info.get("icc_profile"), named):
        if isinstance(profile, bytes) and _space(profile) in _SPACES.get(kind, ()):
            return None if _changes_nothing(profile, kind) else profile
    return None


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile is sRGB, by its own name, in its usual size, and by what it does."""
    from PIL import ImageCms

    if len(profile) > _PROFILE_BYTES or _space(profile) != "RGB" or not _changes_nothing(profile, "RGB"):
        return False
    name = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.profile_description
    return (name or "").strip().lower().startswith("srgb")


def to_srgb(image: "Image.Image", profile: bytes | None, *, depth: int, inverted: bool) -> "Image.Image":
    """The picture as L, RGB or RGBA in sRGB; alpha only where something shows through.

    `profile` says what its numbers mean, None = sRGB; `depth` and `inverted` are about grey values of more than 8 bits.
    """
    alpha, image = _without_alpha(image)
    if image.mode == "1" or image.mode.startswith(_WIDE):
        image = _eight_bits(image, depth, inverted)
    if profile is not None or image.mode == "LAB":
        image = _converted(image, profile)
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    if alpha is not None:
        image = image.convert("RGB")
        image.putalpha(alpha)
    return image


def tone_down(image: "Image.Image") -> tuple[str, ...]:
    """Put an ordinary profile in the place of an HDR one, whose light goes beyond white; what to say of that."""
    profile = image.info.get("icc_profile")
    points = _code_points_in(profile) if isinstance(profile, bytes) else None
    if points is None or not points.is_hdr or not points.is_known:
        return ()
    image.info["icc_profile"] = profile_of(points)
    return points.warnings


def _kind(image: "Image.Image") -> str:
    if image.mode in ("1", "L", "LA", "La") or image.mode.startswith(_WIDE):
        return "L"
    return image.mode if image.mode in ("CMYK", "LAB") else "RGB"


def _space(profile: bytes) -> str | None:
    from PIL import ImageCms

    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()
    except (OSError, ValueError, ImageCms.PyCMSError):
        return None


def _changes_nothing(profile: bytes, kind: str) -> bool:
    """Whether the numbers mean under it what they mean in sRGB, tried with some of all."""
    from PIL import Image, ImageChops

    if kind == "L":
        tried = Image.frombytes("L", (256, 1), bytes(range(256)))
    elif kind == "RGB":
        levels = range(0, 256, 17)
        tried = Image.frombytes(
            "RGB", (256, 16), bytes(v for r in levels for g in levels for b in levels for v in (r, g, b))
        )
    else:
        return False
    ranges = ImageChops.difference(tried.convert("RGB"), _converted(tried, profile).convert("RGB")).getextrema()
    return all(most <= _SAME for _, most in ranges)  # type: ignore[misc]


def _without_alpha(image: "Image.Image") -> "tuple[Image.Image | None, Image.Image]":
    """What shows through, None if nothing does, and the picture without it."""
    from PIL import ImageMath

    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    hidden = image.info.get("transparency")
    if image.mode.startswith(_WIDE):
        if not isinstance(hidden, int):
            return None, image
        alpha = ImageMath.lambda_eval(lambda given: (given["grey"] != hidden) * 255, grey=image.convert("I")).convert(
            "L"
        )
    elif image.has_transparency_data:
        if image.mode == "LA":
            alpha, image = image.getchannel("A"), image.getchannel("L")
        else:
            image = image.convert("RGBA")
            alpha, image = image.getchannel("A"), image.convert("RGB")
    else:
        return None, image
    return (None if alpha.getextrema() == (255, 255) else alpha), image


def _converted(image: "Image.Image", profile: bytes | None) -> "Image.Image":
    """From what the profile says to sRGB; grey stays grey. LAB needs none."""
    from PIL import ImageCms

    try:
        if profile is None:
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        grey = image.mode == "L"
        if source.profile.xcolor_space.strip() == "RGB" and image.mode != "RGB":
            image = image.convert("RGB")
        done = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (OSError, ValueError, ImageCms.PyCMSError):  # a broken profile means nothing: its colours stay
        return image
    done = done or image
    return done.convert("L") if grey else done


def _eight_bits(image: "Image.Image", depth: int, inverted: bool) -> "Image.Image":
    """Black and white, and greys with 16 or 32 bits, scaled; Pillow itself would cut them off at 255."""
    from PIL import ImageChops

    if image.mode == "1":
        return image.convert("L")
    wide = image.convert("F")
    if image.mode.startswith("I;16"):
        white = 2**depth - 1 if 8 < depth <= 16 else 65535
    else:
        values = [float(value) for value in wide.getextrema() if not isinstance(value, tuple)]
        brightest = max((value for value in values if math.isfinite(value)), default=1)
        white = next((top for top in (1, 255, 65535) if brightest <= top), 2**32)
    grey = wide.point(lambda value: value * (255 / white) + 0.5).convert("L")
    return ImageChops.invert(grey) if inverted else grey


def _code_points_in(profile: bytes) -> CodePoints | None:
    """The numbers in an ICC profile's `cicp` tag, which HDR profiles have."""
    try:
        for place in range(132, 132 + 12 * min(100, struct.unpack_from(">I", profile, 128)[0]), 12):
            name, start = struct.unpack_from(">4sI", profile, place)
            if name == b"cicp":
                primaries, transfer = struct.unpack_from(">BB", profile, start + 8)
                return CodePoints(primaries, transfer)
    except struct.error:
        pass
    return None


def _clamped(value: float) -> float:
    return min(1.0, max(0.0, value))


def _srgb(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _power(exponent: float) -> Callable[[float], float]:
    return lambda value: value**exponent


def _pq(value: float) -> float:
    power = value ** (32 / 2523)
    nits = 10_000 * (max(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (8192 / 1305)
    return _toned(nits / _WHITE_NITS)


def _hlg(value: float) -> float:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = value * value / 3 if value <= 0.5 else (math.exp((value - c) / a) + b) / 12
    return _toned(_PEAK_NITS / _WHITE_NITS * scene**1.2)


def _toned(light: float) -> float:
    """Above half of white's light, ever brighter light gains ever less."""
    return light if light <= 0.5 else 1 - 0.5 * math.exp(1 - 2 * light)


_CURVES: dict[int, Callable[[float], float]] = {
    4: _power(2.2),
    5: _power(2.8),
    8: _power(1),
    _PQ: _pq,
    17: lambda value: _clamped(52.37 / 48 * value**2.6),
    _HLG: _hlg,
}


def _profile(chromaticities: Chromaticities, curve: Callable[[float], float]) -> bytes:
    """A display profile: one curve for all channels, then a matrix to XYZ under D50."""
    table = [round(65535 * _clamped(curve(step / (_STEPS - 1)))) for step in range(_STEPS)]
    curved = b"curv\0\0\0\0" + struct.pack(f">I{_STEPS}H", _STEPS, *table)
    columns = zip(*_to_d50(chromaticities), strict=True)
    tags = [
        (b"desc", b"desc\0\0\0\0" + struct.pack(">I", 6) + b"video\0" + bytes(78)),
        (b"cprt", b"text\0\0\0\0none\0"),
        (b"wtpt", _xyz(_D50)),
        *((name, _xyz(list(column))) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)),
        *((name, curved) for name in (b"rTRC", b"gTRC", b"bTRC")),
    ]
    table_end = 128 + 4 + 12 * len(tags)
    heads, body = b"", b""
    for name, data in tags:
        heads += name + struct.pack(">II", table_end + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", table_end + len(body), b"", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(_D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + heads + body


def _xyz(values: list[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _to_d50(chromaticities: Chromaticities) -> Matrix:
    """The matrix from linear RGB to XYZ, its white moved to D50 as Bradford did it."""
    corners = [_lifted(*chromaticities[place : place + 2]) for place in (0, 2, 4)]
    white = _lifted(*chromaticities[6:])
    unscaled = [list(row) for row in zip(*corners, strict=True)]
    amounts = _applied(_inverse(unscaled), white)
    to_xyz = [[value * amount for value, amount in zip(row, amounts, strict=True)] for row in unscaled]
    seen, wanted = _applied(_BRADFORD, white), _applied(_BRADFORD, _D50)
    scaled = [[value * to / was for value in row] for row, was, to in zip(_BRADFORD, seen, wanted, strict=True)]
    return _product(_product(_inverse(_BRADFORD), scaled), to_xyz)


def _lifted(x: float, y: float) -> list[float]:
    return [x / y, 1.0, (1 - x - y) / y]


def _applied(matrix: Matrix, vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def _product(left: Matrix, right: Matrix) -> Matrix:
    return [
        [sum(a * b for a, b in zip(row, column, strict=True)) for column in zip(*right, strict=True)] for row in left
    ]


def _inverse(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    cofactors = [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ]
    size = a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0]
    return [[value / size for value in row] for row in cofactors]
