"""Logging on stderr, which never waits for a reader; the key never gets through, not even in a traceback."""

import atexit
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from queue import SimpleQueue
from threading import Thread

from refvideo_mcp.errors import is_invisible
from refvideo_mcp.settings import Settings

__all__ = ["last_words", "logging_to_stderr", "say"]

MOST_WAITING = 1000
LAST_WORDS_SECONDS = 0.5


class _Stderr:
    """A stream that a thread of its own writes to stderr; what nobody reads in time is left out, and counted.

    Clients start servers with a pipe that they never read, and a write to a full one would stop the event loop.
    """

    def __init__(self) -> None:
        # This queue alone may be filled by a signal handler that interrupts whoever just fills it.
        self._waiting: SimpleQueue[str] = SimpleQueue()
        self._taken, self._written, self._left_out = 0, 0, 0
        Thread(target=self._write, daemon=True, name="stderr").start()

    def write(self, text: str) -> None:
        if self._taken - self._written >= MOST_WAITING:
            self._left_out += 1
            return
        self._taken += 1
        self._waiting.put(text)

    def flush(self) -> None:
        """What is written is on its way."""

    def drain(self, seconds: float) -> None:
        """Wait until all is written, but no longer."""
        end = time.monotonic() + seconds
        while self._written < self._taken and time.monotonic() < end:
            time.sleep(0.005)

    def _write(self) -> None:
        told = 0
        while True:
            text = self._waiting.get()
            if unread := self._left_out - told:
                text = f"({unread} log lines were not read and are left out)\n{text}"
                told += unread
            with suppress(OSError, ValueError):  # the reader has gone
                self._write_all(text)
            self._written += 1

    @staticmethod
    def _write_all(text: str) -> None:
        # Not through sys.stderr: whoever waits inside it holds its lock, which the end of the interpreter needs.
        rest = text.encode(sys.stderr.encoding, "backslashreplace")
        while rest:
            rest = rest[os.write(sys.stderr.fileno(), rest) :]


@cache
def _stderr() -> _Stderr:
    stderr = _Stderr()
    atexit.register(stderr.drain, LAST_WORDS_SECONDS)
    return stderr


class _Redacting(logging.Formatter):
    def __init__(self, keys: Callable[[], Iterable[str]], *, as_json: bool):
        super().__init__("%(message)s" if as_json else "%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._keys = keys
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for key in self._keys():
            text = text.replace(key, "[key]") if key else text
        if self._as_json:
            at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
            about = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": text}
            return json.dumps(about | getattr(record, "call", {}))
        # What another program said must not move the cursor of the terminal that reads this.
        return "".join("?" if is_invisible(c) and c not in "\n\t" else c for c in text)


@contextmanager
def logging_to_stderr(settings: Settings, other_keys: Callable[[], Iterable[str]] = tuple) -> Iterator[None]:
    """While the block runs, every log line goes to stderr, from `settings.log_level` up.

    The settings' key is left out of them, and so are `other_keys`.
    """
    handler = logging.StreamHandler(_stderr())
    handler.setFormatter(
        _Redacting(lambda: ("" if settings.sandbox else settings.api_key, *other_keys()), as_json=settings.log_json)
    )
    for library in ("httpx2", "httpcore2"):  # they log whole URLs, and presigned links are secrets
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("stamina").setLevel(logging.ERROR)  # its lines say that it tries again, but not what
    root = logging.getLogger()
    before = root.level, root.handlers
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    try:
        if settings.fault:  # an exit would take the tools away, and with them who could say why
            say(f"refvideo-mcp: {settings.fault}")
        yield
    finally:
        root.handlers = before[1]
        root.setLevel(before[0])


def say(line: str) -> None:
    """A line for the person who started this, whatever the log level; also from a signal handler."""
    _stderr().write(line + "\n")


def last_words() -> None:
    """Before `os._exit`: half a second for what is still to be written."""
    _stderr().drain(LAST_WORDS_SECONDS)
