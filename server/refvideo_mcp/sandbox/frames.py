"""The pictures of a clip: a slow camera over each reference, cross-fades between them, captions on top."""

import base64
from collections.abc import Iterator
from functools import cached_property
from io import BytesIO
from random import Random
from urllib.parse import urlsplit

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from .captions import Overlay, accents, font
from .clip import Clip
from .colour import Planes, Rgb, blend, to_planes

_ZOOM = {"small": 1.06, "auto": 1.14, "medium": 1.2, "high": 1.34}
_SHOTS_PER_SECOND = 1.5
_FADE_SECONDS = 0.6

Box = tuple[float, float, float, float]


class Shot:
    """One picture and the camera's way over it. The picture is drawn when it is first looked at."""

    def __init__(self, clip: Clip, subject: str, image: str, random: Random) -> None:
        self._clip = clip
        self._subject = subject
        self._image = image
        self._zooms_in = random.random() < 0.5
        self._aim = (random.uniform(0.2, 0.8), random.uniform(0.3, 0.7))
        self._colours = accents(clip.seed, subject)

    @cached_property
    def _overlay(self) -> Overlay:
        return Overlay(self._clip, self._subject, self._colours)

    @cached_property
    def _stage(self) -> Planes:
        zoom = _ZOOM[self._clip.movement]
        size = (2 * round(self._clip.width * zoom / 2), 2 * round(self._clip.height * zoom / 2))
        if self._image.startswith("data:"):
            return to_planes(_staged(_opened(self._image, size), size))
        return to_planes(_card(self._subject, urlsplit(self._image).hostname or "", size, self._colours))

    def at(self, moment: float, elapsed: float) -> Planes:
        """The frame at `moment` (0 to 1) of the shot, when `elapsed` (0 to 1) of the clip is over."""
        left, top, right, bottom = self._view(moment)
        width, height = self._clip.width, self._clip.height
        luma = self._stage[0].resize((width, height), Image.Resampling.BILINEAR, (left, top, right, bottom))
        box = (left / 2, top / 2, right / 2, bottom / 2)
        blue, red = (
            plane.resize((width // 2, height // 2), Image.Resampling.BILINEAR, box) for plane in self._stage[1:]
        )
        self._overlay.draw_on((luma, blue, red), elapsed)
        return luma, blue, red

    def _view(self, moment: float) -> Box:
        width, height = self._stage[0].size
        close = moment if self._zooms_in else 1 - moment
        wide, tall = width - close * (width - self._clip.width), height - close * (height - self._clip.height)
        left, top = (width - wide) * self._aim[0], (height - tall) * self._aim[1]
        return left, top, left + wide, top + tall


def frames(clip: Clip, fps: int) -> Iterator[Planes]:
    """Every frame of the clip, `clip.width` x `clip.height`."""
    shots = _shots(clip)
    total = clip.seconds * fps
    length = total / len(shots)
    fade = min(_FADE_SECONDS * fps, length / 2)
    for number in range(total):
        current = min(int(number / length), len(shots) - 1)
        start = current * length
        elapsed = number / max(1, total - 1)
        frame = shots[current].at(_progress(number, start, length, fade), elapsed)
        into = (number - start) / fade
        if current and into < 1:
            before = shots[current - 1].at(_progress(number, start - length, length, fade), elapsed)
            frame = blend(before, frame, into)
        yield frame


def _progress(number: int, start: float, length: float, fade: float) -> float:
    # A shot's camera goes on while the next shot fades in over it.
    return min(1.0, (number - start) / (length + fade))


def _shots(clip: Clip) -> list[Shot]:
    random = Random(clip.seed)
    most = max(1, int(clip.seconds * _SHOTS_PER_SECOND))
    chosen = clip.pictures
    if len(chosen) > most:
        # Everyone's first picture before anyone's second.
        firsts = {subject: number for number, (subject, _) in reversed(list(enumerate(chosen)))}
        order = sorted(range(len(chosen)), key=lambda number: (firsts[chosen[number][0]] != number, number))
        chosen = tuple(chosen[number] for number in sorted(order[:most]))
    return [Shot(clip, subject, image, random) for subject, image in chosen]


def _opened(uri: str, size: tuple[int, int]) -> Image.Image:
    with Image.open(BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        picture.draft("RGB", size)
        return ImageOps.exif_transpose(picture).convert("RGBA")


def _staged(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture on a stage of `size`: filling it if it nearly fits, else framed on a blurred copy of itself."""
    mismatch = (picture.width / picture.height) / (size[0] / size[1])
    backdrop = _backdrop(picture, size)
    if 1 / 1.4 < mismatch < 1.4 and _is_opaque(picture.getchannel("A")):
        return ImageOps.fit(picture.convert("RGB"), size, Image.Resampling.BICUBIC)
    scale = 0.86 * min(size[0] / picture.width, size[1] / picture.height)
    # A picture of 1 x 5000 pixels stays one pixel wide.
    inner = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    framed = picture.resize(inner, Image.Resampling.BICUBIC)
    place = ((size[0] - framed.width) // 2, (size[1] - framed.height) // 2)
    shape = framed.getchannel("A")
    if _is_opaque(shape):
        shape = _rounded(framed.size, min(size) // 40)
    shadow = Image.new("L", size)
    shadow.paste(shape, (place[0], place[1] + min(size) // 60))
    shadow = shadow.reduce(4).filter(ImageFilter.GaussianBlur(min(size) / 160)).resize(size)
    backdrop.paste((0, 0, 0), mask=shadow.point([value * 3 // 5 for value in range(256)]))
    backdrop.paste(framed.convert("RGB"), place, shape)
    return backdrop


def _is_opaque(alpha: Image.Image) -> bool:
    return sum(alpha.histogram()[:250]) == 0


def _backdrop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    solid = Image.new("RGB", picture.size, (58, 62, 78))
    solid.paste(picture.convert("RGB"), mask=picture.getchannel("A"))
    small = ImageOps.fit(solid, (max(1, size[0] // 16), max(1, size[1] // 16)))
    blurred = small.filter(ImageFilter.GaussianBlur(4)).resize(size, Image.Resampling.BICUBIC)
    return blurred.point([round(value * 0.62) for value in range(256)] * 3)


def _rounded(size: tuple[int, int], radius: int) -> Image.Image:
    mask = Image.new("L", (size[0] * 2, size[1] * 2))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] * 2 - 1, size[1] * 2 - 1), radius * 2, 255)
    return mask.reduce(2)


def _card(subject: str, host: str, size: tuple[int, int], colours: tuple[Rgb, Rgb]) -> Image.Image:
    """What stands in for a picture behind a URL, which the sandbox never fetches."""
    slope = Image.linear_gradient("L").rotate(35, Image.Resampling.BICUBIC, expand=True)
    inner = slope.crop((slope.width // 3, slope.height // 3, slope.width * 2 // 3, slope.height * 2 // 3))
    card = ImageOps.colorize(ImageOps.autocontrast(inner).resize(size, Image.Resampling.BICUBIC), *colours)
    draw = ImageDraw.Draw(card)
    short = min(size)
    name = f"@{subject[:24]}"
    large = min(short * 0.24, size[0] * 1.4 / max(4, len(name)))
    note = "picture behind a URL, not fetched"
    for text, letters, down in ((name, large, -0.12), (host[:40], short * 0.045, 0.06), (note, short * 0.032, 0.12)):
        place = (size[0] / 2, size[1] / 2 + down * short)
        draw.text(place, text, (255, 255, 255), font(text, letters), anchor="mm")
    return card
