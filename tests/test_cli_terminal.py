"""At a terminal: a bar that moves, and questions that only a person may answer."""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from a_place import SHORT, Place
from command_line import running
from refvideo_mcp.sandbox import Sandbox
from typist import typing

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")


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


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_a_list_cuts_a_prompt_where_the_terminal_ends(place: Place, columns: int) -> None:
    place.generate(f"@hero {' '.join(f'word{number}' for number in range(40))} [rehearse:drop-after]")
    terminal, its_end = os.openpty()
    seen = b""
    with running("list", stdout=its_end, settings=place.settings | {"COLUMNS": str(columns)}, folder=place.folder):
        os.close(its_end)
        with suppress(OSError):
            while more := os.read(terminal, 1000):
                seen += more
    os.close(terminal)
    lines = re.sub(r"\x1b\[[0-9;?]*m", "", seen.decode()).split("\r\n")
    assert max(map(len, lines)) <= columns
    assert "uncertain" in lines[1]
    assert lines[1].endswith("…")


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


def test_after_a_no_nothing_is_sent_and_without_a_terminal_the_setting_is_named(place: Place, elsewhere: Path) -> None:
    order = ["generate", "--prompt", "@hero", "--subject", f"hero={elsewhere}/hero.png"]
    with typing(place, *order) as typist:
        typist.waits_for("[y/N]")
        typist.types("\n")
        assert typist.waits_for_the_end() == (2, "")
        assert "You said no: nothing was sent or bought." in typist.seen
        assert "REFVIDEO_IMAGE_DIRS" not in typist.seen
    found = place.run(*order, TMPDIR=str(place.folder))  # nobody to ask
    assert (found.returncode, found.stdout) == (2, "")
    assert f"Add {elsewhere} to REFVIDEO_IMAGE_DIRS, or put the picture into {place.folder}" in found.stderr
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
