"""What every test shares: the event loop, that the key stays secret, and what is reported.

And what most tests of jobs begin with: a clock, a router that lives by it, and where the ledger and the videos go.
"""

import gc
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from fake_router import FakeRouter
from marker import KEY
from reporting import pytest_make_collect_report, pytest_runtest_makereport, pytest_terminal_summary  # noqa: F401
from virtual_time import VirtualClock

# What tests import and start hundreds of times is compiled once, though a container's image says otherwise.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

MORE_WORKERS_THAN_CORES = 2
OURS_AND_BELOW = ("refvideo_mcp", "mcp", "httpx2", "httpcore2")


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Most tests wait, for another process, a socket or the time."""
    return (yield) + MORE_WORKERS_THAN_CORES


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not go through it at every turn."""
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def clock() -> AsyncIterator[VirtualClock]:
    clock = VirtualClock()
    async with clock.passing():
        yield clock


@pytest.fixture
def router(clock: VirtualClock) -> FakeRouter:
    return FakeRouter(clock)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return tmp_path / "videos"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the project; nothing else is anybody's."""
    for name in ("home", "temporary", "work", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Any]:
    """For modules whose tests share an event loop."""
    from player_host import browsing

    async with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pictures, and with the clips that were rendered from them."""
    from refvideo_mcp.cli.demo import save_picture

    folder = tmp_path_factory.mktemp("drawn")
    for subject in ("fox", "lantern"):
        save_picture(subject, folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_folders_stay_as_they_are(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Servers that a test starts keep their previews and ledgers out of the folders of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
            environment.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield


class _Everything(logging.Handler):
    """Keeps each record as it would be written, traceback included, and as it was given."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += [self.format(record), repr(record.args)]


@pytest.fixture(autouse=True)
def key_stays_secret(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No answer, log record, output or file of any test holds the key, not even at the level `debug`.

    Nor does an address: at that level the HTTP client logs it.
    """
    answers: list[str] = []
    call_tool = Client.call_tool

    async def overheard(client: Client, *arguments: Any, **options: Any) -> Any:
        answer = await call_tool(client, *arguments, **options)
        answers.append(answer.model_dump_json())
        return answer

    monkeypatch.setattr(Client, "call_tool", overheard)
    folder: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    everything = _Everything()
    root, talkative = logging.getLogger(), [logging.getLogger(name) for name in OURS_AND_BELOW]
    levels = [logger.level for logger in talkative]
    root.addHandler(everything)
    for logger in talkative:
        logger.setLevel(logging.DEBUG)
    yield
    for logger, level in zip(talkative, levels, strict=True):
        logger.setLevel(level)
    root.removeHandler(everything)
    assert not [answer for answer in answers if KEY in answer]
    assert not [line for line in everything.lines if KEY in line]
    assert not [kind for _, kind, said in request.node._report_sections if KEY in said]
    if folder is not None:
        assert not [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small disk, on Linux")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)
