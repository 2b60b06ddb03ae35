"""The demo's two reference pictures: a fox and a lantern, drawn with curves and gradients."""

import io
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFilter

__all__ = ["PICTURES", "save_picture"]

WIDTH, HEIGHT = 1280, 720
# Drawn larger and scaled down: Pillow's own edges are jagged.
_SCALE = 3

Point = tuple[float, float]
Shade = tuple[str, str]  # the colours at its top and at its foot

INK = ("#2b2038", "#1a1326")
CREAM = ("#fff8ec", "#f2dcc0")
FUR = ("#ff9d4d", "#dd5a24")
BRASS = ("#ffd98a", "#a8652a")


class Canvas:
    """A picture under way. Coordinates are those of the finished picture."""

    def __init__(self, top: str, foot: str) -> None:
        self.image = _gradient((WIDTH * _SCALE, HEIGHT * _SCALE), (top, foot))

    def oval(self, at: Point, size: Point, shade: Shade) -> None:
        (x, y), (wide, tall) = at, size
        self.polygon(
            [(x + wide * math.cos(turn), y + tall * math.sin(turn)) for turn in _steps(0, math.tau, 96)], shade
        )

    def blob(self, points: Sequence[Point], shade: Shade) -> None:
        """A smooth shape through the points."""
        self.polygon(_curve(points), shade)

    def pair(self, points: Sequence[Point], shade: Shade) -> None:
        """A smooth shape and its mirror image."""
        self.blob(points, shade)
        self.blob(_mirrored(points), shade)

    def whole(self, half: Sequence[Point], shade: Shade) -> None:
        """A smooth symmetrical shape, given its left half from top to foot."""
        self.blob([*half, *reversed(_mirrored([p for p in half if p[0] != WIDTH / 2]))], shade)

    def line(self, points: Sequence[Point], width: float, colour: str) -> None:
        """A round pen through the points."""
        draw = ImageDraw.Draw(self.image)
        radius = width * _SCALE / 2
        for (x, y), (to_x, to_y) in pairwise(points):
            for part in _steps(0, 1, max(2, int(math.dist((x, y), (to_x, to_y)) * 2))):
                middle = ((x + (to_x - x) * part) * _SCALE, (y + (to_y - y) * part) * _SCALE)
                draw.circle(middle, radius, fill=colour)

    def polygon(self, points: Sequence[Point], shade: Shade) -> None:
        xs, ys = [x * _SCALE for x, _ in points], [y * _SCALE for _, y in points]
        left, top = math.floor(min(xs)), math.floor(min(ys))
        size = (math.ceil(max(xs)) - left + 1, math.ceil(max(ys)) - top + 1)
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in zip(xs, ys, strict=True)], fill=255)
        self.image.paste(_gradient(size, shade), (left, top), mask)

    def glow(self, at: Point, radius: float, colour: str, strength: float) -> None:
        """Light that fades with the distance; `strength` is 0 to 1."""
        side = round(radius * _SCALE * 2)
        fade = Image.radial_gradient("L").point([round(max(0, 1 - v / 180) ** 2 * strength * 255) for v in range(256)])
        place = (round(at[0] * _SCALE - side / 2), round(at[1] * _SCALE - side / 2))
        self.image.paste(colour, place, fade.resize((side, side), Image.Resampling.BICUBIC))

    def soften(self, radius: float) -> None:
        """Put what is drawn so far out of focus."""
        small = self.image.reduce(_SCALE).filter(ImageFilter.GaussianBlur(radius))
        self.image = small.resize(self.image.size, Image.Resampling.BICUBIC)

    def finished(self) -> Image.Image:
        return self.image.reduce(_SCALE)


def _gradient(size: tuple[int, int], shade: Shade) -> Image.Image:
    column = Image.linear_gradient("L").resize((1, size[1]), Image.Resampling.BICUBIC)
    bands = [Image.new("RGB", column.size, colour) for colour in shade]
    return Image.composite(bands[1], bands[0], column).resize(size)


def _steps(start: float, stop: float, count: int) -> list[float]:
    return [start + (stop - start) * step / count for step in range(count + 1)]


def _mirrored(points: Sequence[Point]) -> list[Point]:
    return [(WIDTH - x, y) for x, y in points]


def _curve(points: Sequence[Point]) -> list[Point]:
    """A closed Catmull-Rom spline. A point given twice makes a corner."""
    count = len(points)
    curve = []
    for place in range(count):
        a, b, c, d = (points[(place + step) % count] for step in (-1, 0, 1, 2))
        if b == c:
            continue
        curve += [(_spline(a[0], b[0], c[0], d[0], t), _spline(a[1], b[1], c[1], d[1], t)) for t in _steps(0, 1, 16)]
    return curve


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


