"""A person at a command line: a folder with a picture, a ledger and a simulated router of their own."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx2

from command_line import call_in
from marker import KEY
from pictures import saved, scene

__all__ = ["SHORT", "Place"]

SHORT = ("--duration", "1", "--resolution", "540p")


class Place:
    """`router` is the address of a sandbox. A test may change `settings`."""

    def __init__(self, folder: Path, router: str) -> None:
        self.folder = folder
        self.picture = folder / "hero.png"
        self.picture.write_bytes(saved(scene(), "PNG"))
        self.router = router
        self.settings = {
            "MYROUTER_API_KEY": KEY,
            "MYROUTER_BASE_URL": router,
            "REFVIDEO_OUTPUT_DIR": str(folder / "videos"),
            "REFVIDEO_PREVIEW": "off",
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "XDG_DATA_HOME": str(folder / "data"),
        }

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return call_in(self.folder, *arguments, **self.settings | settings)

    def generate(self, prompt: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("generate", "--prompt", prompt, "--subject", "hero=hero.png", *SHORT, *arguments)

    def submits(self) -> int:
        count: int = httpx2.get(f"{self.router}/sandbox/stats").json()["submits"]
        return count

    def waits_for_a_submit(self, command: subprocess.Popen[bytes]) -> None:
        """Until the router has got the POST of a command under way."""
        while not self.submits():
            assert command.poll() is None
            time.sleep(0.05)

    def newest(self) -> dict[str, Any]:
        job: dict[str, Any] = json.loads(self.run("list", "--limit", "1", "--json").stdout)["jobs"][0]
        return job
