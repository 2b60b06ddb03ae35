"""The video of a job: `python -m refvideo_mcp.sandbox.film FILE`, the film as JSON on stdin.

FILE ends in .mp4 (H.264, needs PyAV) or .gif (Pillow alone). The same film gives the same bytes. A slow camera moves
over each reference picture, one fades into the next, and captions lie on top.
"""

import base64
import colorsys
import contextlib
import hashlib
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from .scenarios import without_tag

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame

Planes = list[Image.Image]
Split = Callable[[Image.Image], Planes]
Size = tuple[int, int]
Rgb = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Part of each file's name, so that a cache filled by an older renderer is not used.
_RENDERER = 2
_WIDEST = 4
_FPS = 24
_GIF_FPS = 10  # GIF counts hundredths of a second
_GIF_SHORT_SIDE = 360
_ZOOM = {"small": 1.06, "auto": 1.14, "medium": 1.2, "high": 1.34}
_SHOTS_PER_SECOND = 1.5
_FADE_SECONDS = 0.6
# Pillow's own font is Latin only. These come with the systems that people write other scripts on.
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc", "DejaVuSans.ttf")
_WHITE = (255, 255, 255)
_INK = (12, 14, 20)
_BAR = (240, 240, 245)
_CHORDS = ((220, 262, 330, 392), (196, 247, 294, 370), (175, 220, 262, 330), (147, 220, 262, 349))
_NOTES = (440, 494, 523, 587, 659, 784)


@dataclass(frozen=True)
class Film:
    """`seconds` long, `width` x `height` pixels (both even); `pictures` are (subject id, URL or data URI) in order."""

    prompt: str
    pictures: Sequence[tuple[str, str]]
    seconds: int
    width: int
    height: int
    movement: str
    seed: int
    audio: bool
    bgm: bool
    watermark: bool

    @classmethod
    def from_request(cls, request: dict[str, Any], seed: int) -> "Film":
        """The film of a request that kept the contract."""
        short = int(request.get("resolution", "720p").removesuffix("p"))
        across, down = (int(part) for part in request.get("aspect_ratio", "16:9").split(":"))
        # 1000:1 keeps the contract, but is no picture: beyond 4:1 the film stays 4:1.
        long = 2 * round(short * min(max(across, down) / min(across, down), _WIDEST) / 2)
        return cls(
            prompt=without_tag(request["prompt"]),
            # An id is written on one line, whatever is in it.
            pictures=[(" ".join(who["id"].split()), image) for who in request["subjects"] for image in who["images"]],
            seconds=request["duration"],
            width=long if across >= down else short,
            height=short if across >= down else long,
            movement=request.get("movement_amplitude", "auto"),
            seed=seed,
            audio=request.get("audio", False),
            bgm=request.get("bgm", False),
            watermark=request.get("watermark", False),
        )

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @property
    def key(self) -> str:
        """The same for the same content, and for nothing else."""
        return hashlib.sha256(b"%d:" % _RENDERER + self.to_json()).hexdigest()[:32]

    @property
    def size(self) -> Size:
        return self.width, self.height


@dataclass(frozen=True)
class Shot:
    """A picture with room for the camera, the writing over it, and the camera's way: in or out at `aim`.

    Each band of writing has its first row, and for each plane its ink and its mask. It is not one whole layer, which
    takes longer to paste.
    """

    stage: Planes
    bands: list[tuple[int, list[tuple[Image.Image, Image.Image]]]]
    zooms_in: bool
    aim: tuple[float, float]


def _shots(film: Film, split: Split) -> list[Shot]:
    """As many as can be looked at, everyone's first picture before anyone's second."""
    random = Random(film.seed)
    firsts = {subject: number for number, (subject, _) in reversed(list(enumerate(film.pictures)))}
    order = sorted(range(len(film.pictures)), key=lambda number: (firsts[film.pictures[number][0]] != number, number))
    shown = sorted(order[: max(1, int(film.seconds * _SHOTS_PER_SECOND))])
    return [_shot(film, *film.pictures[number], random, split) for number in shown]


