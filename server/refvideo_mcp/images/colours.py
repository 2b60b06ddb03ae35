"""Colours as the router expects them: sRGB, 8 bits, with or without alpha."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["in_srgb", "is_srgb"]

# The largest profile that calls itself sRGB and is one has 61 kB.
_PROFILE_BYTES = 70_000
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile is sRGB, by its own name."""
    from PIL import ImageCms

    if len(profile) > _PROFILE_BYTES:
        return False
    try:
        name = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.profile_description
    except (OSError, ImageCms.PyCMSError):
        return False
    return (name or "").strip().lower().startswith("srgb")


def in_srgb(image: "Image.Image") -> "Image.Image":
    """The picture as L, RGB or RGBA in sRGB; alpha only where something shows through."""
    profile = image.info.get("icc_profile")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema() == (255, 255):
            alpha = None
    image = _eight_bits(image)
    if image.mode in ("RGBA", "RGBX", "RGBa"):
        image = image.convert("RGB")
    if isinstance(profile, bytes) and not is_srgb(profile):
        image = _converted(image, profile)
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    if alpha is not None:
        image = image.convert("RGB")
        image.putalpha(alpha)
    return image


def _converted(image: "Image.Image", profile: bytes) -> "Image.Image":
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = _SPACES.get(source.profile.xcolor_space.strip())
        if space is None:
            return image
        if image.mode != space:
            image = image.convert(space)
        done = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (OSError, ValueError, ImageCms.PyCMSError):  # a broken profile means nothing: its colours stay
        return image
    return done or image


def _eight_bits(image: "Image.Image") -> "Image.Image":
    """Greys with 16 or 32 bits, scaled; Pillow itself would cut them off at 255."""
    if image.mode == "1":
        return image.convert("L")
    if not image.mode.startswith(("I", "F")):
        return image
    wide = image.convert("F")
    brightest = max(float(value) for value in wide.getextrema() if not isinstance(value, tuple))
    steps = (
        65535 if image.mode.startswith("I;16") else next((top for top in (1, 255, 65535) if brightest <= top), 2**32)
    )
    return wide.point(lambda value: value * (255 / steps) + 0).convert("L")
