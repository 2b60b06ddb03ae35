"""Several accounts in one process: each sees its own jobs only, is cheap, and closes when it has nothing to do."""

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from fake_router import CAT, FakeRouter
from marker import KEY
from pictures import saved, scene
from refvideo_mcp.app import running
from refvideo_mcp.errors import Refused, UnknownTask
from refvideo_mcp.jobs import Account, Accounts, NotInCast
from refvideo_mcp.ledger import Job
from refvideo_mcp.schemas import ChosenPicture, GenerateCall
from refvideo_mcp.settings import Settings
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

OWN_KEYS = {"carol": "carol's own key", "dave": "carol's own key"}


@asynccontextmanager
async def office(router: FakeRouter, ledger: Path, **settings: Any) -> AsyncIterator[Accounts]:
    """A server of many, as its tools see it."""
    given: dict[str, Any] = {"api_key": KEY, "database": ledger, "http": True, "auth": "tokens"}
    parts = running(
        Settings(**given | settings),
        transport=router.transport,
        clock=router.clock,
        key_of=lambda name: OWN_KEYS.get(name, ""),
    )
    async with parts as state:
        assert state.accounts is not None
        assert not state.owner
        yield state.accounts


async def bought(account: Account, **arguments: Any) -> Job:
    call = GenerateCall.model_validate(CAT | arguments)
    async with account.submitter.submit(await account.cast.order(call), key=call.idempotency_key, buy=True) as done:
        return done.job


async def test_the_job_of_another_account_is_like_none_at_all(router: FakeRouter, ledger: Path) -> None:
    """By whatever handle, the router is not even asked: its key opens everybody's jobs."""
    async with office(router, ledger) as accounts:
        job = await bought(accounts.of("alice"), idempotency_key="alice-at-0123456789")
        refusals = {}
        for handle in (str(job.task_id), str(job.key), str(job.task_id)[:5], job.id, "no-such-task"):
            with pytest.raises(UnknownTask) as refusal:
                await accounts.of("bob").wait(handle, 0)
            with pytest.raises(UnknownTask):
                await accounts.of("bob").status(handle)
            with pytest.raises(UnknownTask):
                await accounts.of("bob").save(handle)
            refusals[handle] = str(refusal.value).replace(handle, "…")
        assert set(refusals.values()) == {"This account has no job …. It has no jobs yet."}
        assert router.polls == []
        assert await accounts.of("bob").newest(10) == []
        assert [job.task_id for job in await accounts.of("alice").newest(10)] == ["task-1"]


async def test_pictures_from_the_chat_are_for_the_account_that_gave_them(
    router: FakeRouter, ledger: Path, tmp_path: Path
) -> None:
    content = saved(scene(), "PNG")
    whole = ("upload-1", [ChosenPicture(name="fox.png", size=len(content))], 0, b64encode(content).decode())
    call = GenerateCall.model_validate({"prompt": "@fox runs", "subjects": [{"id": "fox"}]})
    async with office(router, ledger, data_dir=tmp_path / "data") as accounts:
        alice, bob = accounts.of("alice"), accounts.of("bob")
        assert await alice.add_pictures("fox", *whole)
        assert (await alice.cast.order(call)).guests == ("fox",)
        with pytest.raises(NotInCast):
            await bob.cast.order(call)


async def test_where_the_ledger_cannot_be_read_nobody_gets_a_job_by_its_id(router: FakeRouter, tmp_path: Path) -> None:
    """Only the ledger knows whose it is."""
    (tmp_path / "ledger.db").mkdir()
    router.accepted["task-1"] = 0.0
    async with office(router, tmp_path / "ledger.db") as accounts:
        with pytest.raises(Refused, match=r"^The job ledger cannot be used"):
            await accounts.of("bob").wait("task-1", 0)
    assert router.polls == []


async def test_the_same_key_in_two_accounts_is_two_jobs(router: FakeRouter, ledger: Path) -> None:
    async with office(router, ledger) as accounts:
        jobs = [await bought(accounts.of(name), idempotency_key="night-run-20261125") for name in ("alice", "bob")]
        again = await bought(accounts.of("alice"), idempotency_key="night-run-20261125")
    assert [job.task_id for job in (*jobs, again)] == ["task-1", "task-2", "task-1"]


async def test_allowances_are_each_account_s_own(router: FakeRouter, ledger: Path) -> None:
    async with office(router, ledger, max_open_jobs=1) as accounts:
        await bought(accounts.of("alice"))
        await bought(accounts.of("bob"))
        with pytest.raises(Refused, match="REFVIDEO_MAX_OPEN_JOBS"):
            await bought(accounts.of("alice"), prompt="@1 sleeps")
    assert len(router.posts) == 2


