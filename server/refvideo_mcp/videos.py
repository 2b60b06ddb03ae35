"""Finished videos: a presigned link becomes a file that plays."""

import hashlib
import re
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from refvideo_mcp import __version__
from refvideo_mcp.errors import Unavailable

if TYPE_CHECKING:
    import httpx2

__all__ = ["Videos", "file_name"]

MAX_BYTES = 500 * 1024 * 1024


def file_name(task_id: str, made_at: float, prompt: str | None, seconds: int | None) -> str:
    """A name people recognise, without its ending: `2026-11-23 cat-on-skateboard 5s 7f3a`. `made_at` is epoch time."""
    words = re.findall(r"\w+", re.sub(r"@[0-9]+\b", "", prompt or ""))[:5]
    subject = "-".join(words).lower()[:40].strip("-") or "video"
    length = f" {seconds}s" if seconds else ""
    tag = hashlib.sha256(task_id.encode()).hexdigest()[:4]
    return f"{datetime.fromtimestamp(made_at):%Y-%m-%d} {subject}{length} {tag}"


class Videos:
    """Saves videos in `folder`. None = videos are not saved."""

    def __init__(self, folder: Path | None, *, transport: "httpx2.AsyncBaseTransport | None" = None):
        self.folder = folder
        self._transport = transport

    async def save(self, url: str, name: str) -> Path:
        """Download `url` to a new file called `name` plus its ending.

        Raises:
            Unavailable: it could not be fetched or stored; the link may still work elsewhere.
        """
        import httpx2
        import stamina

        if self.folder is None:
            raise Unavailable("Saving is switched off (REFVIDEO_OUTPUT_DIR=off).")
        try:
            # A client of its own: the key, cookies and headers of the router's client never reach a CDN.
            async with httpx2.AsyncClient(
                headers={"User-Agent": f"refvideo-mcp/{__version__}"},
                timeout=30,
                follow_redirects=True,
                max_redirects=3,
                transport=self._transport,
            ) as client:
                async for attempt in stamina.retry_context(on=httpx2.TransportError, attempts=3, timeout=60):
                    with attempt:
                        return await self._fetch(client, url, self.folder, name)
        except httpx2.HTTPStatusError as error:
            status = error.response.status_code
            dead = " (the link has probably died)" if status in (403, 404, 410) else ""
            raise Unavailable(f"The video could not be fetched: its host answered {status}{dead}.") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unavailable("The video could not be fetched: the connection broke.") from error
        except OSError as error:
            raise Unavailable(
                f"The video could not be saved in {self.folder}: {error.strerror or 'it failed'}."
            ) from error
        raise AssertionError("unreachable: retry_context returns or raises")

    async def _fetch(self, client: "httpx2.AsyncClient", url: str, folder: Path, name: str) -> Path:
        await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
        async with client.stream("GET", url) as response:
            response.raise_for_status()
            # Beside its destination, so that the rename cannot cross file systems.
            part = await anyio.to_thread.run_sync(_temporary, folder)
            try:
                async with await anyio.open_file(part, "wb") as file:
                    size = 0
                    async for chunk in response.aiter_bytes(256 * 1024):
                        size += len(chunk)
                        if size > MAX_BYTES:
                            raise Unavailable("The video is larger than 500 MB and was not saved.")
                        await file.write(chunk)
                return await anyio.to_thread.run_sync(_publish, part, folder, name)
            finally:
                part.unlink(missing_ok=True)


def _temporary(folder: Path) -> Path:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".refvideo-", suffix=".part", delete=False) as file:
        return Path(file.name)


def _publish(part: Path, folder: Path, name: str) -> Path:
    """Give the finished download its name, never over an existing file."""
    with part.open("rb") as file:
        ending = _ending(file.read(16))
    if ending is None:
        raise Unavailable("The link did not lead to a video.")
    part.chmod(0o644)
    for number in range(1, 1000):
        target = folder / (f"{name}{ending}" if number == 1 else f"{name} ({number}){ending}")
        try:
            target.touch(exist_ok=False)  # claims the name among processes
        except FileExistsError:
            continue
        return part.replace(target)
    raise Unavailable(f"There are too many files called {name}.")


def _ending(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return ".mp4"
    return ".gif" if head[:6] in (b"GIF87a", b"GIF89a") else None