def _bow(start: Point, towards: Point, end: Point) -> list[Point]:
    """A line that bends towards a point."""
    weights = [((1 - t) ** 2, 2 * t * (1 - t), t**2) for t in _steps(0, 1, 16)]
    return [
        (a * start[0] + b * towards[0] + c * end[0], a * start[1] + b * towards[1] + c * end[1]) for a, b, c in weights
    ]


def _hill(canvas: Canvas, height: float, swell: float, phase: float, shade: Shade) -> None:
    ridge = [(x, height + swell * math.sin(x / 210 + phase) + swell / 3 * math.sin(x / 70)) for x in range(0, 1300, 8)]
    canvas.polygon([*ridge, (1300, HEIGHT + 9), (0, HEIGHT + 9)], shade)


def draw_fox() -> Image.Image:
    """A fox sits before the rising moon."""
    canvas = Canvas("#2a2260", "#ff9e7a")
    random = Random(7)
    for _ in range(70):
        size = random.uniform(0.8, 2.2)
        canvas.oval((random.uniform(0, WIDTH), random.uniform(0, 330)), (size, size), ("#fff4dc", "#fff4dc"))
    canvas.glow((640, 300), 520, "#ffd9a8", 0.8)
    canvas.oval((640, 290), (235, 235), ("#fff6df", "#ffd9a0"))
    _hill(canvas, 500, 34, 1.0, ("#7d4a86", "#4b2c66"))
    _hill(canvas, 560, 26, 3.1, ("#53337a", "#2e1c4e"))
    canvas.soften(2.2)
    _hill(canvas, 632, 12, 5.0, ("#3c2a63", "#1b1238"))

    tail = [(705, 640), (800, 655), (905, 610), (950, 510), (925, 400), (868, 330), (850, 420), (815, 500), (740, 560)]
    canvas.blob(tail, FUR)
    canvas.blob([(868, 330), (868, 330), (925, 400), (947, 470), (915, 455), (893, 470), (868, 448), (849, 440)], CREAM)

    canvas.whole([(640, 380), (575, 410), (530, 500), (508, 600), (528, 662), (590, 676), (640, 676)], FUR)
    canvas.whole([(640, 400), (592, 420), (580, 500), (604, 575), (640, 606)], CREAM)
    canvas.pair([(548, 560), (590, 545), (622, 570), (626, 640), (615, 676), (565, 676), (548, 640)], FUR)
    canvas.pair([(560, 640), (590, 632), (620, 640), (630, 668), (612, 682), (566, 682), (550, 668)], INK)

    canvas.pair([(500, 275), (478, 180), (484, 92), (484, 92), (552, 136), (606, 205)], FUR)
    canvas.pair([(481, 150), (481, 120), (484, 92), (484, 92), (512, 110), (530, 122), (505, 138)], INK)
    canvas.pair([(516, 262), (502, 205), (504, 150), (504, 150), (548, 180), (580, 224)], ("#f7b9a0", "#ffe3cf"))
    head = [(640, 188), (570, 196), (512, 240), (482, 300), (446, 352), (446, 352), (505, 372), (570, 410), (640, 440)]
    canvas.whole(head, ("#ffa95a", "#ea6a2c"))
    cheek = [(446, 353), (446, 353), (520, 330), (575, 322), (612, 350), (640, 372), (640, 442), (570, 412), (505, 374)]
    canvas.pair(cheek, CREAM)
    canvas.whole([(640, 350), (606, 366), (598, 400), (618, 430), (640, 442)], CREAM)

    canvas.pair([(566, 282), (586, 290), (592, 314), (580, 338), (560, 338), (546, 316), (550, 291)], INK)
    for x in (562, 704):
        canvas.oval((x, 301), (7, 8), ("#ffffff", "#ffffff"))
        canvas.oval((x + 13, 323), (3.4, 3.8), ("#ffffff", "#ffe9cf"))
    canvas.whole([(640, 372), (620, 374), (618, 386), (632, 398), (640, 400)], INK)
    canvas.oval((633, 379), (5, 2.6), ("#8d7f9c", "#5c4d70"))
    canvas.line([(640, 398), (640, 410)], 3.2, INK[0])
    smile = [(640 + 24 * part, 410 + 7 * math.sin(abs(part) * math.pi)) for part in _steps(-1, 1, 24)]
    canvas.line(smile, 3.2, INK[0])

    scarf = ("#39c6b8", "#12807f")
    canvas.blob([(690, 452), (728, 462), (752, 540), (758, 596), (716, 604), (702, 540)], ("#2aa99f", "#0d6468"))
    canvas.whole([(640, 440), (582, 428), (545, 436), (548, 466), (590, 486), (640, 490)], scarf)
    return canvas.finished()


