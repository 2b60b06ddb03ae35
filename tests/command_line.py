"""The real command, whose environment holds none of our settings but those given.

`call` it where nothing about a process is tested: a process of its own takes a second.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from refvideo_mcp.cli import main
from refvideo_mcp.logs import last_words

COMMAND = [sys.executable, "-m", "refvideo_mcp"]
LOGGERS = (None, "refvideo_mcp", "mcp", "httpx2", "httpcore2", "stamina")


def environment(**settings: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MYROUTER_", "REFVIDEO_"))}
    return inherited | {"PYTHONIOENCODING": "utf-8"} | settings


def call(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command, run to its end in this process, with nothing on its stdin."""
    return call_in(Path.cwd(), *arguments, **settings)


def call_in(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The same, from a folder."""
    with (
        Path(os.devnull).open() as stdin,
        tempfile.TemporaryFile("w+", encoding="utf-8") as stdout,
        tempfile.TemporaryFile("w+", encoding="utf-8", buffering=1) as stderr,  # the log's thread writes there too
        patch.object(sys, "stdin", stdin),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
        patch.dict(os.environ, environment(**settings), clear=True),
        patch.object(tempfile, "tempdir", None),  # what Python remembers of the other environment
        chdir(folder),
        _new_loggers(),
    ):
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        last_words()
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(arguments, code, stdout.read(), stderr.read())


@contextmanager
def _new_loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, [*logger.handlers]) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.NOTSET)
        logger.handlers.clear()
    try:
        yield
    finally:
        for logger, (level, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.handlers[:] = handlers


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, run to its end, with nothing on its stdin."""
    return run_in(Path.cwd(), *arguments, **settings)


def run_in(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The same, from a folder."""
    return subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env=environment(**settings),
        cwd=folder,
        timeout=120,
        check=False,
    )


@contextmanager
def heeding_sigint() -> Iterator[None]:
    """To start a process in: where SIGINT is ignored, as in a shell's background job, children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def running(
    *arguments: str,
    stdin: int = subprocess.PIPE,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    settings: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The command under way; ended with the block, or after a minute, so that a test never reads for ever."""
    with heeding_sigint():
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment(**settings or {}),
            cwd=folder,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
    alarm = threading.Timer(60, process.kill)
    alarm.start()
    try:
        with process:
            yield process
            process.kill()
    finally:
        process.kill()
        alarm.cancel()
        alarm.join()
