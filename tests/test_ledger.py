"""What the ledger remembers, on SQLite and on PostgreSQL alike."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refvideo_mcp.errors import Refused
from refvideo_mcp.ledger import Day, Draft, Job, Ledger, Video

pytest_plugins = ["ledger_places"]

NOW = 1_800_000_000.0
DAY = 24 * 3600.0


@pytest.fixture
def ledger(place: Path | str, opened: Callable[[Path | str], Ledger]) -> Ledger:
    """Elsewhere its path, here itself."""
    return opened(place)


def draft(**changes: Any) -> Draft:
    request = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": [{"sha256": "ab" * 32, "bytes": 70}]}]}
    return replace(Draft("ann", request, fingerprint="f", pictures="p", seconds=5), **changes)


def open_job(ledger: Ledger, now: float = NOW, **changes: Any) -> Job:
    new = draft(**changes)
    return ledger.insert_or_join(new, lambda _: new, now, now + 120)


def ended(ledger: Ledger, now: float = NOW, **changes: Any) -> Job:
    job = ledger.update(open_job(ledger, now).id, lambda job: replace(job, **{"state": "succeeded"} | changes))
    assert job is not None
    return job


def complete(job: Job) -> Job:
    """The job with something in every field."""
    return replace(
        job,
        state="succeeded",
        task_id="task-1",
        redirected=True,
        last_frame="/cache/preview-1.png",
        sources={"ab" * 32: "/pictures/katze 🐈.png"},
        changed_at=NOW + 60.25,
        last_asked_at=NOW + 59.0,
        answered_at=NOW + 60.0,
        saving_until=NOW + 660.0,
        delivered=True,
        told=True,
        released=True,
        save_to="/videos",
        saved_to="/videos/katze 🐈.mp4",
        not_saved="the disk was full",
        progress_percent=100,
        eta_seconds=3,
        raw_status="TASK_STATUS_NAPPING",
        reason="none",
        seed=2**53,
        videos=(Video("https://cdn.example/1.mp4?sig=x", NOW + 3600.5, "mp4"), Video("https://x/2.gif", NOW, "gif")),
        warnings=("one subject has no picture", "@2 is not named"),
    )


def test_an_opened_job_is_remembered_before_anything_is_sent(ledger: Ledger) -> None:
    new = draft(key="nightly-render-0001", key_given=True, save_to="/videos", warnings=("a word of warning",))
    job = ledger.insert_or_join(new, lambda _: new, NOW, NOW + 120)
    assert job == Job(
        id=new.id,
        account="ann",
        key="nightly-render-0001",
        key_given=True,
        state="submitting",
        request=new.request,
        fingerprint="f",
        pictures="p",
        seconds=5,
        opened_at=NOW,
        submit_deadline=NOW + 120,
        changed_at=NOW,
        save_to="/videos",
        warnings=("a word of warning",),
    )
    assert ledger.get(job.id) == job


def test_a_row_comes_back_whole(ledger: Ledger) -> None:
    job = open_job(ledger)
    assert ledger.update(job.id, complete) == complete(job)
    assert ledger.get(job.id) == complete(job)


def test_words_of_every_script_and_control_characters_survive(ledger: Ledger) -> None:
    request = {"prompt": "窓の猫 🐈 \u0000 \ud800 '; DROP TABLE refvideo_jobs; --", "seed": 2**53}
    job = open_job(ledger, request=request)
    found = ledger.get(job.id)
    assert found is not None
    assert found.request == request


def test_deciding_sees_the_jobs_of_the_account_and_day_newest_first(ledger: Ledger) -> None:
    ended(ledger, NOW - DAY)
    open_job(ledger, NOW - 1, account="bob")
    older = open_job(ledger, NOW - DAY + 1)
    newer = open_job(ledger, NOW - 60)
    seen: list[Job] = []

    def decide(day: Day) -> Draft:
        seen.extend(day.jobs)
        return draft()

    ledger.insert_or_join(draft(), decide, NOW, NOW + 120)
    assert [job.id for job in seen] == [newer.id, older.id]


def test_deciding_sees_of_older_jobs_those_in_doubt_and_those_asked_for(ledger: Ledger) -> None:
    """A machine that slept for days was shown no doubt before."""
    doubtful = ended(ledger, NOW - 2 * DAY, state="uncertain", changed_at=NOW - 599)
    ended(ledger, NOW - 2 * DAY + 1, state="uncertain", changed_at=NOW - 600)
    asked_for = ended(ledger, NOW - DAY)
    other = ended(ledger, NOW - DAY - 1)
    unanswered = open_job(ledger, NOW - 3 * DAY)
    days: list[Day] = []

    def look(day: Day) -> Draft:
        days.append(day)
        assert [*day.spent()] == [(NOW - 3 * DAY, 5), (NOW - 2 * DAY, 5), (NOW - DAY, 5)]
        assert day.includes([asked_for.id, other.id]) == {asked_for.id}
        return draft()

    ledger.consider(draft(), look, NOW, [asked_for.id])
    ledger.insert_or_join(draft(), look, NOW, NOW + 120, also=[asked_for.id])
    assert [([job.id for job in day.jobs], day.seconds) for day in days] == [
        ([asked_for.id, doubtful.id, unanswered.id], 15)
    ] * 2


def test_deciding_sees_jobs_as_they_stand_now(ledger: Ledger) -> None:
    """A process that was killed during its POST never wrote how it ended."""
    open_job(ledger, NOW - 121)
    states: list[str] = []

    def decide(day: Day) -> Draft:
        states.extend(job.state for job in day.jobs)
        return draft()

    ledger.insert_or_join(draft(), decide, NOW, NOW + 120)
    assert states == ["uncertain"]


def test_deciding_sees_what_the_day_used_up_by_jobs_that_do_not_matter_else(ledger: Ledger) -> None:
    """They may be tens of thousands."""
    yesterday = ended(ledger, NOW - DAY, delivered=True)
    first = ended(ledger, NOW - 60, delivered=True)
    ended(ledger, NOW - 50, state="rejected", delivered=True)
    second = ended(ledger, NOW - 40, delivered=True)
    days: list[tuple[object, ...]] = []

    def look(day: Day) -> Draft:
        days.append((day.jobs, day.seconds, [*day.spent()], day.includes([yesterday.id, first.id, second.id, "other"])))
        return draft()

    ledger.consider(draft(), look, NOW)
    ledger.insert_or_join(draft(), look, NOW, NOW + 120)
    assert days == [([], 10, [(NOW - 60, 5), (NOW - 40, 5)], {first.id, second.id})] * 2
    assert len(ledger.newest("ann", 10)) == 5  # what was only considered is not remembered


def test_a_joined_job_is_returned_and_nothing_is_added(ledger: Ledger) -> None:
    first = open_job(ledger)
    assert ledger.insert_or_join(draft(), lambda day: day.jobs[0], NOW + 1, NOW + 121) == first
    assert ledger.newest("ann", 10) == [first]


def test_a_refusal_while_deciding_leaves_no_trace(ledger: Ledger) -> None:
    def refuse(_: object) -> Draft:
        raise Refused("The allowance is used up.")

    with pytest.raises(Refused, match="allowance"):
        ledger.insert_or_join(draft(), refuse, NOW, NOW + 120)
    assert ledger.newest("ann", 10) == []


def test_what_deciding_added_to_the_draft_is_remembered(ledger: Ledger) -> None:
    new = draft()
    job = ledger.insert_or_join(new, lambda _: replace(new, warnings=("same pictures",)), NOW, NOW + 120)
    assert job.warnings == ("same pictures",)


def test_a_job_is_found_by_its_task_id_or_its_key_within_its_account(ledger: Ledger) -> None:
    job = ended(ledger, task_id="task-1")
    assert ledger.find("ann", "task-1") == job
    assert ledger.find("ann", job.key) == job
    assert ledger.find("bob", "task-1") is None
    assert ledger.find("ann", "") is None


def test_a_task_id_is_looked_for_before_a_key(ledger: Ledger) -> None:
    job = ended(ledger, task_id="a-name-of-two-jobs")
    open_job(ledger, NOW + 1, key="a-name-of-two-jobs")
    assert ledger.find("ann", "a-name-of-two-jobs") == job


@pytest.mark.parametrize("given_up", [{"state": "rejected"}, {"state": "uncertain", "released": True}])
def test_a_key_given_up_names_the_next_job_and_the_row_stays(ledger: Ledger, given_up: dict[str, Any]) -> None:
    first = open_job(ledger, key="nightly-render-0001")
    ledger.update(first.id, lambda job: replace(job, **given_up))
    second = open_job(ledger, NOW + 5, key="nightly-render-0001")
    assert ledger.find("ann", "nightly-render-0001") == second
    assert [job.id for job in ledger.newest("ann", 10)] == [second.id, first.id]


def test_a_key_is_free_again_after_a_day(ledger: Ledger) -> None:
    ended(ledger, key="nightly-render-0001")
    seen: list[Job] = []

    def decide(day: Day) -> Draft:
        seen.extend(day.jobs)
        return new

    new = draft(key="nightly-render-0001")
    assert ledger.insert_or_join(new, decide, NOW + DAY, NOW + DAY + 120).id == new.id
    assert seen == []


def test_two_accounts_may_use_the_same_key(ledger: Ledger) -> None:
    anns = open_job(ledger, key="nightly-render-0001")
    bobs = open_job(ledger, key="nightly-render-0001", account="bob")
    assert ledger.find("ann", "nightly-render-0001") == anns
    assert ledger.find("bob", "nightly-render-0001") == bobs
    assert ledger.by_key_or_id("nightly-render-0001") == sorted([anns, bobs], key=lambda job: job.id)
    assert ledger.by_key_or_id(anns.id) == [anns]


def test_a_released_job_stays_as_it_was_but_released(ledger: Ledger) -> None:
    job = ended(ledger, state="uncertain")
    ledger.release(job.id)
    assert ledger.get(job.id) == replace(job, released=True)


def test_a_task_from_elsewhere_is_adopted_once(ledger: Ledger) -> None:
    first = Job(uuid.uuid4().hex, "ann", state="processing", task_id="task-9", opened_at=NOW, changed_at=NOW)
    assert ledger.import_job(first) == first
    assert ledger.import_job(replace(first, id=uuid.uuid4().hex)) == first
    assert ledger.get(first.id) == first
    assert ledger.newest("ann", 10) == [first]


def test_a_task_of_another_account_is_foreign(ledger: Ledger) -> None:
    ended(ledger, task_id="task-1")
    assert ledger.belongs_to_other("bob", "task-1")
    assert not ledger.belongs_to_other("ann", "task-1")
    assert not ledger.belongs_to_other("bob", "task-2")


def test_an_update_of_a_forgotten_job_changes_nothing(ledger: Ledger) -> None:
    assert ledger.update("no such id", complete) is None
    assert ledger.get("no such id") is None


def test_the_newest_come_first_and_may_be_chosen_by_state(ledger: Ledger) -> None:
    oldest = ended(ledger, NOW)
    middle = ended(ledger, NOW + 1, state="failed")
    newest = open_job(ledger, NOW + 2)
    open_job(ledger, NOW + 3, account="bob")
    assert ledger.newest("ann", 10) == [newest, middle, oldest]
    assert ledger.newest("ann", 2) == [newest, middle]
    assert ledger.newest("ann", 10, ["succeeded", "failed"]) == [middle, oldest]


def test_a_submission_never_answered_is_listed_as_uncertain_after_its_deadline(ledger: Ledger) -> None:
    job = open_job(ledger)
    assert ledger.newest("ann", 10, ["submitting"], NOW + 120) == [job]
    assert ledger.newest("ann", 10, ["uncertain"], NOW + 120) == []
    assert ledger.newest("ann", 10, ["submitting"], NOW + 121) == []
    assert ledger.newest("ann", 10, ["uncertain"], NOW + 121) == [job]


def test_unfinished_are_the_open_and_the_finished_that_nobody_saved(ledger: Ledger) -> None:
    unsaved = ended(ledger, NOW + 1)
    ended(ledger, NOW + 2, saved_to="/videos/1.mp4")
    not_saved = ended(ledger, NOW + 3, not_saved="the disk was full")
    ended(ledger, NOW + 4, state="failed")
    ended(ledger, NOW + 5, state="uncertain")
    queued = ended(ledger, NOW + 6, state="queued")
    submitting = open_job(ledger, NOW + 7)
    open_job(ledger, NOW + 8, account="bob")
    open_job(ledger, NOW)
    assert ledger.unfinished("ann", since=NOW) == [submitting, queued, not_saved, unsaved]


def test_a_claim_is_won_once_until_it_is_free_again(ledger: Ledger) -> None:
    job = open_job(ledger)
    assert ledger.try_lease(job.id, "last_asked_at", NOW - 2, NOW)
    assert not ledger.try_lease(job.id, "last_asked_at", NOW - 1, NOW + 1)
    assert ledger.try_lease(job.id, "last_asked_at", NOW, NOW + 2)
    found = ledger.get(job.id)
    assert found == replace(job, last_asked_at=NOW + 2)


def test_a_job_without_a_row_is_for_whoever_asks(ledger: Ledger) -> None:
    assert ledger.try_lease("forgotten", "last_asked_at", NOW - 2, NOW)


def test_a_claim_made_by_a_clock_since_set_back_does_not_bind(ledger: Ledger) -> None:
    """Otherwise nobody would ask for an hour after the clock of a notebook was set right by an hour."""
    job = open_job(ledger)
    assert ledger.try_lease(job.id, "saving_until", NOW + 3600, NOW + 4200)
    assert ledger.try_lease(job.id, "saving_until", NOW, NOW + 600)
    assert not ledger.try_lease(job.id, "saving_until", NOW - 5, NOW + 595)


def test_a_finished_video_is_told_once(ledger: Ledger) -> None:
    first, second, watched = ended(ledger, NOW), ended(ledger, NOW + 1), ended(ledger, NOW + 2)
    ended(ledger, told=True)
    ended(ledger, state="failed")
    assert ledger.pop_unreported("ann", {watched.id}) == [second, first]
    assert ledger.pop_unreported("ann", set()) == [watched]
    assert ledger.pop_unreported("ann", set()) == []


def test_forgetting_removes_the_ended_and_says_how_many(ledger: Ledger) -> None:
    """A submission that was never answered has ended too, though nobody wrote so."""
    for state in ("succeeded", "failed", "rejected", "uncertain"):
        ended(ledger, NOW - DAY, state=state)
    open_job(ledger, NOW - DAY)
    still_open = ended(ledger, NOW - DAY, state="processing")
    being_sent = open_job(ledger, NOW - 60)
    recent = ended(ledger, NOW)
    assert ledger.delete_ended(before=NOW) == 5
    assert ledger.delete_ended(before=NOW) == 0
    assert ledger.newest("ann", 10) == [recent, being_sent, still_open]
