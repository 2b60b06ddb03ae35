"""Renders one clip: `python -m refvideo_mcp.sandbox.render FILE`, the clip as JSON on stdin.

FILE ends in .mp4 (H.264, needs PyAV) or .gif (Pillow alone). The same clip gives the same bytes.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from .clip import Clip
from .colour import Planes, to_rgb
from .frames import frames
from .sound import SAMPLE_RATE, samples

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.video.frame import VideoFrame

FPS = 24
_GIF_FPS = 10  # GIF counts hundredths of a second
_GIF_SHORT_SIDE = 360
_AUDIO_CHUNK = 1024


def render(clip: Clip, file: Path) -> None:
    """Writes the clip to `file`. Raises OSError if it cannot."""
    if file.suffix == ".gif":
        _write_gif(clip, file)
    else:
        _write_mp4(clip, file)


def _write_mp4(clip: Clip, file: Path) -> None:
    import av

    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(file), "w", format="mp4", options=options) as container:
        # A fixed number of threads: x264 gives other bytes with another number.
        video = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "22", "threads": "2"})
        video.width, video.height, video.pix_fmt = clip.width, clip.height, "yuv420p"
        # BT.709 in the file's own words, or players guess by size and shift the colours.
        context = video.codec_context
        context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if clip.audio or clip.bgm else None
        for number, picture in enumerate(_drawn_ahead(frames(clip, FPS))):
            container.mux(video.encode(_video_frame(picture, number)))
        container.mux(video.encode(None))
        if sound:
            for chunk in _audio_frames(clip):
                container.mux(sound.encode(chunk))
            container.mux(sound.encode(None))


def _drawn_ahead(pictures: Iterator[Planes]) -> Iterator[Planes]:
    """The same pictures, the next one being drawn while the last one is encoded: it saves a third of the time."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, pictures, None)
        while picture := coming.result():
            coming = pool.submit(next, pictures, None)
            yield picture


def _video_frame(picture: Planes, number: int) -> "VideoFrame":
    import av

    frame = av.VideoFrame(*picture[0].size, "yuv420p")
    for plane, content in zip(frame.planes, picture, strict=True):
        plane.update(content.tobytes("raw", "L", plane.line_size, 1))
    frame.pts, frame.time_base = number, Fraction(1, FPS)
    return frame


def _audio_frames(clip: Clip) -> Iterator["AudioFrame"]:
    import av

    wave = samples(clip)
    for start in range(0, len(wave), _AUDIO_CHUNK):
        chunk = wave[start : start + _AUDIO_CHUNK]
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(chunk))
        # A plane is padded beyond its samples.
        frame.planes[0].update(chunk.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
        yield frame


def _write_gif(clip: Clip, file: Path) -> None:
    scale = min(1.0, _GIF_SHORT_SIDE / min(clip.width, clip.height))
    width, height = (2 * round(side * scale / 2) for side in (clip.width, clip.height))
    small = replace(clip, width=width, height=height)
    pictures = [
        to_rgb(picture).quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        for picture in frames(small, _GIF_FPS)
    ]
    pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=1000 // _GIF_FPS, loop=0)


def main() -> None:
    # The process that waits for the clip has an agent to answer.
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(5)
    render(Clip.from_json(sys.stdin.buffer.read()), Path(sys.argv[1]))


if __name__ == "__main__":
    main()
