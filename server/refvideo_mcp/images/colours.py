"""The one way to the colours that a viewer shows: sRGB, 8 bits, with or without alpha."""

import io
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["in_srgb", "is_srgb", "obeyed"]

# The largest profile that calls itself sRGB and is one has 61 kB.
_PROFILE_BYTES = 70_000
# As viewers do: a profile of another kind of colours than the picture's says nothing.
_SPACES = {"RGB": ("RGB",), "L": ("GRAY", "RGB"), "CMYK": ("CMYK",), "LAB": ("Lab",)}
_SAME = 2  # no eye sees a difference of so little
_WIDE = ("I", "F")


def obeyed(image: "Image.Image", named: bytes | None) -> bytes | None:
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


def in_srgb(image: "Image.Image", profile: bytes | None, *, depth: int, inverted: bool) -> "Image.Image":
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
