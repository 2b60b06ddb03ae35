"""What the demo shows: a live bar on a terminal, plain lines elsewhere."""

import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

__all__ = ["Screen", "shown"]

_NAME_WIDTH = len("generate_reference_video")


def shown(path: str) -> str:
    """A path as short as it can be pasted."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


class Screen:
    """Tells what happens, step by step, on stdout."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A prompt may hold letters that this terminal cannot write.
            sys.stdout.reconfigure(errors="replace")
        # Not rich's own idea of a terminal: FORCE_COLOR would move the cursor about in a log file.
        self._console = Console(force_terminal=sys.stdout.isatty(), highlight=False)
        self._is_live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._writes_symbols = self._console.encoding.startswith("utf")
        self._print("refvideo-mcp demo", "bold", "  Pictures become a video. Simulated router: nothing is paid.")
        self._print()

    def done(self, step: str, result: str) -> None:
        """A step that went well."""
        mark = "✓" if self._writes_symbols else "*"
        self._print(f"  {mark} ", "green", f"{step:<{_NAME_WIDTH}}  ", "", result, "dim")

    @contextmanager
    def waiting(self, step: str) -> Iterator[Callable[[str], None]]:
        """A step under way. What is yielded shows a message; a percentage in it moves the bar."""
        if not self._is_live:
            said = ""

            def write(message: str) -> None:
                nonlocal said
                if message != said:
                    self._print(f"    {step:<{_NAME_WIDTH}}  {message}")
                said = message

            yield write
            return
        columns = (
            TextColumn(" "),
            SpinnerColumn("dots" if self._writes_symbols else "line", style="cyan"),
            TextColumn(f"{step:<{_NAME_WIDTH}} "),
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

    def video(self, path: Path, facts: list[str]) -> None:
        """The end of the job: where the file is, and what is in it."""
        self._print()
        self._print(f"  {shown(str(path))}", f"bold link {path.as_uri()}")
        for fact in facts:
            self._print(f"  {fact}")

    def next_steps(self, command: str, request: str) -> None:
        """What to do with it."""
        self._print()
        self._print("Your own assistant can do it too. For Claude Code, paste:")
        self._print(f"  {command}", "cyan")
        self._print("Then say:")
        self._print(f"  {request}", "cyan")

    def _print(self, *parts: str) -> None:
        """Text, style, text, style, …; one line, however long, so that it can be copied whole."""
        line = Text()
        for text, style in zip(parts[::2], [*parts[1::2], ""], strict=False):
            line.append(text, style)
        self._console.print(line, soft_wrap=True)
