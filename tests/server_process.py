"""A real server as a child process that a test can signal and kill."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import Process

from command_line import COMMAND, environment, heeding_sigint
from marker import KEY

__all__ = ["ServerProcess", "started"]


class ServerProcess:
    """What it says and what it remembers is all below `home`."""

    def __init__(self, home: Path, process: Process) -> None:
        self.home = home
        self.process = process

    @property
    def ledger(self) -> Path:
        return self.home / "state" / "refvideo-mcp" / "ledger.db"

    async def ended(self) -> int:
        """How it ended; a negative number is a signal's."""
        with anyio.fail_after(40):
            return await self.process.wait()


@asynccontextmanager
async def started(home: Path, router_url: str, *arguments: str, **settings: str) -> AsyncIterator[Process]:
    """A command whose stderr is the file of that name; killed at the end of the block, if it still runs."""
    await anyio.Path(home).mkdir(parents=True, exist_ok=True)
    env = {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_DATA_HOME": str(home / "data"),
        "MYROUTER_API_KEY": KEY,
        "MYROUTER_BASE_URL": router_url,
    }
    with heeding_sigint(), (home / "stderr").open("ab") as stderr:
        process = await anyio.open_process([*COMMAND, *arguments], env=environment(**env | settings), stderr=stderr)
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()
