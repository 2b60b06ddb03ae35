"""What a command shows while it works, and asks: a live bar on a terminal, plain lines elsewhere."""

import io
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import rich.console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from refvideo_mcp.errors import Refused

__all__ = ["Console", "agreed", "shown"]


def shown(path: str) -> str:
    """A path as short as it can be pasted."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


class Console:
    """Tells what happens, step by step, on `stream`; `width` is that of the longest step's name."""

    def __init__(self, stream: TextIO, width: int) -> None:
        if isinstance(stream, io.TextIOWrapper):
            # A prompt may hold letters that this terminal cannot write.
            stream.reconfigure(errors="replace")
        # Not rich's own idea of a terminal: FORCE_COLOR would move the cursor about in a log file.
        self._console = rich.console.Console(file=stream, force_terminal=stream.isatty(), highlight=False)
        self.is_terminal = self._console.is_terminal
        self._is_live = self.is_terminal and not self._console.is_dumb_terminal
        self._writes_symbols = self._console.encoding.startswith("utf")
        self._name_width = width
        self.columns = self._console.width

    def done(self, step: str, result: str) -> None:
        """A step that went well."""
        self._step("✓", "*", "green", step, result)

    def failed(self, step: str, result: str) -> None:
        """A step that went wrong."""
        self._step("✗", "x", "red", step, result)

    def noted(self, step: str, result: str) -> None:
        """What is neither good nor bad."""
        self._step("\N{EN DASH}", "-", "yellow", step, result)

    def _step(self, symbol: str, plain: str, style: str, step: str, result: str) -> None:
        mark = symbol if self._writes_symbols else plain
        self.line(f"  {mark} ", style, f"{step:<{self._name_width}}  ", "", result, "dim")

    @contextmanager
    def waiting(self, step: str) -> Iterator[Callable[[str], None]]:
        """A step under way. What is yielded shows a message; a percentage in it moves the bar."""
        if not self._is_live:
            said = ""

            def write(message: str) -> None:
                nonlocal said
                if message != said:
                    self.line(f"    {step:<{self._name_width}}  {message}")
                said = message

            yield write
            return
        columns = (
            TextColumn(" "),
            SpinnerColumn("dots" if self._writes_symbols else "line", style="cyan"),
            TextColumn(f"{step:<{self._name_width}} "),
            BarColumn(18, complete_style="cyan", finished_style="cyan", pulse_style="cyan"),
            TextColumn("[dim]{task.description}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            bar = progress.add_task("", total=None)

            def show(message: str) -> None:
                percent = re.search(r"(\d+) ?%", message)
                if percent:
                    progress.update(bar, total=100, completed=int(percent[1]))
                progress.update(bar, description=message)

            yield show

    def line(self, *parts: str) -> None:
        """Text, style, text, style, …; one line, however long, so that it can be copied whole."""
        line = Text()
        for text, style in zip(parts[::2], [*parts[1::2], ""], strict=False):
            line.append(text, style)
        self._console.print(line, soft_wrap=True)


def agreed(question: str) -> bool:
    """Whether the person at the terminal says yes; False where there is nobody to ask.

    Raises:
        Refused: they said no.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the event loop hears nothing meanwhile
    try:
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        said = sys.stdin.readline().strip().lower()
    finally:
        signal.signal(signal.SIGINT, before)
    if said not in ("y", "yes"):
        raise Refused("You said no: nothing was sent or bought.")
    return True
