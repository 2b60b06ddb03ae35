"""Saved videos, read in chunks for a player that may load nothing itself."""

from dataclasses import dataclass
from pathlib import Path

from refvideo_mcp.errors import Refused, clean
from refvideo_mcp.videos.partial_file import ending_of

__all__ = ["Chunk", "read_chunk"]

# 512 KiB in base64. A multiple of three, so that chunks are joined as text, without padding in between.
CHUNK_BYTES = 3 * 2**17
# What browsers still play from one data: URI.
LARGEST_BYTES = 32 * 2**20
_MEDIA_TYPES = {".mp4": "video/mp4", ".gif": "image/gif"}


@dataclass(frozen=True)
class Chunk:
    """Some bytes of a file of `size` bytes. `type` is its media type."""

    content: bytes
    size: int
    type: str


def read_chunk(file: Path, offset: int) -> Chunk:
    """What is in the file from `offset` on, 384 KiB at most. Blocks: call it in a thread.

    Raises:
        Refused: it is gone, no video, or too large to be shown.
    """
    name = clean(file.name, 120)
    if not file.is_file():
        raise Refused(
            f"{name} is not where it was saved.", "Asking for its result saves it again, while there is a link."
        )
    try:
        with file.open("rb") as video:
            ending = ending_of(video.read(12))
            size = video.seek(0, 2)
            video.seek(offset)
            content = video.read(CHUNK_BYTES)
    except OSError as error:
        raise Refused(f"{name} cannot be read: {error.strerror}.") from error
    if ending is None:
        raise Refused(f"{name} is no video any more.", "Asking for its result gives a link, while there is one.")
    if size > LARGEST_BYTES:
        raise Refused(f"{name} is too large to be played here ({size / 1e6:.0f} MB).", "Open the file itself.")
    return Chunk(content, size, _MEDIA_TYPES[ending])