async def test_casts_are_each_account_s_own(router: FakeRouter, ledger: Path, tmp_path: Path) -> None:
    """A name that another account has is like one that nobody has, and may be taken."""
    pictures = [f"https://pictures.example/{name}.png" for name in ("alice", "bob")]
    async with office(router, ledger, data_dir=tmp_path) as accounts:

        async def buys(name: str, prompt: str, **subject: str) -> None:
            await bought(accounts.of(name), prompt=prompt, subjects=[{"id": "fox"} | subject])

        await buys("alice", "@fox runs", images=pictures[0], remember="yes")
        with pytest.raises(NotInCast, match=r"^`subjects\[0\].images` is missing: 1-3 pictures"):
            await buys("bob", "@fox naps")
        await buys("bob", "@fox runs", images=pictures[1], remember="yes")
        for name in ("alice", "bob"):
            await buys(name, "@fox naps")
    assert [post["subjects"][0]["images"] for post in router.posts] == [[image] for image in pictures * 2]


async def test_an_account_may_have_a_router_key_of_its_own(clock: VirtualClock, ledger: Path) -> None:
    seen: list[str] = []

    class Keyed(FakeRouter):
        async def _handle(self, request: httpx2.Request) -> httpx2.Response:
            seen.append(request.headers["Authorization"])
            return await super()._handle(request)

    async with office(Keyed(clock), ledger) as accounts:
        for name in ("alice", "carol", "dave"):
            await bought(accounts.of(name))
    assert seen == [f"Bearer {KEY}", "Bearer carol's own key", "Bearer carol's own key"]


async def test_without_a_key_for_everybody_those_who_have_one_are_served(router: FakeRouter, ledger: Path) -> None:
    async with office(router, ledger, api_key="") as accounts:
        with pytest.raises(Refused, match=r"^No API key is set"):
            accounts.of("alice")
        assert (await bought(accounts.of("carol"))).task_id == "task-1"


async def test_an_account_closes_when_it_was_not_used_for_ten_minutes_and_has_no_job_to_follow(
    router: FakeRouter, ledger: Path, clock: VirtualClock
) -> None:
    router.takes = 1800.0
    async with office(router, ledger) as accounts:
        busy, idle = accounts.of("alice"), accounts.of("bob")
        await bought(busy)
        await clock.sleep(900)
        accounts.of("carol")  # each opening looks for some to close
        assert accounts.of("alice") is busy
        assert accounts.of("bob") is not idle
        await clock.sleep(1800)
        accounts.of("dave")
        assert accounts.of("alice") is not busy
        assert [job.state for job in await accounts.of("alice").newest(1)] == ["succeeded"]


async def test_what_an_account_left_unfinished_is_followed_from_its_first_use_on(
    router: FakeRouter, ledger: Path, clock: VirtualClock
) -> None:
    async with office(router, ledger) as accounts:
        await bought(accounts.of("alice"))
    async with office(router, ledger) as accounts:
        accounts.of("bob")
        await clock.sleep(120)
        assert router.polls == []
        accounts.of("alice")
        await clock.sleep(10)
        assert [job.state for job in await accounts.of("alice").newest(1)] == ["succeeded"]


async def test_a_fault_in_one_account_does_not_reach_another(
    clock: VirtualClock, ledger: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever follows alice's job falls over at every answer; bob's goes on to its end."""

    class Broken(FakeRouter):
        async def _look(self, request: httpx2.Request) -> httpx2.Response:
            if request.url.params["task_id"] == "task-1":
                raise KeyError("a bug")
            return await super()._look(request)

    async with office(Broken(clock), ledger) as accounts:
        await bought(accounts.of("alice"))
        await bought(accounts.of("bob"))
        assert (await accounts.of("bob").wait("task-2", 120)).state == "succeeded"


async def test_a_caller_without_an_account_is_given_nobody_s(router: FakeRouter, ledger: Path) -> None:
    """A door that forgot to say who calls is a fault, not an account that all such callers share."""
    settings = Settings(api_key=KEY, database=ledger, http=True, auth="tokens")
    async with running(settings, transport=router.transport, clock=router.clock) as state:
        with pytest.raises(RuntimeError, match="without an account"):
            _ = state.account
        assert replace(state, owner="alice").account.name == "alice@api.myrouter.ai"


async def test_one_account_s_questions_that_hang_leave_room_for_another_s(clock: VirtualClock, ledger: Path) -> None:
    class Hanging(FakeRouter):
        async def _look(self, request: httpx2.Request) -> httpx2.Response:
            if request.url.params["task_id"] != "task-31":
                await anyio.sleep_forever()
            return await super()._look(request)

    async with office(Hanging(clock), ledger, max_open_jobs=0, max_seconds_per_day=0) as accounts:
        for number in range(30):
            await bought(accounts.of("alice"), prompt=f"@1 runs {number}")
        await clock.sleep(60)
        assert (await bought(accounts.of("bob"))).task_id == "task-31"
        assert (await accounts.of("bob").wait("task-31", 120)).state == "succeeded"
