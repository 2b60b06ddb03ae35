"""Keeps the whole request below what the router takes: the largest pictures give way first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from refvideo_mcp.errors import InvalidCall
from refvideo_mcp.images.picture import Kind, Picture, decoded, encoded

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["BODY_BYTES", "fit_body"]

BODY_BYTES = 20_000_000
LEAST_SIDE = 1024
# The video has 1920 pixels: what must shrink anyway needs no more than this.
_MOST_SIDE = 4096
_LEAN: dict[Kind, dict[str, Any]] = {"png": {}, "jpeg": {"subsampling": 2}, "webp": {}}


@dataclass(frozen=True)
class _Item:
    """A picture and how often the request sends it. `least`: it cannot be made smaller."""

    picture: Picture
    times: int
    least: bool = False


def _cost(size: int) -> int:
    """Characters of a data URI for this many bytes."""
    return len("data:image/jpeg;base64,") + 4 * math.ceil(size / 3)


def fit_body(pictures: Sequence[tuple[Picture, int]], room: int) -> list[Picture]:
    """The pictures, each with its number of uses, so that their data URIs take `room` characters at most.

    Raises:
        InvalidCall: they do not fit even at 1024 pixels.
    """
    originals = [picture for picture, _ in pictures]
    items = [_Item(picture, times) for picture, times in pictures]
    while _total(items) > room:
        level = _level(items, room)
        largest = max(
            (place for place, item in enumerate(items) if not item.least and len(item.picture.content) > level),
            key=lambda place: len(items[place].picture.content),
            default=None,
        )
        if largest is None:
            raise _too_much(items)
        smaller = _smaller(originals[largest], max(level, 0))
        items[largest] = replace(items[largest], picture=smaller, least=len(smaller.content) > level)
    return [item.picture for item in items]


def _total(items: Sequence[_Item]) -> int:
    return sum(item.times * _cost(len(item.picture.content)) for item in items)


def _level(items: Sequence[_Item], room: int) -> int:
    """The size that, if no picture were larger, would make them all fit."""
    left = room - _total([item for item in items if item.least])
    rest = sorted((item for item in items if not item.least), key=lambda item: len(item.picture.content))
    count = sum(item.times for item in rest)
    for item in rest:
        share = (left // count - _cost(0)) // 4 * 3
        if len(item.picture.content) > share:
            return share
        left -= item.times * _cost(len(item.picture.content))
        count -= item.times
    return 0


def _smaller(original: Picture, size: int) -> Picture:
    """The picture in at most `size` bytes, or as small as it may become."""
    with decoded(original.content, original.kind, original.name) as source:
        alpha = source.has_transparency_data
        kind: Kind = "webp" if alpha else "jpeg"
        image = source.convert("RGBA" if alpha else "RGB")
        image.info = {}
    longest = max(image.size)
    side, floor = min(_MOST_SIDE, longest), min(LEAST_SIDE, longest)
    scaled = _scaled(image, side)
    content = encoded(scaled, kind, quality=90, **_LEAN[kind])
    while len(content) > size and side > floor:
        side = max(floor, int(side * min(0.9, 0.95 * math.sqrt(size / len(content)))))
        scaled = _scaled(image, side)
        content = encoded(scaled, kind, quality=85, **_LEAN[kind])
    for quality in (70, 55):
        if len(content) > size:
            content = encoded(scaled, kind, quality=quality, **_LEAN[kind])
    if len(content) >= len(original.content):
        return original
    change = (
        f"scaled from {original.width}x{original.height} to {scaled.width}x{scaled.height}"
        if scaled.size != image.size
        else "compressed more"
    )
    return Picture(
        original.name,
        content,
        kind,
        *scaled.size,
        warnings=(*original.warnings, f"{original.name} was {change}, to fit into 20 MB."),
    )


def _scaled(image: "Image.Image", side: int) -> "Image.Image":
    longest = max(image.size)
    if side == longest:
        return image
    width, height = (max(1, round(length * side / longest)) for length in image.size)
    return image.resize((width, height), reducing_gap=2.0)


def _too_much(items: Sequence[_Item]) -> InvalidCall:
    worst = max((item.picture for item in items), key=lambda picture: len(picture.content))
    return InvalidCall(
        f"The pictures do not fit into the 20 MB of one request: {worst.name}, the largest, still has "
        f"{len(worst.content) / 1e6:.1f} MB at {worst.width}x{worst.height}.",
        "Use fewer pictures, or public https URLs. Nothing was sent.",
    )