def _shot(film: Film, subject: str, image: str, random: Random, split: Split) -> Shot:
    size = (2 * round(film.width * _ZOOM[film.movement] / 2), 2 * round(film.height * _ZOOM[film.movement] / 2))
    # A dark and a lively colour that go together, the same wherever the subject appears.
    hue = Random(f"{film.seed}:{subject}").random()
    dark, bright = _colour(hue + 0.08, 0.6, 0.28), _colour(hue, 0.58, 0.9)
    stage = _staged(image, size) if image.startswith("data:") else _card(subject, image, size, (dark, bright))
    bands = [
        (row, [(ink, band.getchannel("A").resize(ink.size)) for ink in split(band.convert("RGB"))])
        for row, band in _writing(film, subject, bright)
    ]
    zooms_in, aim = random.random() < 0.5, (random.uniform(0.2, 0.8), random.uniform(0.3, 0.7))
    return Shot(split(stage), bands, zooms_in, aim)


def _colour(hue: float, saturation: float, value: float) -> Rgb:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _staged(uri: str, size: Size) -> Image.Image:
    """The picture on a stage of `size`: filling it if it nearly fits, else framed on a blurred copy of itself."""
    with Image.open(BytesIO(base64.b64decode(uri.partition(",")[2]))) as file:
        file.draft("RGB", size)
        picture = ImageOps.exif_transpose(file).convert("RGBA")
    is_opaque = picture.getchannel("A").getextrema()[0] == 255
    if is_opaque and 1 / 1.4 < (picture.width / picture.height) / (size[0] / size[1]) < 1.4:
        return ImageOps.fit(picture.convert("RGB"), size, Image.Resampling.BICUBIC)
    solid = Image.new("RGB", picture.size, (58, 62, 78))
    solid.paste(picture, mask=picture)
    small = ImageOps.fit(solid, (max(1, size[0] // 16), max(1, size[1] // 16))).filter(ImageFilter.GaussianBlur(4))
    stage = small.resize(size, Image.Resampling.BICUBIC).point([round(value * 0.62) for value in range(256)] * 3)
    scale = 0.86 * min(size[0] / picture.width, size[1] / picture.height)
    # A picture of 1 x 5000 pixels stays one pixel wide.
    inner = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    framed = picture.resize(inner, Image.Resampling.BICUBIC)
    shape = _rounded(inner, min(size) // 40) if is_opaque else framed.getchannel("A")
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    shadow = Image.new("L", size)
    shadow.paste(shape.point([value * 3 // 5 for value in range(256)]), (left, top + min(size) // 60))
    stage.paste((0, 0, 0), mask=shadow.reduce(4).filter(ImageFilter.GaussianBlur(min(size) / 160)).resize(size))
    stage.paste(framed, (left, top), shape)
    return stage


def _card(subject: str, url: str, size: Size, colours: tuple[Rgb, Rgb]) -> Image.Image:
    """What stands in for a picture behind a URL, which the sandbox never fetches."""
    slope = Image.linear_gradient("L").rotate(35, Image.Resampling.BICUBIC, expand=True)
    inner = slope.crop((slope.width // 3, slope.height // 3, slope.width * 2 // 3, slope.height * 2 // 3))
    card = ImageOps.colorize(ImageOps.autocontrast(inner).resize(size, Image.Resampling.BICUBIC), *colours)
    draw = ImageDraw.Draw(card)
    short = min(size)
    name = f"@{subject[:24]}"
    large = min(short * 0.24, size[0] * 1.4 / max(4, len(name)))
    host = re.sub(r"^\w+://([^/?#]*@)?|[/?#].*", "", url)[:40]
    note = "picture behind a URL, not fetched"
    for text, letters, down in ((name, large, -0.12), (host, short * 0.045, 0.06), (note, short * 0.032, 0.12)):
        draw.text((size[0] / 2, size[1] / 2 + down * short), text, _WHITE, _font(text, letters), anchor="mm")
    return card


def _writing(film: Film, subject: str, bright: Rgb) -> list[tuple[int, Image.Image]]:
    """Above, that it is no real video; below, who is seen and the prompt."""
    # In even rows, because a colour plane has half of them.
    short = min(film.size)
    margin, size = round(short * 0.045), short * 0.042
    above = Image.new("RGBA", (film.width, 2 * round(short * 0.054)))
    above.alpha_composite(_pill("S A N D B O X", short * 0.034, (*_INK, 190), _WHITE), (margin, margin))
    if film.watermark:
        mark = _pill("AI generated", short * 0.03, (*_INK, 110), _WHITE)
        above.alpha_composite(mark, (max(0, film.width - margin - mark.width), margin))

    letters = _font(film.prompt, size)
    lines = _wrapped(film.prompt, letters, film.width - 2 * margin)
    step = round(size * 1.35)
    red, green, blue = bright
    chip = _pill(f"@{subject[:24]}", short * 0.044, bright, _INK if 3 * red + 6 * green + blue > 1400 else _WHITE)
    tall = chip.height + margin // 2 + step * len(lines) + margin
    below = Image.new("RGBA", (film.width, min(film.height, 3 * (tall + margin) // 4 * 2)), (8, 10, 16))
    below.putalpha(Image.linear_gradient("L").point([value * 4 // 5 for value in range(256)]).resize(below.size))
    y = below.height - tall
    below.alpha_composite(chip, (margin, max(0, y)))
    for number, line in enumerate(lines, 1):
        place = (margin, below.height - margin - step * (len(lines) + 1 - number))
        ImageDraw.Draw(below).text(place, line, _WHITE, letters)
    return [(0, above), (film.height - below.height, below)]


def _font(text: str, size: float) -> Font:
    """A font that can write the text, if the system has one."""
    for name in _WIDE_FONTS if any(ord(character) > 0x24F for character in text) else ():
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def _wrapped(text: str, letters: Font, width: float) -> list[str]:
    """The text in at most two lines of `width` pixels, cut with an ellipsis."""
    lines: list[str] = []
    for columns in range(240, 3, -1):
        lines = textwrap.wrap(text[:400], columns, max_lines=2, placeholder=" …")
        if all(letters.getlength(line) <= width for line in lines):
            break
    return lines


def _pill(text: str, size: float, fill: tuple[int, ...], ink: Rgb) -> Image.Image:
    letters = _font(text, size)
    width, height = round(letters.getlength(text) + size * 1.3), round(size * 1.75)
    pill = Image.new("RGBA", (width, height), (*fill[:3], 0))
    pill.paste(fill, mask=_rounded(pill.size, height // 2))
    ImageDraw.Draw(pill).text((width / 2, height / 2), text, ink, letters, anchor="mm")
    return pill


def _rounded(size: Size, radius: int) -> Image.Image:
    # Drawn larger and scaled down: Pillow's own edges are jagged.
    mask = Image.new("L", (size[0] * 3, size[1] * 3))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] * 3 - 1, size[1] * 3 - 1), radius * 3, 255)
    return mask.reduce(3)


def frames(film: Film, fps: int, split: Split) -> Iterator[Planes]:
    """Every frame of the film, in the planes that `split` makes of an RGB picture; the first one has its full size."""
    shots, total = _shots(film, split), film.seconds * fps
    length = total / len(shots)
    fade = min(_FADE_SECONDS * fps, length / 2)
    bar = split(Image.new("RGB", (film.width, 2 * max(1, min(film.size) // 360)), _BAR))

    def seen(shot: Shot, number: float) -> Planes:
        # The camera goes on while the next shot fades in. It moves by parts of a pixel: FFmpeg's own (zoompan) moves by
        # whole ones, and trembles.
        moment = min(1.0, number / (length + fade))
        close = moment if shot.zooms_in else 1 - moment
        whole = shot.stage[0].size
        wide, tall = (there - close * (there - shown) for there, shown in zip(whole, film.size, strict=True))
        left, top = (whole[0] - wide) * shot.aim[0], (whole[1] - tall) * shot.aim[1]
        picture = []
        for plane in shot.stage:
            scale = plane.width / whole[0]
            size = round(film.width * scale), round(film.height * scale)
            box = (left * scale, top * scale, (left + wide) * scale, (top + tall) * scale)
            picture.append(plane.resize(size, Image.Resampling.BILINEAR, box))
        for row, inks in shot.bands:
            for plane, (ink, mask) in zip(picture, inks, strict=True):
                plane.paste(ink, (0, row * plane.height // film.height), mask)
        return picture

    for number in range(total):
        current = min(int(number / length), len(shots) - 1)
        since = number - current * length
        picture = seen(shots[current], since)
        if current and since < fade:
            before = seen(shots[current - 1], since + length)
            picture = [Image.blend(*pair, since / fade) for pair in zip(before, picture, strict=True)]
        for plane, ink in zip(picture, bar, strict=True):
            done = ink.crop((0, 0, round(ink.width * number / (total - 1)), ink.height))
            plane.paste(done, (0, plane.height - ink.height))
        yield picture


def write_mp4(film: Film, file: Path) -> None:
    import av

    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(file), "w", format="mp4", options=options) as container:
        # A fixed number of threads: x264 gives other bytes with another number.
        video = container.add_stream("libx264", rate=_FPS, options={"preset": "veryfast", "crf": "22", "threads": "2"})
        video.width, video.height, video.pix_fmt = film.width, film.height, "yuv420p"
        # BT.709 in the file's own words, or players guess by size and shift the colours.
        context = video.codec_context
        context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
        sound = container.add_stream("aac", rate=24000, layout="mono") if film.audio or film.bgm else None
        for number, picture in enumerate(_drawn_ahead(frames(film, _FPS, _yuv))):
            frame = av.VideoFrame(film.width, film.height, "yuv420p")
            for plane, content in zip(frame.planes, picture, strict=True):
                plane.update(content.tobytes("raw", "L", plane.line_size, 1))
            frame.pts, frame.time_base = number, Fraction(1, _FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            for piece in _sound(film):
                container.mux(sound.encode(piece))
            container.mux(sound.encode(None))


def _drawn_ahead(pictures: Iterator[Planes]) -> Iterator[Planes]:
    """The same pictures, the next one being drawn while the last one is encoded: it saves a third of the time."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, pictures, None)
        while picture := coming.result():
            coming = pool.submit(next, pictures, None)
            yield picture


def _yuv(picture: Image.Image) -> Planes:
    """As H.264 keeps it: brightness, and two colours at half the size (BT.709, 16-235).

    Working on these costs half as much as on RGB, which would be converted to them anyway.
    """
    import av

    rgb = av.VideoFrame(picture.width, picture.height, "rgb24")
    rgb.planes[0].update(picture.tobytes("raw", "RGB", rgb.planes[0].line_size, 1))
    return [
        Image.frombytes("L", (plane.width, plane.height), bytes(plane), "raw", "L", plane.line_size)
        for plane in rgb.reformat(format="yuv420p", dst_colorspace="itu709").planes
    ]


def _sound(film: Film) -> "Iterator[AudioFrame]":
    """A soft chord for `bgm`, a plucked note each second for `audio`."""
    from av.filter import Graph

    random = Random(film.seed)
    # Whole hertz: a second's end is the next one's beginning.
    tones = "+".join(f"sin(2*PI*{tone}*t)" for tone in random.choice(_CHORDS)) if film.bgm else "0"
    chord = f"0.04*min(1,2*min(t,{film.seconds}-t))*({tones})"
    notes = [random.choice(_NOTES) for _ in range(film.seconds)] if film.audio else []
    tone = "+".join(f"{note}*eq(floor(t),{second})" for second, note in enumerate(notes)) or "0"
    # A note that begins at once clicks.
    pluck = f"0.22*min(1,120*mod(t,1))*exp(-5*mod(t,1))*(1-mod(t,1))*sin(2*PI*t*({tone}))"
    graph = Graph()
    graph.link_nodes(
        graph.add("aevalsrc", exprs=f"{chord}+{pluck}", s="24000", d=str(film.seconds)),
        graph.add("aformat", sample_fmts="fltp"),
        graph.add("abuffersink"),
    )
    graph.configure()
    with contextlib.suppress(EOFError):
        while True:
            yield cast("AudioFrame", graph.pull())


def write_gif(film: Film, file: Path) -> None:
    scale = min(1.0, _GIF_SHORT_SIDE / min(film.size))
    film = replace(film, width=2 * round(film.width * scale / 2), height=2 * round(film.height * scale / 2))
    pictures = [
        picture.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        for (picture,) in frames(film, _GIF_FPS, lambda picture: [picture])
    ]
    pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=1000 // _GIF_FPS, loop=0)


def main() -> None:
    # The process that waits for the film has an agent to answer.
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(5)
    film, file = Film(**json.load(sys.stdin.buffer)), Path(sys.argv[1])
    (write_gif if file.suffix == ".gif" else write_mp4)(film, file)


if __name__ == "__main__":
    main()
