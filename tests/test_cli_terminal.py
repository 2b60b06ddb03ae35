"""At a terminal: a bar that moves, and questions that only a person may answer."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from a_place import SHORT, Place
from command_line import running
from refvideo_mcp.sandbox import Sandbox

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")


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


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Sandbox(seconds=3) as sandbox:
        yield Place(tmp_path, sandbox.url)


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that belongs to no work, with a picture in it."""
    return Place(tmp_path_factory.mktemp("elsewhere"), "").folder


def test_a_bar_shows_how_long_it_takes_and_the_path_comes_last(place: Place) -> None:
    with typing(place, "generate", "--prompt", "@hero waves", "--subject", "hero=hero.png", *SHORT) as typist:
        code, out = typist.waits_for_the_end()
    assert code == 0
    assert Path(out.removesuffix("\n")).is_file()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", typist.seen)
    assert re.search(r"video +━+.*processing, \d+ % 0:00:\d\d", text)
    assert re.search(r"video +succeeded after \d+ s", text)


def test_a_yes_for_a_folder_is_remembered(place: Place, elsewhere: Path) -> None:
    order = ["generate", "--prompt", "@hero", "--subject", f"hero={elsewhere}/hero.png", "--dry-run"]
    with typing(place, *order) as typist:
        typist.waits_for(f"Send pictures from {elsewhere} to 127.0.0.1")
        typist.types("y\n")
        code, out = typist.waits_for_the_end()
        assert (code, json.loads(out)["prompt"]) == (0, "@hero")
    with typing(place, *order) as typist:
        code, out = typist.waits_for_the_end()
        assert (code, json.loads(out)["prompt"]) == (0, "@hero")
    assert "Send pictures" not in typist.seen


def test_without_a_yes_nothing_is_sent_and_the_setting_is_named(place: Place, elsewhere: Path) -> None:
    order = ["generate", "--prompt", "@hero", "--subject", f"hero={elsewhere}/hero.png"]
    with typing(place, *order) as typist:
        typist.waits_for("[y/N]")
        typist.types("\n")
        assert typist.waits_for_the_end() == (2, "")
        assert "REFVIDEO_IMAGE_DIRS" in typist.seen
    found = place.run(*order, TMPDIR=str(place.folder))  # nobody to ask
    assert (found.returncode, found.stdout) == (2, "")
    assert f"Add {elsewhere} to REFVIDEO_IMAGE_DIRS, or copy the picture" in found.stderr
    assert "[y/N]" not in found.stderr
    assert place.submits() == 0


def test_a_folder_for_videos_has_its_own_question(place: Place, elsewhere: Path) -> None:
    order = ["generate", "--prompt", "@hero", "--subject", "hero=hero.png", "--dry-run", "--save-to"]
    with typing(place, *order, str(elsewhere)) as typist:
        typist.waits_for(f"Save videos in {elsewhere}?")
        typist.types("yes\n")
        code, _ = typist.waits_for_the_end()
        assert code == 0


def test_ctrl_c_at_a_question_sends_nothing(place: Place, elsewhere: Path) -> None:
    with typing(place, "generate", "--prompt", "@hero", "--subject", f"hero={elsewhere}/hero.png") as typist:
        typist.waits_for("[y/N]")
        typist.command.send_signal(signal.SIGINT)
        assert typist.waits_for_the_end() == (130, "")
        assert "nothing was sent" in typist.seen
    assert place.submits() == 0


def test_a_job_that_may_exist_is_sent_again_only_if_the_person_says_so(place: Place) -> None:
    order = ["generate", "--prompt", "@hero [rehearse:drop-after]", "--subject", "hero=hero.png", *SHORT]
    assert place.run(*order).returncode == 4
    assert place.run(*order).returncode == 2
    assert place.submits() == 1
    with typing(place, *order) as typist:
        typist.waits_for("perhaps pay twice? [y/N]")
        typist.types("y\n")
        assert typist.waits_for_the_end() == (4, "")
    assert place.submits() == 2
