"""A person who types at a command's terminal."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from a_place import Place
from command_line import running

__all__ = ["Typist", "typing"]


class Typist:
    """Sees what a command writes on its terminal and types at it; its stdout goes into a pipe."""

    def __init__(self, terminal: int, command: subprocess.Popen[bytes]) -> None:
        self.command = command
        self.seen = ""
        self._terminal = terminal

    def waits_for(self, text: str) -> None:
        while text not in self.seen:
            more = self._read()
            assert more, f"the command ended before it wrote {text!r}: {self.seen}"

    def types(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def waits_for_the_end(self) -> tuple[int, str]:
        """The exit code, and what was written on stdout."""
        while self._read():
            pass
        assert self.command.stdout is not None
        out = self.command.stdout.read().decode()
        return self.command.wait(), out

    def _read(self) -> bytes:
        try:
            more = os.read(self._terminal, 1000)
        except OSError:  # how Linux says that nobody has its other end open any more
            return b""
        self.seen += more.decode(errors="replace")
        return more


@contextmanager
def typing(place: Place, *arguments: str) -> Iterator[Typist]:
    terminal, its_end = os.openpty()
    try:
        # A folder for temporary files that is not around all others: pictures there may be sent unasked.
        settings = place.settings | {"TERM": "xterm", "TMPDIR": str(place.folder)}
        with running(*arguments, stdin=its_end, stderr=its_end, settings=settings, folder=place.folder) as command:
            os.close(its_end)
            yield Typist(terminal, command)
    finally:
        os.close(terminal)
