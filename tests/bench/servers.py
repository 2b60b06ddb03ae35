"""What is measured, started: our command, the baselines, and the router behind both."""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from bench.clients import LEGACY, Http, Server, Stdio, get
from command_line import COMMAND, environment

__all__ = ["Bench", "ledger_of"]

HERE = Path(__file__).parent
Door = TypeVar("Door", bound=Server)


class Bench:
    """The servers of one run, ended with `stack`; all that they write is below `folder`, on the disk that matters.

    `rounds` is how often each pair is measured, None: as often as its row says.
    """

    def __init__(self, folder: Path, stack: ExitStack, rounds: int | None = None) -> None:
        self._folder = folder
        self._stack = stack
        self._rounds = rounds
        self._homes = 0
        command = [sys.executable, str(HERE / "router.py")]
        router = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(router.kill)
        assert router.stdout is not None
        self.router_url = router.stdout.readline().strip()

    def rounds(self, usual: int) -> int:
        return self._rounds or usual

    def home(self) -> Path:
        """A folder for one server."""
        self._homes += 1
        folder = self._folder / str(self._homes)
        folder.mkdir()
        return folder

    def ours(
        self, door: type[Door], home: Path | None = None, *, era: str = LEGACY, begin: bool = True, **settings: str
    ) -> Door:
        home = home or self.home()
        folders = {name: str(home / name.lower()) for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME")}
        usual = {
            "HOME": str(home),
            "MYROUTER_API_KEY": "key",
            "MYROUTER_BASE_URL": self.router_url,
            "REFVIDEO_OUTPUT_DIR": "off",
            "REFVIDEO_MAX_SECONDS_PER_DAY": "0",
            "REFVIDEO_MAX_OPEN_JOBS": "0",
            "REFVIDEO_MAX_WAIT": "300",
        }
        command = [*COMMAND, *(["serve", "--http", "--port"] if issubclass(door, Http) else [])]
        return self._started(door(command, environment(**folders | usual | settings), home, era), begin)

    def other(self, command: Sequence[str], **settings: str) -> Stdio:
        """Somebody else's server, not begun with."""
        home = self.home()
        return self._started(Stdio(command, environment(**{"HOME": str(home)} | settings), home), begin=False)

    def bare(self, kind: str, door: type[Door], *, era: str = LEGACY, begin: bool = True, **settings: str) -> Door:
        """The baseline of that name in bare.py."""
        home = self.home()
        usual = {"BARE_LEDGER": str(home / "ledger.db"), "MYROUTER_BASE_URL": self.router_url}
        command = [sys.executable, str(HERE / "bare.py"), kind]
        return self._started(door(command, environment(**usual | settings), home, era), begin)

    def router(self, **behaviour: float) -> None:
        """How the router is from now on; what is not given is as at its start."""
        usual = {"least": 0.0, "most": 0.0, "mb": 0.001, "faults": 0.0, "locked": 0.0}
        get(f"{self.router_url}/set?" + "&".join(f"{name}={value}" for name, value in (usual | behaviour).items()))

    def events(self) -> dict[str, dict[str, list[float]]]:
        """What happened to every job there was, in steady seconds."""
        events: dict[str, dict[str, list[float]]] = get(f"{self.router_url}/events")
        return events

    def _started(self, server: Door, begin: bool) -> Door:
        self._stack.callback(_end, server)
        if begin:
            server.begin()
        return server


def ledger_of(home: Path) -> Path:
    return home / "xdg_state_home" / "refvideo-mcp" / "ledger.db"


def _end(server: Server) -> None:
    if server.process.returncode is None:
        server.stop()
