"""Saves videos: under which name, in which folder, and what is said where one cannot be stored."""

import errno
import hashlib
import re
import unicodedata
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from refvideo_mcp.errors import Unavailable, ask_user, clean
from refvideo_mcp.files import folder_and_name
from refvideo_mcp.network import Trust
from refvideo_mcp.videos.chunks import Chunk, read_chunk
from refvideo_mcp.videos.download import download, new_client
from refvideo_mcp.videos.partial_file import NotReached, PartialFile
from refvideo_mcp.videos.previews import Previews

if TYPE_CHECKING:
    import httpx2

__all__ = ["Videos", "file_name"]

_LONGEST_SUBJECT = 40  # characters; at four bytes each the whole name still has less than 200
PIECE_BYTES = 2**22
_REASONS = {
    errno.ENOSPC: "its disk is full",
    errno.EDQUOT: "its disk quota is used up",
    errno.EFBIG: "it takes no file of this size",
    errno.ENOENT: "it is gone",
    errno.ENOTDIR: "it is no folder",
    errno.EEXIST: "it is no folder",
    errno.EACCES: "it may not be written",
    errno.EPERM: "it may not be written",
    errno.EROFS: "it is read-only",
}


class Videos:
    """Saves videos in `folder` (None: only those with a destination of their own) and previews of them in `cache`.

    `max_mb` 0 = no limit. One save ends `within` so many seconds. Without `any_host` only public hosts are asked.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        max_mb: int = 500,
        cache: Path | None = None,
        preview: bool = True,
        within: float = 540.0,
        any_host: bool = True,
        transport: "httpx2.AsyncBaseTransport | None" = None,
        trust: Trust | None = None,
    ):
        self.folder = folder
        self._max_mb = max_mb
        self._within = within
        self._any_host = any_host
        self._transport = transport
        self._trust = trust or Trust()
        self.previews = Previews(cache if preview else None)

    async def save(self, url: str, name: str, destination: Path | None = None) -> Path:
        """Download `url` to a new file called `name` plus its ending, or to a checked `destination`.

        Raises:
            NotReached: it did not come; a later try or a fresh link may bring it.
            Unavailable: it may not be fetched, or cannot be stored; the link may still work elsewhere.
        """

        async def fetch(part: PartialFile) -> None:
            async with await self._client() as client:
                await download(client, url, part, max_mb=self._max_mb, within=self._within)

        return await self._written(fetch, name, destination)

    async def copy(self, file: Path, name: str, destination: Path) -> Path:
        """Put a saved video at a checked `destination`, too; in a folder it is called `name` plus its ending.

        Raises:
            NotReached: it cannot be read.
            Unavailable: it cannot be stored.
        """

        async def read(part: PartialFile) -> None:
            place = 0
            while piece := await anyio.to_thread.run_sync(_piece, file, place, abandon_on_cancel=True):
                await anyio.to_thread.run_sync(part.write, piece)
                place += len(piece)

        return await self._written(read, name, destination)

    async def _written(
        self, fill: Callable[[PartialFile], Awaitable[None]], name: str, destination: Path | None
    ) -> Path:
        if destination is not None:
            folder, name = await anyio.to_thread.run_sync(folder_and_name, destination, name)
        elif self.folder is not None:
            folder = self.folder
        else:
            raise Unavailable("Saving is switched off (REFVIDEO_OUTPUT_DIR=off).")
        part = PartialFile(folder, is_checked=destination is not None)
        try:
            await fill(part)
            # A caller that gives up now must not leave a file that nobody knows of.
            with anyio.CancelScope(shield=True):
                published = await anyio.to_thread.run_sync(part.publish, name)
        except OSError as error:
            reason = _REASONS.get(error.errno or 0) or error.strerror or "it failed"
            raise Unavailable(f"The video could not be saved in {clean(str(folder), 200)}: {reason}.") from error
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(part.discard)
        return published

    async def chunk(self, saved_to: str, offset: int) -> Chunk:
        """Some of a saved video, from `offset` on.

        Raises:
            Refused: it is gone, no video, or too large to be shown.
        """
        return await anyio.to_thread.run_sync(read_chunk, Path(saved_to), offset)

    async def _client(self) -> "httpx2.AsyncClient":
        import httpx2

        try:
            verify = await self._trust.context() if self._transport is None else True
            return new_client(verify=verify, any_host=self._any_host, transport=self._transport)
        except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:  # the environment names what cannot be
            raise Unavailable(
                "The video could not be fetched: a proxy or certificate setting cannot be used.",
                ask_user("check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE."),
            ) from error


def _piece(file: Path, place: int) -> bytes:
    try:
        with file.open("rb") as saved:
            saved.seek(place)
            return saved.read(PIECE_BYTES)
    except OSError as error:
        raise NotReached(f"{clean(file.name, 120)} cannot be read") from error


def file_name(task_id: str, made_at: float, prompt: str | None, seconds: int | None) -> str:
    """A name people recognise, without its ending: `2026-11-23 cat-on-skateboard 5s 7f3a`. `made_at` is epoch time."""
    # It begins with a date, so it is none of the names that Windows keeps for devices.
    length = f" {seconds}s" if seconds else ""
    tag = hashlib.sha256(task_id.encode("utf-8", "replace")).hexdigest()[:4]
    return f"{datetime.fromtimestamp(made_at):%Y-%m-%d} {_subject(prompt or '')}{length} {tag}"


def _subject(prompt: str) -> str:
    text = re.sub(r"@[0-9]+(?![A-Za-z0-9_-])", " ", unicodedata.normalize("NFC", prompt))
    text = re.sub(r"['\u2019]", "", text).lower()
    # Letters, digits and the marks that belong to them (Hindi has vowels that are marks): no control characters, no
    # changes of direction, no slashes.
    words = "".join(c if unicodedata.category(c)[0] in "LNM" else " " for c in text).split()[:5]
    return "-".join(words)[:_LONGEST_SUBJECT].strip("-") or "video"
