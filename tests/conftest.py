"""What every test shares: the event loop, that the key stays secret, no skips where all is there, and figures.

And what most tests of jobs begin with: a clock, a router that lives by it, and where the ledger and the videos go.
"""

import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from textwrap import indent
from typing import Any, TypeVar

import pytest
from mcp import Client

from fake_router import FakeRouter
from marker import KEY
from virtual_time import VirtualClock

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

OURS_AND_BELOW = ("refvideo_mcp", "mcp", "httpx2", "httpcore2")


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


@pytest.fixture(scope="session", autouse=True)
def own_folders_stay_as_they_are(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Servers that a test starts keep their previews and ledgers out of the folders of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _not_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _not_skipped((yield))


def _not_skipped(report: Report) -> Report:
    """With REFVIDEO_NO_SKIPS=1, which says that nothing is missing here, a skip is a failure."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("REFVIDEO_NO_SKIPS") == "1":
        assert isinstance(report.longrepr, tuple)
        file, line, reason = report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{file}:{line}: REFVIDEO_NO_SKIPS is set. {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured, `record_property("figures", "…")`, wherever they ran and though they passed."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    figures = [
        (report.nodeid, value)
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == "figures"
    ]
    if figures:
        terminalreporter.section("figures")
    for test, value in sorted(figures):
        terminalreporter.write_line(f"{test}\n{indent(str(value).strip(), '  ')}")


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
