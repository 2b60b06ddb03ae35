"""Jobs are found by words, state and time, on SQLite and on PostgreSQL alike."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refvideo_mcp.ledger import OPEN, Job, Ledger

pytest_plugins = ["ledger_places"]

NOW = 1_800_000_000.0


@pytest.fixture
def ledger(place: Path | str, opened: Callable[[Path | str], Ledger]) -> Ledger:
    return opened(place)


def kept(ledger: Ledger, at: float, prompt: str = "@1 waves", subject: str = "1", **changes: Any) -> str:
    """The id of a finished job."""
    request = {"prompt": prompt, "subjects": [{"id": subject, "images": []}]}
    job_id = changes.pop("id", f"{at:032.0f}")
    known = Job(job_id, "ann", state="succeeded", task_id=job_id, request=request, opened_at=at, changed_at=at)
    return ledger.import_job(replace(known, **changes)).id


def found(ledger: Ledger, *words: str, **options: Any) -> list[str]:
    jobs, total = ledger.search("ann", 50, words=words, **options)
    assert total == len(jobs)
    return [job.id for job in jobs]


def test_every_word_must_be_in_prompt_ids_or_file_name_however_it_is_written(ledger: Ledger) -> None:
    lantern = kept(ledger, 1, "@fox follows @lantern home", "lantern", saved_to="/films/night/evening walk.mp4")
    cafe = kept(
        ledger, 2, "@hero im CAF\N{LATIN CAPITAL LETTER E WITH ACUTE} an der Stra\N{LATIN SMALL LETTER SHARP S}e"
    )
    cat = kept(ledger, 3, "@\N{CJK UNIFIED IDEOGRAPH-732B} naps", "\N{CJK UNIFIED IDEOGRAPH-732B}")
    other = kept(ledger, 4, request=None, saved_to="/films/walk (2).mp4")
    assert found(ledger, "LANTERN") == [lantern]
    assert found(ledger, "lantern", "fox") == [lantern]
    assert found(ledger, "lantern", "dog") == []
    assert found(ledger, "Walk") == [other, lantern]
    assert found(ledger, "night") == [], "a folder is no name"
    assert found(ledger, "caf\N{LATIN SMALL LETTER E WITH ACUTE}") == [cafe]
    assert found(ledger, "cafe\N{COMBINING ACUTE ACCENT}") == [cafe]
    assert found(ledger, "STRASSE") == [cafe]
    assert found(ledger, "\N{CJK UNIFIED IDEOGRAPH-732B}") == [cat]


@pytest.mark.parametrize("word", ["%", "_", "\\", "prompt", "subjects", '"', "u00c9"])
def test_what_only_the_database_writes_is_not_found(ledger: Ledger, word: str) -> None:
    kept(ledger, 1, "@1 at the CAF\N{LATIN CAPITAL LETTER E WITH ACUTE}")
    assert found(ledger, word) == []


def test_marks_are_words_too(ledger: Ledger) -> None:
    half = kept(ledger, 1, '@1 grows by 50% and says "a_b \\ c"')
    kept(ledger, 2, "@1 grows by 500 and says aXb")
    for words in (["50%"], ["a_b"], ["\\"], ['"a_b']):
        assert found(ledger, *words) == [half]


def test_only_the_account_s_own_jobs_are_found(ledger: Ledger) -> None:
    kept(ledger, 1, account="bob")
    assert found(ledger) == found(ledger, "waves") == []


def test_the_total_counts_what_is_not_shown(ledger: Ledger) -> None:
    ids = [kept(ledger, at, state="failed" if at % 2 else "succeeded") for at in range(1, 8)]
    jobs, total = ledger.search("ann", 2)
    assert ([job.id for job in jobs], total) == ([ids[6], ids[5]], 7)
    jobs, total = ledger.search("ann", 2, states=["failed"])
    assert ([job.id for job in jobs], total) == ([ids[6], ids[4]], 4)
    jobs, total = ledger.search("ann", 2, states=["failed", "succeeded"], words=["waves"])
    assert ([job.id for job in jobs], total) == ([ids[6], ids[5]], 7)


def test_pages_follow_each_other_without_a_gap_though_jobs_begin_at_the_same_moment(ledger: Ledger) -> None:
    ids = [kept(ledger, NOW, id=f"{number:032}") for number in range(5)] + [kept(ledger, NOW - 1)]
    pages: list[list[str]] = []
    before = None
    while (page := ledger.search("ann", 2, before=before)[0]) or not pages:
        pages.append([job.id for job in page])
        before = page[-1].opened_at, page[-1].id
    assert pages == [ids[:2], ids[2:4], ids[4:]]
    assert ledger.search("ann", 2, before=before) == ([], 0)


def test_open_means_everything_unfinished_as_it_stands_now(ledger: Ledger) -> None:
    """A submission whose answer is overdue is in doubt, whoever has written that down."""
    kept(ledger, NOW - 500, state="submitting", submit_deadline=NOW - 380)
    sent = kept(ledger, NOW - 60, state="submitting", submit_deadline=NOW + 60)
    queued = kept(ledger, NOW - 50, state="queued")
    kept(ledger, NOW - 40)
    working = kept(ledger, NOW - 30, "@fox runs", state="processing")
    unfinished = sorted(OPEN)
    assert found(ledger, states=unfinished, now=NOW) == [working, queued, sent]
    assert found(ledger, "fox", states=unfinished, now=NOW) == [working]
