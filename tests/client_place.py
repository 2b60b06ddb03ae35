"""Where other clients meet our server: a simulated router, a server over HTTP, and settings for one over stdio."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import httpx2

from command_line import COMMAND
from http_server import serving
from marker import KEY
from pictures import data_uri, saved, scene
from refvideo_mcp.sandbox import Sandbox

__all__ = ["ClientPlace"]


class ClientPlace:
    """`router` and `url` are addresses; the two servers have a ledger each, as on two machines."""

    def __init__(self, folder: Path, router: str, url: str) -> None:
        self.router = router
        self.url = url
        self.settings = self._settings(folder, router, "stdio") | {"REFVIDEO_OUTPUT_DIR": str(folder / "videos")}
        self.picture = folder / "hero.png"
        self.picture.write_bytes(saved(scene(), "PNG"))

    @classmethod
    @contextmanager
    def running(cls, folder: Path, *, seconds: float) -> Iterator["ClientPlace"]:
        """Jobs take that many seconds."""
        with (
            Sandbox(seconds=seconds, folder=folder / "clips") as sandbox,
            serving(*COMMAND, "serve", "--http", "--port", "0", **cls._settings(folder, sandbox.url, "http")) as url,
        ):
            yield cls(folder, sandbox.url, url)

    @staticmethod
    def _settings(folder: Path, router: str, door: str) -> dict[str, str]:
        return {
            "MYROUTER_API_KEY": KEY,
            "MYROUTER_BASE_URL": router,
            "XDG_STATE_HOME": str(folder / door),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def order(self, prompt: str, *, over_http: bool) -> dict[str, Any]:
        """A short job. Over HTTP the picture comes along, on stdio it lies on the disk."""
        image = data_uri(self.picture.read_bytes()) if over_http else str(self.picture)
        subjects = [{"id": "hero", "images": [image]}]
        return {"prompt": f"@hero {prompt}", "subjects": subjects, "duration": 1, "resolution": "540p"}

    def submits(self) -> int:
        """How many POSTs the router has seen."""
        count: int = httpx2.get(f"{self.router}/sandbox/stats").json()["submits"]
        return count

    @staticmethod
    def plays(video: str) -> bool:
        """Whether there is a whole film at this path or link."""
        with av.open(video) as container:
            return sum(1 for _ in container.decode(video=0)) == 24