def draw_lantern() -> Image.Image:
    """A small lantern with a face lights a wood at night."""
    canvas = Canvas("#07182f", "#1d5a63")
    random = Random(3)
    for trunk in range(11):
        x = trunk * 128 + random.uniform(-34, 34)
        wide = random.uniform(16, 40)
        shade = ("#0a2138", "#0d3442") if trunk % 2 else ("#0c2b43", "#134a52")
        canvas.blob(
            [(x - wide, -60), (x + wide, -60), (x + wide * 0.8, 400), (x + wide * 1.5, 720), (x - wide, 720)], shade
        )
    _hill(canvas, 560, 22, 2.0, ("#17545a", "#0b2f3c"))
    canvas.soften(5)
    canvas.glow((640, 360), 620, "#ffc76a", 0.85)
    _hill(canvas, 625, 12, 0.5, ("#2c6a52", "#0b2b2f"))
    canvas.glow((640, 668), 330, "#ffd37d", 0.7)
    for _ in range(34):
        at = (random.uniform(40, 1240), random.uniform(60, 640))
        if abs(at[0] - 640) > 190:
            canvas.glow(at, random.uniform(14, 30), "#fff0a8", 0.9)
            canvas.oval(at, (2.2, 2.2), ("#fffbe0", "#fffbe0"))

    ring = [(640 + 56 * math.cos(turn), 124 + 56 * math.sin(turn)) for turn in _steps(0, math.tau, 60)]
    canvas.line(ring, 13, "#7a4a24")
    canvas.line([(x - 1, y - 2) for x, y in ring], 8, "#e9b562")

    for side in (-1, 1):
        canvas.line([(640 + side * 52, 590), (640 + side * 56, 650)], 18, "#5d3a22")
        canvas.blob(
            [(640 + side * x, y) for x, y in ((34, 648), (60, 636), (84, 650), (98, 668), (84, 680), (38, 680))],
            ("#c2523e", "#7a2732"),
        )
    canvas.line(_bow((520, 444), (442, 470), (428, 380)), 15, "#7a4a24")
    canvas.line(_bow((760, 440), (846, 460), (814, 540)), 15, "#7a4a24")
    canvas.oval((427, 372), (17, 17), BRASS)
    canvas.oval((812, 546), (17, 17), BRASS)

    glass = [(640, 228), (566, 232), (520, 300), (502, 410), (524, 520), (566, 566), (640, 570)]
    canvas.whole(glass, ("#ffe9a6", "#ff9f3f"))
    canvas.glow((640, 380), 170, "#fffbe6", 0.95)
    canvas.whole([(640, 240), (640, 240), (626, 278), (602, 312), (606, 350), (640, 366)], ("#fff7c8", "#ffb347"))
    canvas.whole([(640, 290), (628, 318), (622, 338), (640, 352)], ("#ffffff", "#ffe9a0"))
    canvas.blob([(548, 300), (562, 290), (556, 350), (548, 440), (536, 440), (536, 360)], ("#fffdf2", "#ffe2a0"))

    canvas.whole([(640, 166), (606, 172), (588, 200), (552, 214), (530, 240), (560, 250), (640, 254)], BRASS)
    canvas.whole([(640, 556), (560, 554), (532, 568), (530, 594), (566, 606), (640, 608)], BRASS)
    for y in (238, 568):
        canvas.line([(560, y), (720, y)], 4, "#fff0c4")

    canvas.pair([(586, 404), (600, 412), (603, 432), (594, 448), (579, 448), (570, 432), (574, 412)], INK)
    for x in (582, 688):
        canvas.oval((x, 420), (5.4, 6.4), ("#ffffff", "#ffffff"))
    canvas.pair([(548, 462), (566, 456), (580, 464), (570, 474), (552, 472)], ("#ff8f6b", "#ff7a5c"))
    canvas.whole([(640, 456), (614, 456), (618, 474), (630, 488), (640, 490)], ("#7a2732", "#5a1a2a"))
    canvas.whole([(640, 474), (626, 478), (630, 486), (640, 489)], ("#ff8f7a", "#ff7a6a"))
    return canvas.finished()


PICTURES: dict[str, Callable[[], Image.Image]] = {"fox": draw_fox, "lantern": draw_lantern}


def save_picture(subject: str, folder: Path) -> Path:
    """Draw a subject into `folder`. A file that has its name already is left alone and used."""
    path = folder / f"{subject}.png"
    if not path.exists():
        content = io.BytesIO()
        PICTURES[subject]().save(content, "PNG")
        path.write_bytes(content.getvalue())
    return path
