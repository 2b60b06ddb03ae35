"""`refvideo-mcp release` and `refvideo-mcp forget`: what the user alone may do to the ledger."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from a_place import Place
from command_line import COMMAND, call, environment
from refvideo_mcp.ledger import Draft, Job, Ledger
from refvideo_mcp.sandbox import Sandbox
from refvideo_mcp.schemas import JobState

DAY = 24 * 3600.0
QUESTION = "Type yes to release it: "

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        yield ledger


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    return {"REFVIDEO_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}"}


def job(ledger: Ledger, days_ago: float = 0.1, state: JobState = "submitting") -> Job:
    """A job in the ledger; one still `submitting` has been uncertain for long."""
    draft = Draft("local@router.example", {"prompt": "@1 waves"}, "fingerprint", "pictures", 5)
    opened_at = time.time() - days_ago * DAY
    opened = ledger.insert_or_join(draft, lambda known: draft, opened_at, opened_at + 120)
    changed = ledger.update(opened.id, lambda job: replace(job, state=state))
    assert changed
    return changed


def released(ledger: Ledger, job: Job) -> bool:
    known = ledger.get(job.id)
    assert known
    return known.released


def at_a_terminal(keys: str, *arguments: str, **settings: str) -> tuple[int, str]:
    """The exit code, and what is seen on the terminal, of a command whose question is answered with these keys."""
    terminal, its_end = os.openpty()

    def enter() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it
        os.login_tty(its_end)

    with subprocess.Popen([*COMMAND, *arguments], env=environment(**settings), preexec_fn=enter) as command:
        os.close(its_end)
        seen = b""
        try:
            while not seen.endswith(QUESTION.encode()):
                seen += os.read(terminal, 4096)
            os.write(terminal, keys.encode())
            while True:
                # Python misses a Ctrl-C between its question and its reading of the answer: press it again.
                while not select.select([terminal], [], [], 2)[0]:
                    os.write(terminal, keys.encode())
                if not (more := os.read(terminal, 4096)):
                    break
                seen += more
        except OSError:  # it has ended, and its terminal with it
            pass
        finally:
            os.close(terminal)
        return command.wait(timeout=60), seen.decode().replace("\r\n", "\n")


@posix_only
def test_the_user_s_yes_releases_an_uncertain_job(ledger: Ledger, settings: dict[str, str]) -> None:
    lost = job(ledger)
    code, seen = at_a_terminal("yes\n", "release", lost.key, **settings)
    assert code == 0
    assert "to router.example, 5 s of video:" in seen
    assert '"@1 waves"' in seen
    assert "the same request may be paid for twice" in seen
    assert seen.endswith("Released. The same request is sent when it is made again.\n")
    assert released(ledger, lost)


@posix_only
def test_a_released_job_is_called_so_wherever_it_is_shown(tmp_path: Path) -> None:
    with Sandbox(seconds=0.5) as sandbox:
        place = Place(tmp_path, sandbox.url)
        lost = json.loads(place.generate("@hero waves [rehearse:drop-after]", "--json").stdout)
        key = lost["idempotency_key"]
        code, _ = at_a_terminal("yes\n", "release", key, **place.settings)
        assert code == 0
        shown = [place.run("list"), place.run("result", key)]
        documents = [place.newest(), json.loads(place.run("result", key, "--json").stdout)]
    words = "Released: the same request may be made again as a new job."
    assert words in shown[0].stdout
    assert words in shown[1].stderr
    assert [document["state"] for document in documents] == ["uncertain", "uncertain"]
    assert all(document["reason"].startswith(words) for document in documents)
    assert documents[1]["next_step"] == words
    told = [found.stdout + found.stderr for found in shown] + [str(document) for document in documents]
    assert not [text for text in told if "again" in text.replace(words, "")]


@posix_only
@pytest.mark.parametrize("keys", ["no\n", "\n", "y\n", "\x04", "\x03"], ids=["no", "nothing", "y", "Ctrl-D", "Ctrl-C"])
def test_any_other_answer_leaves_it_as_it_is(ledger: Ledger, settings: dict[str, str], keys: str) -> None:
    lost = job(ledger)
    code, seen = at_a_terminal(keys, "release", lost.key, **settings)
    assert code == 0
    assert seen.endswith("\nLeft as it is.\n")
    assert "Traceback" not in seen
    assert not released(ledger, lost)


def test_without_a_terminal_nobody_can_release_a_job(ledger: Ledger, settings: dict[str, str]) -> None:
    """An agent that runs commands must not."""
    lost = job(ledger)
    found = call("release", lost.key, **settings)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == (
        "refvideo-mcp: Only a person at a terminal can release a job. Run this command in a terminal.\n"
    )
    assert not released(ledger, lost)


@pytest.mark.parametrize("state", ["queued", "succeeded", "rejected"])
def test_only_an_uncertain_job_can_be_released(ledger: Ledger, settings: dict[str, str], state: JobState) -> None:
    other = job(ledger, state=state)
    found = call("release", other.key, **settings)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == f"refvideo-mcp: No uncertain job is called {other.key}: there is nothing to release.\n"


def test_old_jobs_that_have_ended_are_forgotten(ledger: Ledger, settings: dict[str, str]) -> None:
    old = [job(ledger, 8, state) for state in ("succeeded", "failed", "rejected", "uncertain", "submitting")]
    under_way = [job(ledger, 8, state) for state in ("queued", "processing")]
    newer = [job(ledger, days, "succeeded") for days in (6.9, 0.5)]
    found = call("forget", "--older-than", "7", **settings)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == f"Forgot {len(old)} jobs. Saved videos stay where they are.\n"
    kept = {job.id for job in ledger.newest("local@router.example", 100)}
    assert kept == {job.id for job in under_way + newer}


def test_the_last_day_is_never_forgotten_because_it_counts_in_the_allowance(
    ledger: Ledger, settings: dict[str, str]
) -> None:
    yesterday, today = job(ledger, 1.1, "succeeded"), job(ledger, 0.9, "succeeded")
    found = call("forget", "--older-than", "0.5", **settings)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == ("refvideo-mcp: --older-than must be at least 1: the last day counts for the allowance.\n")
    assert call("forget", "--older-than", "1", **settings).stdout == (
        "Forgot 1 job. Saved videos stay where they are.\n"
    )
    assert (ledger.get(yesterday.id), ledger.get(today.id)) == (None, today)
