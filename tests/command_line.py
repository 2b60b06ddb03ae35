"""The real command as a child process, whose environment holds none of our settings but those given."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

COMMAND = [sys.executable, "-m", "refvideo_mcp"]


def environment(**settings: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MYROUTER_", "REFVIDEO_"))}
    return inherited | {"PYTHONIOENCODING": "utf-8"} | settings


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command, run to its end, with nothing on its stdin."""
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
def running(
    *arguments: str,
    stdin: int = subprocess.PIPE,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    settings: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The command under way; ended with the block, or after a minute, so that a test never reads for ever."""
    # Where SIGINT is ignored, as in a shell's background job, children would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment(**settings or {}),
            cwd=folder,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
    finally:
        signal.signal(signal.SIGINT, before)
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
