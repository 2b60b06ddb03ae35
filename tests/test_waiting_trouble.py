"""What breaks while jobs are followed: the router, the ledger, the disk, the clock. No job and no word gets lost."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import anyio
import httpx2
import pytest
from mcp import Client
from mcp_types import CallToolResult

from fake_router import UNREACHABLE, FakeRouter, Reply, files, jobs, process, refused, result, said, submit, told
from marker import KEY
from refvideo_mcp.app import build_server, running
from refvideo_mcp.jobs import Clock, PendingPosts, collector, services, waiting_calls
from refvideo_mcp.ledger import Ledger, store
from refvideo_mcp.settings import Settings
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

ORDER_KEY = "order-2026-11-23-0007"
NO_BALANCE = refused(403, "NOT_ENOUGH_BALANCE")


def rows(ledger: Path) -> list[tuple[str, str | None]]:
    with closing(sqlite3.connect(ledger)) as database:
        return database.execute("SELECT state, task_id FROM refvideo_jobs ORDER BY opened_at").fetchall()


@contextmanager
def unwritable(ledger: Path) -> Iterator[None]:
    """The ledger can be read only."""
    with closing(sqlite3.connect(ledger)) as database:
        for what in ("INSERT", "UPDATE"):
            refuse = "BEGIN SELECT RAISE(FAIL, 'no'); END"
            database.execute(f"CREATE TRIGGER no_{what} BEFORE {what} ON refvideo_jobs {refuse}")
        yield
        for what in ("INSERT", "UPDATE"):
            database.execute(f"DROP TRIGGER no_{what}")


@contextmanager
def out_of_order(ledger: Path) -> Iterator[None]:
    """The ledger can be neither read nor written."""

    def rename(old: str, new: str) -> None:
        with closing(sqlite3.connect(ledger)) as database:
            database.execute(f"ALTER TABLE {old} RENAME TO {new}")

    rename("refvideo_jobs", "gone")
    yield
    rename("gone", "refvideo_jobs")


# The router


async def test_a_video_is_saved_though_a_look_was_refused(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    """Some gateways report a rate limit as an empty balance."""
    router.takes = 30
    router.results = [NO_BALANCE]
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await clock.sleep(60)

    assert len(await files(videos)) == 1


async def test_refusals_that_last_are_asked_about_slowly_and_each_wait_is_told_at_once(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.result = refused(401, "FAILED_TO_AUTH")
    async with process(router, ledger) as client:
        await submit(client)
        await clock.sleep(3600)
        looks = router.polled("task-1")
        answer = await result(client)

    assert answer.is_error
    assert said(answer).startswith("api.myrouter.ai answered 401 FAILED_TO_AUTH")
    assert clock.steady() <= 3602
    assert 3590 / 11 - 1 < len(looks) < 3600 / 9 + 2


@pytest.mark.parametrize("trouble", [UNREACHABLE, refused(404, "TASK_NOT_FOUND"), Reply(503, "oops")])
async def test_a_dead_link_is_not_handed_out_where_there_is_no_fresh_one(
    clock: VirtualClock, router: FakeRouter, ledger: Path, trouble: Reply
) -> None:
    router.takes = 10
    async with process(router, ledger) as client:
        await submit(client)
        await result(client)
        await clock.sleep(7200 - clock.steady())
        router.result = trouble
        dead = await result(client)
        router.result = Reply()
        fresh = await result(client)

    assert dead.is_error
    known = "Job task-1 succeeded, but its link died at 2027-01-15 09:00 UTC; there is no fresh one yet."
    assert known in said(dead)
    assert "https://cdn.example" not in said(dead)
    assert not fresh.is_error
    assert told(fresh)["videos"][0]["expires_at"] > "2027-01-15T10:59"


async def test_a_dead_link_is_refused_at_once_where_the_router_refuses_to_tell(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 10
    async with process(router, ledger) as client:
        await submit(client)
        await result(client)
        await clock.sleep(7200)
        router.result = refused(403, "INVALID_API_KEY")
        asked_at = clock.steady()
        answer = await result(client)
        assert clock.steady() == asked_at

    assert answer.is_error
    assert said(answer).startswith("api.myrouter.ai answered 403 INVALID_API_KEY")


async def test_a_fresh_link_is_asked_for_until_the_wait_ends(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 10
    async with process(router, ledger) as client:
        await submit(client)
        await result(client)
        await clock.sleep(7200)
        router.results = [Reply(503, "oops"), UNREACHABLE]
        answer = await result(client)
        polls = len(router.polls)
        router.result = UNREACHABLE
        await clock.sleep(7200)
        await result(client)
        asked = len(router.polls)
        await clock.sleep(600)

    assert told(answer)["videos"][0]["expires_at"] > "2027-01-15T10:59"
    assert asked > polls + 3
    assert len(router.polls) <= asked + 1, "nobody wants it any more"


async def test_a_wait_that_ends_before_the_first_look_is_no_error(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger) as client:
        await submit(client)
        answer = await result(client, wait_seconds=1)

    assert router.polls == []
    assert not answer.is_error
    assert told(answer)["state"] == "queued"


async def test_a_submission_answered_at_the_end_of_a_wait_is_no_error(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=89)]
    async with process(router, ledger) as client, process(router, ledger) as other:
        key = told(await submit(client))["idempotency_key"]
        answers: list[CallToolResult] = []

        async def wait(client: Client) -> None:
            answers.append(await result(client, key))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, client)
            tasks.start_soon(wait, other)

    assert clock.steady() == 90
    assert [told(answer)["task_id"] for answer in answers] == ["task-1"] * 2
    assert [answer.is_error for answer in answers] == [False] * 2


async def test_every_window_is_told_that_the_router_cannot_be_reached(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """The one that asks is not the only one that waits."""
    answers: list[CallToolResult] = []

    async def wait(client: Client) -> None:
        answers.append(await result(client))

    async with process(router, ledger) as one, process(router, ledger) as other:
        await submit(one)
        await result(one, wait_seconds=5)
        router.result = UNREACHABLE
        await clock.sleep(10)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, one)
            tasks.start_soon(wait, other)

    assert [answer.is_error for answer in answers] == [True, True]
    assert all("Last known state of job task-1: processing" in said(answer) for answer in answers)


async def test_a_window_that_did_not_ask_by_itself_says_that_another_one_asked_in_vain(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.result = UNREACHABLE
    async with process(router, ledger) as client, process(router, ledger) as another:
        await submit(client)
        await clock.sleep(2.25)
        answer = await result(another, "task-1", wait_seconds=1)

    assert router.polled("task-1") == [2]
    assert answer.is_error
    assert said(answer) == (
        "api.myrouter.ai has not answered. Last known state of job task-1: queued, for 3 s. "
        "The job is not affected: ask again."
    )


async def test_a_wait_that_ends_before_the_router_has_ever_answered_for_a_task_says_that_no_state_is_known(
    router: FakeRouter, ledger: Path
) -> None:
    router.result, router.accepted["other"] = Reply(after=20), 0
    async with process(router, ledger) as client:
        answer = await result(client, "other", wait_seconds=5)

    assert answer.is_error
    assert said(answer) == (
        "api.myrouter.ai has not answered. Last known state of job other: none. The job is not affected: ask again."
    )


async def test_the_router_gets_20_questions_at_once_and_the_others_have_their_turn(
    clock: VirtualClock, ledger: Path
) -> None:
    begun: list[float] = []

    class Counting(FakeRouter):
        async def _look(self, request: httpx2.Request) -> httpx2.Response:
            begun.append(clock.steady())
            return await super()._look(request)

    router = Counting(clock, result=Reply(after=3))
    tasks_of_others = [f"other-{number}" for number in range(25)]
    router.accepted = dict.fromkeys(tasks_of_others, 0)
    answers: list[CallToolResult] = []

    async def ask(client: Client, task_id: str) -> None:
        answers.append(await result(client, task_id, wait_seconds=0))

    async with process(router, ledger) as client, anyio.create_task_group() as tasks:
        for task_id in tasks_of_others:
            tasks.start_soon(ask, client, task_id)

    assert [begun.count(0), begun.count(3)] == [20, 5]
    assert [told(answer)["state"] for answer in answers] == ["processing"] * 25


async def test_a_wait_is_answered_within_seconds_when_the_process_is_about_to_end(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    pending_posts = PendingPosts()
    server = build_server(
        Settings(api_key=KEY, database=ledger), transport=router.transport, clock=clock, pending_posts=pending_posts
    )
    async with Client(server) as client, anyio.create_task_group() as tasks:
        await submit(client)

        async def end() -> None:
            await clock.sleep(10)
            pending_posts.ending = True

        tasks.start_soon(end)
        answer = await result(client)

    assert 10 <= clock.steady() <= 15
    assert told(answer)["state"] == "processing"


# The ledger


async def test_a_task_of_another_program_is_asked_for_and_adopted_when_the_ledger_is_back(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.takes = 30
    router.accepted["other"] = 0
    async with process(router, ledger, output_dir=videos) as client:
        await client.call_tool("list_reference_videos", {})
        with out_of_order(ledger):
            unlisted = await result(client, "other", wait_seconds=5)
        answer = await result(client, "other")

    assert told(unlisted)["state"] == "processing"
    assert told(answer)["state"] == "succeeded"
    assert len(await files(videos)) == 1
    assert rows(ledger) == [("succeeded", "other")]


async def test_a_window_that_cannot_reach_the_router_hears_of_it_from_another(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 3600
    async with process(router, ledger) as window, process(FakeRouter(clock, result=UNREACHABLE), ledger) as cut_off:
        await submit(window)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(result, window)
            answer = await result(cut_off)

    assert not answer.is_error
    assert told(answer)["state"] == "processing"


async def test_a_wait_that_ends_before_its_next_look_hears_what_another_window_was_answered_meanwhile(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.result = Reply(after=0.9)
    async with process(router, ledger) as client, process(router, ledger) as another:
        await submit(client)
        await clock.sleep(2.5)  # the first look is on its way since 2.0
        answer = await result(another, "task-1", wait_seconds=1)

    assert not answer.is_error
    assert told(answer)["state"] == "processing"


async def test_a_video_of_another_program_is_saved_once_though_the_ledger_is_gone(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.takes = 10
    router.accepted["other"] = 0
    async with process(router, ledger, output_dir=videos) as client:
        await client.call_tool("list_reference_videos", {})
        with out_of_order(ledger):
            answer = await result(client, "other")

    (name,) = await files(videos)
    assert told(answer)["videos"][0]["saved_to"] == str(videos / name)
    assert clock.steady() < 45


async def test_a_job_whose_row_was_forgotten_is_followed_to_its_end(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.takes = 30
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        with closing(sqlite3.connect(ledger)) as database, database:
            database.execute("DELETE FROM refvideo_jobs")
        await clock.sleep(60)

    assert len(await files(videos)) == 1


async def test_a_task_id_that_the_ledger_missed_is_written_though_the_router_refuses_every_look(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=20)]
    router.result = NO_BALANCE
    async with process(router, ledger) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(submit, client)
        await clock.sleep(10)
        with out_of_order(ledger):
            await clock.sleep(30)
        await clock.sleep(20)
        assert rows(ledger) == [("queued", "task-1")]
        router.result = Reply()
        answer = await result(client)

    assert told(answer)["task_id"] == "task-1"
    assert rows(ledger) == [(told(answer)["state"], "task-1")]


async def test_a_refusal_that_the_ledger_missed_is_not_forgotten(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [refused(400, "ILLEGAL_PROMPT", after=20)]
    async with process(router, ledger) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(submit, client, idempotency_key=ORDER_KEY))
        await clock.sleep(10)
        with unwritable(ledger):  # what can be read is older
            await clock.sleep(30)
            answer = await result(client, ORDER_KEY)

    assert answer.is_error
    assert "ILLEGAL_PROMPT" in said(answer)
    assert clock.steady() < 45


async def test_a_refusal_that_the_ledger_missed_is_not_forgotten_for_newer_jobs(
    clock: VirtualClock, router: FakeRouter, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "REMEMBERED", 0)  # or it would take a thousand of them
    router.submissions = [refused(400, "ILLEGAL_PROMPT", after=20)]
    router.accepted["newer"] = 0
    async with process(router, ledger) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(submit, client, idempotency_key=ORDER_KEY))
        await clock.sleep(10)
        with unwritable(ledger):
            await clock.sleep(20)
            await result(client, "newer", wait_seconds=0)
            answer = await result(client, ORDER_KEY, wait_seconds=5)

    assert answer.is_error
    assert "ILLEGAL_PROMPT" in said(answer)


async def test_an_end_that_the_ledger_missed_is_written_though_nobody_asks(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """The next process has only the ledger."""
    router.submissions = [refused(400, "ILLEGAL_PROMPT", after=20)]
    async with process(router, ledger) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(submit, client)
        await clock.sleep(10)
        with out_of_order(ledger):
            await clock.sleep(60)
        await clock.sleep(20)
        assert rows(ledger) == [("rejected", None)]


async def test_what_the_ledger_missed_while_another_change_waited_for_it_is_written_with_that(
    router: FakeRouter, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BUSY_SECONDS", 2.0)  # real seconds: the ledger is outside of our clock
    router.clock, router.submissions = Clock(), [Reply(after=0.5)]
    async with process(router, ledger) as client, anyio.create_task_group() as tasks:

        async def until(is_so: Callable[[], bool]) -> None:
            with anyio.move_on_after(5):
                while not is_so():  # noqa: ASYNC110  # neither the router nor the ledger tells us
                    await anyio.sleep(0.02)

        tasks.start_soon(partial(submit, client, idempotency_key=ORDER_KEY))
        await until(lambda: bool(router.posts))
        with closing(sqlite3.connect(ledger, isolation_level=None)) as other_program:
            other_program.execute("BEGIN IMMEDIATE")
            await anyio.sleep(1.5)  # the router's answer has been waiting for a second: for one more
            tasks.start_soon(result, client, ORDER_KEY)  # that the key came back is to be written, too
            await anyio.sleep(1.4)
            other_program.execute("ROLLBACK")
        await until(lambda: rows(ledger)[0][1] is not None)
        tasks.cancel_scope.cancel()
    assert [task_id for _, task_id in rows(ledger)] == ["task-1"]


async def test_what_the_ledger_missed_of_a_job_under_way_does_not_hide_what_another_window_was_answered_since(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    async with process(router, ledger) as client, process(router, ledger) as another:
        await submit(client)
        with unwritable(ledger):
            await clock.sleep(8)
        for _ in range(3):  # it looks every 2 seconds, and so before the other
            await result(another, "task-1", wait_seconds=2)
        answer = await result(client, "task-1", wait_seconds=1)

    assert not answer.is_error
    assert told(answer)["state"] == "processing"


async def test_the_end_of_another_programs_job_that_the_ledger_missed_is_written_though_nobody_asks(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 10
    router.accepted["other"] = 0
    async with process(router, ledger) as client:
        await client.call_tool("list_reference_videos", {})
        with out_of_order(ledger):
            await result(client, "other")
        await clock.sleep(20)
        assert rows(ledger) == [("succeeded", "other")]


async def test_a_job_that_was_forgotten_on_purpose_is_not_remembered_by_asking_for_it(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 1
    async with process(router, ledger) as client:
        await submit(client)
        await result(client)
        await clock.sleep(2 * 24 * 3600)
        with closing(Ledger(ledger)) as other_program:
            assert other_program.delete_ended(clock.now()) == 1
        answer = await result(client)

    assert told(answer)["state"] == "succeeded"
    assert rows(ledger) == []


async def test_a_job_is_followed_though_the_ledger_fails_while_it_is_made(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 30
    async with process(router, ledger) as client:
        await submit(client)
        await clock.sleep(5)
        with out_of_order(ledger):
            answer = await result(client)

    assert told(answer)["state"] == "succeeded"
    assert clock.steady() < 45


async def test_a_process_that_ends_after_its_post_gets_the_task_id_into_a_ledger_that_failed_for_a_moment(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=20)]
    pending_posts = PendingPosts()
    server = build_server(
        Settings(api_key=KEY, database=ledger), transport=router.transport, clock=clock, pending_posts=pending_posts
    )
    at_landing: list[tuple[str, str | None]] = []
    async with Client(server) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(submit, client)
        await clock.sleep(10)
        pending_posts.when_done(lambda: at_landing.extend(rows(ledger)))
        with out_of_order(ledger):
            await clock.sleep(12)
        await clock.sleep(10)

    ((_, task_id),) = at_landing
    assert task_id == "task-1"


async def test_unfinished_jobs_are_followed_though_the_ledger_failed_at_the_start(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.takes = 30
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
    async with AsyncExitStack() as stack:
        with out_of_order(ledger):
            await stack.enter_async_context(process(router, ledger, output_dir=videos))
            await clock.sleep(60)
        await clock.sleep(120)

    assert len(await files(videos)) == 1


async def test_many_answers_that_a_locked_ledger_cannot_note_hold_up_no_call(
    clock: VirtualClock,
    router: FakeRouter,
    ledger: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(services, "TURN_SECONDS", 0.5)  # real seconds: the ledger is outside of our clock
    monkeypatch.setattr(waiting_calls, "ON_ITS_WAY_SECONDS", 0)  # or our clock would stand still for the first of them
    router.takes = 1
    task_ids = [f"task-{number}" for number in range(1, 7)]
    answers: list[CallToolResult] = []

    async def ask(client: Client, task_id: str) -> None:
        answers.append(await result(client, task_id))

    async with process(router, ledger) as client:
        for task_id in task_ids:
            await submit(client, f"@1 in {task_id}")
        await clock.sleep(10)
        with closing(sqlite3.connect(ledger, isolation_level=None)) as other_program:
            other_program.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as tasks:
                for task_id in task_ids:
                    tasks.start_soon(ask, client, task_id)
            listed = await jobs(client)
            noted = caplog.text.count("not written down")
            other_program.execute("ROLLBACK")

    assert [told(answer)["state"] for answer in answers] == ["succeeded"] * 6
    assert len(told(listed)["jobs"]) == 6
    assert noted >= 2, "no more than four wait for the ledger"
    assert "broke off" not in caplog.text


@pytest.mark.parametrize(("after", "recorded"), [(25, "task-1"), (35, None)])
async def test_a_process_that_ends_waits_30_seconds_at_most_for_the_answer_to_its_post(
    clock: VirtualClock, router: FakeRouter, ledger: Path, after: float, recorded: str | None
) -> None:
    router.submissions = [Reply(after=after)]
    async with process(router, ledger) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(submit, client)
        while not router.posts:  # noqa: ASYNC110  # the router does not tell us
            await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()

    assert [task_id for _, task_id in rows(ledger)] == [recorded]
    assert clock.steady() == pytest.approx(min(after, 30), abs=1)


async def test_a_process_that_is_cancelled_closes_its_ledger(
    clock: VirtualClock, router: FakeRouter, tmp_path: Path
) -> None:
    """Or SQLite leaves its working files behind."""
    settings = Settings(api_key=KEY, database=tmp_path / "state" / "ledger.db")
    with anyio.CancelScope() as scope:
        async with running(settings, transport=router.transport, clock=clock) as state:
            await state.account.newest(1)
            scope.cancel()

    assert await files(tmp_path / "state") == ["ledger.db"]


async def test_a_list_does_not_queue_behind_what_a_locked_ledger_is_to_learn(
    router: FakeRouter, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "TURN_SECONDS", 0.5)  # as above
    router.accepted = {f"other-{number}": 0 for number in range(6)}
    async with process(router, ledger) as client, anyio.create_task_group() as tasks:
        await jobs(client)
        with closing(sqlite3.connect(ledger, isolation_level=None)) as other_program:
            other_program.execute("BEGIN IMMEDIATE")
            for task_id in router.tasks:
                tasks.start_soon(partial(result, client, task_id, wait_seconds=0))
            with anyio.fail_after(5):
                while len(router.polls) < 6:  # noqa: ASYNC110  # the router does not tell us
                    await anyio.sleep(0.01)
            listed = await jobs(client)
            other_program.execute("ROLLBACK")

    assert not listed.is_error


async def test_a_ledger_that_failed_many_times_is_asked_again_when_it_is_back(router: FakeRouter, ledger: Path) -> None:
    async with process(router, ledger) as client:
        await submit(client)
        with out_of_order(ledger):
            failed = [await jobs(client) for _ in range(6)]
        listed = await jobs(client)

    assert [answer.is_error for answer in failed] == [True] * 6
    assert [job["task_id"] for job in told(listed)["jobs"]] == ["task-1"]


async def test_a_key_that_cannot_be_looked_up_is_not_denied(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.submissions = [Reply(after=60)]
    async with process(router, ledger) as client:
        key = told(await submit(client))["idempotency_key"]
        await clock.sleep(30)
    async with process(router, ledger) as client:
        await client.call_tool("list_reference_videos", {})
        with out_of_order(ledger):
            answer = await result(client, key)
        found = await result(client, key)

    assert answer.is_error
    assert said(answer) == (
        f"The job ledger ({ledger}) cannot be used: it answers SQLITE_ERROR. "
        f"Without it only api.myrouter.ai could be asked, and that does not know {key}. "
        "Jobs are not affected: ask again when the ledger can be read. An idempotency_key is looked up there alone."
    )
    assert told(found)["task_id"] == "task-1"


# The disk


@pytest.mark.parametrize("later", [600, 7200], ids=["the link lives", "the link is dead"])
async def test_a_video_that_could_not_be_saved_is_saved_by_the_next_process_unasked(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path, later: float
) -> None:
    router.takes = 10
    await anyio.Path(videos).write_text("a file where the folder should be")
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await result(client)
        await clock.sleep(later)
    await anyio.Path(videos).unlink()
    asked = len(router.polls)
    async with process(router, ledger, output_dir=videos) as client:
        await clock.sleep(10)

    assert len(await files(videos)) == 1
    assert len(router.polls) - asked == (later > 3600)


async def test_a_finished_job_is_not_asked_for_at_every_start_where_nothing_is_saved(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    router.takes = 5
    async with process(router, ledger) as client:
        await submit(client)
        await result(client)
        await clock.sleep(7200)
    asked = len(router.polls)
    for _ in range(3):
        async with process(router, ledger):
            await clock.sleep(10)

    assert len(router.polls) == asked


async def test_a_disk_that_does_not_answer_holds_up_nobody_else(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    router.takes = 5
    async with process(router, ledger, output_dir=videos) as client:
        await submit(client)
        await result(client)

        hung, back, timed_out = threading.Event(), threading.Event(), threading.Event()
        is_file = Path.is_file

        def of_a_dead_server(path: Path) -> bool:
            if path.parent == videos:
                hung.set()
                if not back.wait(5):
                    timed_out.set()
            return is_file(path)

        monkeypatch.setattr(Path, "is_file", of_a_dead_server)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(result, client)
            await anyio.to_thread.run_sync(hung.wait)
            listed = await client.call_tool("list_reference_videos", {})
            waited_for = timed_out.is_set()
            back.set()

    assert told(listed)["jobs"][0]["state"] == "succeeded"
    assert not waited_for


async def test_two_processes_save_each_video_once_however_long_the_queue(
    clock: VirtualClock, ledger: Path, videos: Path
) -> None:
    fetched: list[str] = []

    class SlowVideos(FakeRouter):
        async def _handle(self, request: httpx2.Request) -> httpx2.Response:
            if request.url.host == "cdn.example":
                fetched.append(request.url.path)
                await self.clock.sleep(100)  # longer than a claim on a video lasts
            return await super()._handle(request)

    router = SlowVideos(clock, takes=10)
    async with process(router, ledger, output_dir=videos) as one:
        for scene in range(5):
            await submit(one, prompt=f"@1 in scene {scene}")
        await clock.sleep(30)
        assert len(fetched) == 3, "more at once would be slower for each"
        async with process(router, ledger, output_dir=videos):
            await clock.sleep(500)

    assert sorted(fetched) == [f"/task-{n}.mp4" for n in range(1, 6)]
    assert len(await files(videos)) == 5


async def test_a_video_that_another_process_saved_while_it_was_in_the_queue_is_not_saved_again(
    clock: VirtualClock, ledger: Path, videos: Path
) -> None:
    class SlowVideos(FakeRouter):
        async def _fetch(self, request: httpx2.Request) -> httpx2.Response:
            self.file_after = 0 if request.url.path == "/task-4.mp4" else 100
            return await super()._fetch(request)

    router = SlowVideos(clock, takes=10)
    async with process(router, ledger, output_dir=videos) as client:
        for scene in range(3):
            await submit(client, prompt=f"@1 in scene {scene}")
        await clock.sleep(20)
        await submit(client, prompt="@1 in the last scene")
        await clock.sleep(25)
        assert len(router.fetched_at) == 3
        settings = Settings(api_key=KEY, database=ledger, output_dir=videos)
        async with running(settings, transport=router.transport, clock=clock) as state:
            await state.account.save("task-4")
        await clock.sleep(150)

    assert len(await files(videos)) == len(router.fetched_at) == 4


async def test_a_process_that_is_about_to_end_does_not_say_that_another_one_saves_the_video(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.takes, router.file_after = 5, 1000
    pending_posts = PendingPosts()
    settings = Settings(api_key=KEY, database=ledger, output_dir=videos)
    server = build_server(settings, transport=router.transport, clock=clock, pending_posts=pending_posts)
    async with Client(server) as client, anyio.create_task_group() as tasks:
        await submit(client)

        async def end() -> None:
            await clock.sleep(20.5)
            pending_posts.ending = True

        tasks.start_soon(end)
        answer = await result(client)

    assert clock.steady() < 26
    assert said(answer).startswith("Done: https://cdn.example/task-1.mp4")
    assert "Another window" not in said(answer)


# The clock


async def test_a_clock_that_was_set_back_holds_up_no_job_after_a_restart(
    clock: VirtualClock, router: FakeRouter, ledger: Path, videos: Path
) -> None:
    router.takes = 30
    async with process(router, ledger) as client:
        await submit(client)
    clock.set_by = -3600
    async with process(router, ledger, output_dir=videos):
        await clock.sleep(60)

    assert len(await files(videos)) == 1


async def test_a_submission_whose_time_ran_out_while_it_paused_is_not_sent(
    clock: VirtualClock, router: FakeRouter, ledger: Path
) -> None:
    """Others may call it uncertain by now: it must not be bought after all."""
    router.submissions = [refused(429, "RATE_LIMIT_EXCEEDED", retry_after=20)]
    answers: list[CallToolResult] = []
    async with process(router, ledger) as client, anyio.create_task_group() as tasks:

        async def call() -> None:
            answers.append(await submit(client))

        tasks.start_soon(call)
        await clock.sleep(10)
        clock.set_by = 600

    assert len(router.posts) == 1
    assert said(answers[0]) == (
        "The time to send this to api.myrouter.ai ran out. Nothing was sent or bought. Try again."
    )
    assert rows(ledger) == [("rejected", None)]
