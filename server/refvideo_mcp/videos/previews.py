"""Previews in the cache folder: thumbnails of what was sent, and the filmstrip that a child process makes."""

import contextlib
import hashlib
import io
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import anyio
import anyio.to_thread

from refvideo_mcp.errors import clean
from refvideo_mcp.videos.partial_file import sweep

__all__ = ["Previews", "portrait"]

log = logging.getLogger(__name__)

_THUMBNAIL = (256, 256)
_PORTRAIT, _PORTRAIT_BYTES = (128, 128), 8_000
_KEPT_SECONDS = 30 * 24 * 3600
_LONGEST_SECONDS = 30


class Previews:
    """None of this may fail: a job is paid for, its preview is a courtesy. Without a `folder` there are none."""

    # A child process and not a thread: a video that crashes a decoder takes no MCP server with it, and nobody's answer
    # waits for a decoder (10 s of 1080p on two cores: delays up to 57 ms beside a thread, 11 ms beside a child).

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._one_strip, self._one_decoder = anyio.Semaphore(1), anyio.Semaphore(1)

    async def remember(self, job_id: str, subjects: Sequence[Sequence[bytes]], *, for_strip: bool = True) -> None:
        """Keep thumbnails of the pictures of a job's subjects. What is no picture is left out.

        `for_strip`: nothing but the filmstrip needs them.
        """
        if self._folder is not None and not (for_strip and find_spec("av") is None):
            async with self._one_decoder:
                with contextlib.suppress(OSError):
                    await anyio.to_thread.run_sync(_keep_thumbnails, self._folder, _name(job_id), subjects)

    async def portraits(self, job_id: str, subjects: int) -> list[bytes | None]:
        """A small JPEG of each of a job's subjects, where there is one: 8 kB at most, for a page that shows them."""
        if self._folder is None:
            return [None] * subjects
        files = [self._folder / f"{_name(job_id)}-{subject:02}-00.jpg" for subject in range(subjects)]
        async with self._one_decoder:
            return await anyio.to_thread.run_sync(lambda: [portrait(file) for file in files])

    async def filmstrip(self, job_id: str, video: Path) -> Path | None:
        """A picture that shows the references and the video's start, middle and end; None where there can be none."""
        if self._folder is None or not find_spec("av"):
            return None
        strip = self._folder / f"{_name(job_id)}.jpg"
        async with self._one_strip:
            with contextlib.suppress(OSError):
                if await anyio.Path(strip).exists() or await self._make(strip, video, self._folder):
                    return strip
        return None

    async def last_frame(self, strip: Path) -> Path | None:
        """The last frame as a PNG, which was kept when the strip was made."""
        frame = strip.with_suffix(".png")
        return frame if await anyio.Path(frame).is_file() else None

    async def _make(self, strip: Path, video: Path, folder: Path) -> bool:
        references = await anyio.to_thread.run_sync(_thumbnails, folder, strip.stem)
        part, last_frame = strip.with_suffix(f".{os.getpid()}.part"), strip.with_suffix(f".{os.getpid()}.png.part")
        # Our own module: no one else's words are in the command, and no setting of ours reaches a decoder.
        program = [sys.executable, "-P", "-m", "refvideo_mcp.videos.filmstrip"]
        command = [*program, str(video), str(part), str(last_frame), *references]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MYROUTER_", "REFVIDEO_"))}
        try:
            with anyio.move_on_after(_LONGEST_SECONDS):
                made = await anyio.run_process(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    check=False,
                    env=environment,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
                if made.returncode == 0:
                    last_frame.replace(strip.with_suffix(".png"))
                    part.replace(strip)
                    return True
                log.info("no preview: %s", clean(made.stderr.decode(errors="replace")[-300:]))
            return False
        finally:
            part.unlink(missing_ok=True)
            last_frame.unlink(missing_ok=True)


def _name(job_id: str) -> str:
    return f"preview-{hashlib.sha256(job_id.encode('utf-8', 'replace')).hexdigest()[:32]}"


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # pictures of the user are in it
    sweep(folder, "preview-*", _KEPT_SECONDS)


def _thumbnails(folder: Path, name: str) -> list[str]:
    _prepare(folder)
    return sorted(str(file) for file in folder.glob(f"{name}-*.jpg"))


def _keep_thumbnails(folder: Path, name: str, subjects: Sequence[Sequence[bytes]]) -> None:
    _prepare(folder)
    for place, pictures in enumerate(subjects):
        for number, content in enumerate(pictures):
            thumbnail = _thumbnail(content, _THUMBNAIL, 85)
            if thumbnail is not None:
                (folder / f"{name}-{place:02}-{number:02}.jpg").write_bytes(thumbnail)


def portrait(file: Path) -> bytes | None:
    """A small JPEG of a picture, as good as fits into 8 kB; None of what is no picture."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    made = (_thumbnail(content, _PORTRAIT, quality) for quality in (80, 60, 40, 20))
    return next((jpeg for jpeg in made if jpeg and len(jpeg) <= _PORTRAIT_BYTES), None)


def _thumbnail(content: bytes, size: tuple[int, int], quality: int) -> bytes | None:
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as opened:
            opened.draft("RGB", size)
            picture = opened.convert("RGBA") if opened.mode == "P" else opened  # a palette cannot be scaled smoothly
            picture.thumbnail(size)
            upright = ImageOps.exif_transpose(picture).convert("RGBA")
    except Exception:  # Pillow's decoders raise many kinds for a broken file
        return None
    solid = Image.new("RGB", upright.size, (255, 255, 255))
    solid.paste(upright, mask=upright.getchannel("A"))
    kept = io.BytesIO()
    solid.save(kept, "JPEG", quality=quality)
    return kept.getvalue()
