"""What is written over a clip: who is seen, the prompt, and that it is no real video."""

import colorsys
from random import Random

from PIL import Image, ImageDraw, ImageFont

from .clip import Clip
from .colour import Planes, Rgb, plane_values, to_planes

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Pillow's own font is Latin only. These come with the systems that people write other scripts on.
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc", "DejaVuSans.ttf")
_LINES = 2
_MARGIN = 0.045
_WHITE = (255, 255, 255)
_BAR = (240, 240, 245)


def accents(seed: int, subject: str) -> tuple[Rgb, Rgb]:
    """A dark and a lively colour that go together, the same wherever the subject appears."""
    hue = Random(f"{seed}:{subject}").random()
    return _colour(hue + 0.08, 0.6, 0.28), _colour(hue, 0.58, 0.9)


def _colour(hue: float, saturation: float, value: float) -> Rgb:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def font(text: str, size: float) -> Font:
    """A font that can write the text, if the system has one."""
    if any(ord(character) > 0x24F for character in text):
        for name in _WIDE_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


class Overlay:
    """The writing over one shot, drawn once and pasted on each of its frames."""

    def __init__(self, clip: Clip, subject: str, colours: tuple[Rgb, Rgb]) -> None:
        self._size = (clip.width, clip.height)
        self._short = min(self._size)
        self._bright = colours[1]
        layer = Image.new("RGBA", self._size)
        bottom = self._draw_caption(layer, clip.prompt, f"@{subject}")
        top = self._draw_marks(layer, clip)
        # Only the rows with something on them: pasting a whole frame costs as much as scaling one.
        self._bands = [_Band(layer, 0, top), _Band(layer, bottom, clip.height)]

    def draw_on(self, frame: Planes, elapsed: float) -> None:
        """Draws on a frame when `elapsed` (0 to 1) of the clip is over."""
        for band in self._bands:
            band.draw_on(frame)
        tall = max(1, self._short // 360)
        for plane, value, scale in zip(frame, plane_values(_BAR), (2, 1, 1), strict=True):
            bottom = plane.height
            plane.paste(value, (0, bottom - tall * scale, round(plane.width * elapsed), bottom))

    def _draw_caption(self, layer: Image.Image, prompt: str, subject: str) -> int:
        margin = round(self._short * _MARGIN)
        size = self._short * 0.042
        letters = font(prompt, size)
        lines = _wrapped(prompt, letters, self._size[0] - 2 * margin)
        step = round(size * 1.35)
        chip = _pill(subject[:24], self._short * 0.044, self._bright, _ink_on(self._bright))
        height = 2 * margin + step * len(lines) + chip.height + margin // 2
        top = max(0, self._size[1] - round(height * 1.5))
        scrim = Image.linear_gradient("L").resize((self._size[0], self._size[1] - top))
        shade = Image.new("RGBA", scrim.size, (8, 10, 16, 0))
        shade.putalpha(scrim.point([round(value * 0.8) for value in range(256)]))
        layer.paste(shade, (0, top))
        draw = ImageDraw.Draw(layer)
        y = self._size[1] - margin - step * len(lines)
        layer.alpha_composite(chip, (margin, max(0, y - chip.height - margin // 2)))
        for line in lines:
            draw.text((margin, y), line, _WHITE, letters)
            y += step
        return top

    def _draw_marks(self, layer: Image.Image, clip: Clip) -> int:
        margin = round(self._short * _MARGIN)
        mark = _pill("S A N D B O X", self._short * 0.034, (12, 14, 20, 190), _WHITE)
        layer.alpha_composite(mark, (margin, margin))
        if clip.watermark:
            made = _pill("AI generated", self._short * 0.03, (12, 14, 20, 110), _WHITE)
            layer.alpha_composite(made, (max(0, self._size[0] - margin - made.width), margin))
        return margin + mark.height


class _Band:
    def __init__(self, layer: Image.Image, top: int, bottom: int) -> None:
        # Even rows, because a colour plane has half of them.
        self._top = top - top % 2
        band = layer.crop((0, self._top, layer.width, bottom + bottom % 2))
        alpha = band.getchannel("A")
        self._planes = to_planes(band.convert("RGB"))
        self._alphas = (alpha, alpha.reduce(2), alpha.reduce(2))

    def draw_on(self, frame: Planes) -> None:
        for plane, ink, alpha, scale in zip(frame, self._planes, self._alphas, (1, 2, 2), strict=True):
            plane.paste(ink, (0, self._top // scale), alpha)


def _ink_on(colour: Rgb) -> Rgb:
    red, green, blue = colour
    return (12, 14, 20) if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else _WHITE


def _pill(text: str, size: float, fill: tuple[int, ...], ink: Rgb) -> Image.Image:
    letters = font(text, size)
    width = round(letters.getlength(text) + size * 1.3)
    height = round(size * 1.75)
    large = Image.new("RGBA", (width * 3, height * 3), (*fill[:3], 0))
    ImageDraw.Draw(large).rounded_rectangle((0, 0, width * 3 - 1, height * 3 - 1), height * 3 // 2, fill)
    pill = large.reduce(3)
    ImageDraw.Draw(pill).text((width / 2, height / 2), text, ink, letters, anchor="mm")
    return pill


def _wrapped(text: str, letters: Font, width: float) -> list[str]:
    """The text in at most two lines of `width` pixels, cut with an ellipsis."""
    lines: list[str] = []
    rest = text[:400]
    while rest and len(lines) < _LINES:
        end = _fitting(rest, letters, width)
        if end < len(rest):
            end = rest.rfind(" ", 1, end + 1) if " " in rest[1 : end + 1] else end
        lines.append(rest[:end].strip())
        rest = rest[end:].strip()
    if rest:
        room = width - letters.getlength(" …")
        last = lines[-1][: _fitting(lines[-1], letters, room)]
        if last != lines[-1] and " " in last:
            last = last.rpartition(" ")[0]
        lines[-1] = last + " …"
    return lines


def _fitting(text: str, letters: Font, width: float) -> int:
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if letters.getlength(text[:middle]) <= width else (low, middle - 1)
    return low
