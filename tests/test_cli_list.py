"""`refvideo-mcp list`: a table that people like, as wide as their terminal, and one document for scripts."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from a_place import Place
from command_line import running
from refvideo_mcp.sandbox import Sandbox

LANTERN = "@hero follows the lantern home through a snowy forest at dusk, slow dolly in, hand-drawn"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Jobs of every kind; the tests only read."""
    folder = tmp_path_factory.mktemp("place")
    with Sandbox(seconds=0.3, folder=tmp_path_factory.mktemp("clips")) as sandbox:
        place = Place(folder, sandbox.url)
        for prompt, *options in (
            (LANTERN, "--seed", "7"),
            ("@hero naps",),
            ("@hero swears [rehearse:task-failed:ILLEGAL_PROMPT]",),
            ("@hero is refused [rehearse:NOT_ENOUGH_BALANCE]",),
            ("@hero may exist [rehearse:drop-after]",),
            ("@hero waits [rehearse:never-ends]", "--no-wait"),
        ):
            place.generate(prompt, *options)
        yield place


def on_a_terminal(place: Place, columns: int, *options: str) -> list[str]:
    """The lines that a person sees."""
    terminal, its_end = os.openpty()
    seen = b""
    settings = place.settings | {"COLUMNS": str(columns), "TERM": "xterm"}
    with running("list", *options, stdout=its_end, settings=settings, folder=place.folder):
        os.close(its_end)
        with suppress(OSError):
            while more := os.read(terminal, 1000):
                seen += more
    os.close(terminal)
    return re.sub(r"\x1b\[[0-9;?]*m", "", seen.decode()).split("\r\n")[:-1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_table_fits_the_terminal_and_says_what_to_do(place: Place, columns: int) -> None:
    lines = on_a_terminal(place, columns)
    assert max(map(len, lines)) <= columns
    assert lines[0].split()[:5] == ["id", "state", "age", "length", "prompt"]
    rows = [line for line in lines[1:] if not line.startswith(" ")]
    states = [row.split()[1] for row in rows[:6]]
    assert states == ["queued", "uncertain", "rejected", "failed", "succeeded", "succeeded"]
    assert ("lantern-home 1s" in rows[5]) is (columns == 120)
    assert (".mp4" in rows[5]) is (columns >= 80)
    below = " ".join(line.strip() for line in lines if line.startswith("    "))
    for step in ("see refvideo-mcp release job-", "Mend it, then make it again.", "reword it, then try again."):
        assert step in below
    assert "Allowance: 295 of 300 s of video left" in " ".join(lines)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
def test_a_short_id_of_the_table_finds_the_job(place: Place) -> None:
    (_, row, *_) = on_a_terminal(place, 80, "naps")
    found = place.run("result", row.split()[0])
    assert found.returncode == 0, found.stderr
    assert "hero-naps" in found.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
def test_older_jobs_are_a_command_away(place: Place) -> None:
    lines = " ".join(on_a_terminal(place, 100, "--limit", "2"))
    (before,) = re.findall(r"2 of 6 jobs\. Older ones: refvideo-mcp list --before (\S+)", lines)
    older = json.loads(place.run("list", "--before", before, "--json").stdout)
    assert [job["state"] for job in older["jobs"]] == ["rejected", "failed", "succeeded", "succeeded"]


def test_words_open_and_failed_choose(place: Place) -> None:
    def states(*options: str) -> list[str]:
        return [job["state"] for job in json.loads(place.run("list", *options, "--json").stdout)["jobs"]]

    assert states("--open") == ["queued"]
    assert states("--failed") == ["failed"]
    assert states("hero", "naps") == ["succeeded"]
    assert states("--query", "hero", "Lantern") == ["succeeded"]
    assert states("owl") == []
    none = "No job has all of these words in its prompt, ids or file name.\n"
    assert place.run("list", "owl").stdout == none
    assert place.run("list", "--state", "submitting").stdout == "No job is submitting.\n"


def test_a_single_job_comes_with_all_that_it_was_made_of(place: Place) -> None:
    whole = json.loads(place.run("list", "lantern", "--json").stdout)
    assert whole["recipe"] == {
        "prompt": LANTERN,
        "subjects": [{"id": "hero", "images": [str(place.picture)]}],
        "duration": 1,
        "resolution": "540p",
        "seed": 7,
    }
    shown = place.run("list", "--task-id", whole["jobs"][0]["task_id"]).stdout
    for told in (LANTERN, "duration 1, resolution 540p, seed 7; it took 1 s of the allowance", str(place.picture)):
        assert told in shown
    assert whole["jobs"][0]["saved_to"] in shown


def test_a_program_gets_every_cell_whole(place: Place) -> None:
    rows = place.run("list").stdout.splitlines()
    (row,) = [row for row in rows if LANTERN in row]
    assert re.match(r"[0-9a-f-]{36}  succeeded  ", row)
    assert row.endswith(".mp4")
