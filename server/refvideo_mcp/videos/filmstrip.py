"""Draws a filmstrip, and keeps the last frame.

`python -m refvideo_mcp.videos.filmstrip VIDEO STRIP LAST_FRAME [REFERENCE …]`; needs PyAV.
"""

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import av
from PIL import Image, ImageDraw, ImageFont, ImageOps

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MAX_WIDTH = 1024
MAX_BYTES = 60_000
# A few hundred kilobytes of video can hold pictures of gigabytes.
MAX_PIXELS = 4096 * 4096
MAX_MEMORY = 2 * 2**30
_BOUNDED = {"max_pixels": str(MAX_PIXELS)}
_TALLEST = 320
_GAP = 4
_CAPTION = 20
_DARK, _LIGHT = (24, 25, 29), (214, 216, 222)
_MOST_REFERENCES = 6


def draw_filmstrip(frames: Sequence[tuple[float, Image.Image]], references: Sequence[str]) -> bytes:
    """The references, the first, the middle and the last frame side by side, as a JPEG."""
    columns = _columns([Image.open(file).convert("RGB") for file in references[:_MOST_REFERENCES]])
    shape = frames[0][1].width / frames[0][1].height
    gaps = _GAP * (4 + len(columns))
    height = min(_TALLEST, int((MAX_WIDTH - gaps) / (3 * shape + sum(map(_shape, columns)))))
    widths = [int((height - _GAP * (len(column) - 1)) * _shape(column)) for column in columns]
    wide = max(1, int(height * shape))

    canvas = Image.new("RGB", (sum(widths) + 3 * wide + gaps, height + _CAPTION + _GAP), _DARK)
    draw, letters = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    left = _GAP
    if columns:
        label = "reference" if len(references) == 1 else "references"
        room = sum(widths) + _GAP * (len(columns) - 1)
        draw.text((left + 1, height + 7), label if letters.getlength(label) <= room else "ref", _LIGHT, letters)
    for column, width in zip(columns, widths, strict=True):
        top = _GAP
        for picture in column:
            # The lowest one ends where the frames end, whatever was rounded above it.
            below = _GAP + height if picture is column[-1] else top + round(width * picture.height / picture.width)
            canvas.paste(picture.resize((width, below - top), Image.Resampling.LANCZOS), (left, top))
            top = below + _GAP
        left += width + _GAP
    for seconds, frame in frames:
        canvas.paste(frame.resize((wide, height), Image.Resampling.LANCZOS), (left, _GAP))
        draw.text((left + 1, height + 7), f"{seconds:.1f} s", _LIGHT, letters)
        left += wide + _GAP
    return _jpeg(canvas)


def _columns(pictures: Sequence[Image.Image]) -> list[list[Image.Image]]:
    """Two above each other. Extreme shapes lose their edges: the video is to be seen too."""
    if len(pictures) == 1:
        return [[_trimmed(pictures[0], 0.5, 2.0)]]
    columns = [[_trimmed(picture, 0.75, 2.0) for picture in pictures[at : at + 2]] for at in range(0, len(pictures), 2)]
    if len(pictures) % 2:
        columns[-1] = [_trimmed(pictures[-1], 0.75, 1.0)]
    return columns


def _trimmed(picture: Image.Image, narrowest: float, widest: float) -> Image.Image:
    shape = min(widest, max(narrowest, picture.width / picture.height))
    width = min(picture.width, picture.height * shape)
    return ImageOps.fit(picture, (max(1, round(width)), max(1, round(width / shape))))


def _shape(column: Sequence[Image.Image]) -> float:
    """Its width, where its height is 1."""
    return 1 / sum(picture.height / picture.width for picture in column)


def _three_frames(video: str) -> list[tuple[float, Image.Image]]:
    with av.open(video, options=_BOUNDED) as container:
        stream = container.streams.video[0]
        if stream.width * stream.height > MAX_PIXELS:
            raise ValueError(f"its pictures are too large ({stream.width}x{stream.height})")
        moments = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
    middle = moments[len(moments) // 2]
    chosen: list[VideoFrame] = []
    last = None
    with av.open(video, options=_BOUNDED) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # each thread would hold pictures of its own
        stream.codec_context.options = _BOUNDED  # they may grow on the way
        for frame in container.decode(stream):
            if not chosen or (len(chosen) == 1 and (frame.pts or 0) >= middle):
                chosen.append(frame)
            last = frame
    if last is None:
        raise ValueError("the video has no pictures")
    shown = [chosen[0], chosen[-1], last]
    return [((frame.time or 0.0) - (shown[0].time or 0.0), _picture(frame)) for frame in shown]


def _picture(frame: "VideoFrame") -> Image.Image:
    return frame.to_image()  # type: ignore[no-untyped-call, no-any-return]  # PyAV's own types leave it out


def _jpeg(picture: Image.Image) -> bytes:
    """As good as fits; noise at the lowest quality still does."""
    content = b""
    for quality in (88, 80, 70, 60, 45, 30, 20, 10):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        content = file.getvalue()
        if len(content) <= MAX_BYTES:
            break
    return content


def _limit_memory() -> None:
    """Where the system can: whatever a decoder does before it is told of a limit, it does not take the machine."""
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


def main() -> None:
    _limit_memory()
    # The process that waits for the strip has an agent to answer.
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(5)
    video, strip, last_frame, *references = sys.argv[1:]
    frames = _three_frames(video)
    Path(strip).write_bytes(draw_filmstrip(frames, references))
    frames[-1][1].save(last_frame, "PNG")


if __name__ == "__main__":
    main()
