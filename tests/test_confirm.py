"""REFVIDEO_CONFIRM: nothing is bought before the user says yes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client import ClientRequestContext
from mcp_types import CallToolResult, ElicitRequestFormParams, ElicitRequestParams, ElicitResult

from fake_router import LOST, FakeRouter, Reply, process, said, told
from refvideo_mcp.errors import Refused
from refvideo_mcp.settings import Settings
from refvideo_mcp.tools import questions
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])
YES = ElicitResult(action="accept", content={"buy": True})
NO_MORE = "Nothing was sent or bought. Do not call again unless they ask for it."


class User:
    """Somebody who is asked. `answer` None = nobody looks."""

    def __init__(self, answer: ElicitResult | None = YES) -> None:
        self.answer = answer
        self.questions: list[str] = []

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        self.questions.append(params.message)
        if self.answer is None:
            await anyio.sleep_forever()
        assert self.answer is not None
        assert isinstance(params, ElicitRequestFormParams)
        if "send_again" in params.requested_schema["properties"]:
            return ElicitResult(action="accept", content={"send_again": True})
        return self.answer


@pytest.fixture
async def clock() -> AsyncIterator[VirtualClock]:
    clock = VirtualClock()
    async with clock.passing():
        yield clock


@pytest.fixture
def router(clock: VirtualClock) -> FakeRouter:
    return FakeRouter(clock)


async def submit(client: Client, **arguments: Any) -> CallToolResult:
    call = {"prompt": "@1 runs", "subjects": [{"images": ["https://pictures.example/cat.png"]}]}
    return await client.call_tool("generate_reference_video", call | arguments)


@BOTH_ERAS
async def test_the_user_is_asked_what_it_takes_and_then_it_is_bought(
    router: FakeRouter, tmp_path: Path, mode: str
) -> None:
    user = User()
    async with process(router, tmp_path / "l.db", mode=mode, elicitation_callback=user, confirm_above=0) as client:
        first = await submit(client)
        second = await submit(client, prompt="@1\x1b[2J sings\u202e", duration=10, resolution="1080p")
    assert user.questions == [
        'Buy 5 s of video at 720p: "@1 runs"? 300 s are left in today\'s allowance.',
        'Buy 10 s of video at 1080p: "@1 [2J sings"? 295 s are left in today\'s allowance.',
    ]
    assert [told(first)["task_id"], told(second)["task_id"]] == ["task-1", "task-2"]


@BOTH_ERAS
@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (ElicitResult(action="decline"), "The user said no."),
        (ElicitResult(action="accept", content={"buy": False}), "The user said no."),
        (ElicitResult(action="cancel"), "The user closed the question without an answer."),
    ],
)
async def test_nothing_is_bought_without_a_yes(
    router: FakeRouter, tmp_path: Path, mode: str, answer: ElicitResult, sentence: str
) -> None:
    user = User(answer)
    async with process(router, tmp_path / "l.db", mode=mode, elicitation_callback=user, confirm_above=0) as client:
        refusal = await submit(client)
        listed = await client.call_tool("list_reference_videos", {})
    assert refusal.is_error
    assert said(refusal) == f"{sentence} {NO_MORE}"
    assert (len(user.questions), router.posts, told(listed)["jobs"]) == (1, [], [])


@BOTH_ERAS
async def test_a_client_that_cannot_ask_buys_nothing(router: FakeRouter, tmp_path: Path, mode: str) -> None:
    async with process(router, tmp_path / "l.db", mode=mode, confirm_above=0) as client:
        refusal = await submit(client)
    assert refusal.is_error
    assert said(refusal) == (
        "The user wants to be asked before a video is bought (REFVIDEO_CONFIRM), and this client cannot ask. "
        "Nothing was sent or bought. Tell the user: REFVIDEO_CONFIRM=never lets it go through."
    )
    assert router.posts == []


async def test_a_user_who_does_not_look_buys_nothing(
    router: FakeRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older protocol keeps the call open meanwhile; in the newer one no call waits for the answer."""
    assert questions.CONFIRM_SECONDS == 25
    monkeypatch.setattr(questions, "CONFIRM_SECONDS", 0.2)  # real seconds: a user is asked outside of our clock
    async with process(
        router, tmp_path / "l.db", mode="legacy", elicitation_callback=User(None), confirm_above=0
    ) as client:
        refusal = await submit(client)
    assert refusal.is_error
    assert said(refusal) == (
        "Nobody answered within 0.2 s whether to buy this video (REFVIDEO_CONFIRM asks). "
        "Nothing was sent or bought: ask the user, then call again."
    )
    assert router.posts == []


@BOTH_ERAS
async def test_only_longer_videos_are_asked_about(router: FakeRouter, tmp_path: Path, mode: str) -> None:
    user = User()
    async with process(router, tmp_path / "l.db", mode=mode, elicitation_callback=user, confirm_above=5) as client:
        await submit(client, duration=5)
        assert user.questions == []
        await submit(client, duration=6)
    assert len(user.questions) == 1
    assert len(router.posts) == 2


@BOTH_ERAS
async def test_a_call_that_joins_an_earlier_job_is_not_asked_about(
    router: FakeRouter, tmp_path: Path, mode: str
) -> None:
    user = User()
    async with process(router, tmp_path / "l.db", mode=mode, elicitation_callback=user, confirm_above=0) as client:
        await submit(client, idempotency_key="engine-0123456789")
        again = await submit(client, idempotency_key="engine-0123456789")
        router.submissions = [Reply(after=20)]  # its answer came too late for anybody to have seen it
        await submit(client, prompt="@1 waits")
        joined = await submit(client, prompt="@1 waits")
    assert len(user.questions) == 2
    assert [told(again)["task_id"], told(joined)["task_id"]] == ["task-1", "task-2"]
    assert len(router.posts) == 2


async def test_what_would_be_refused_anyway_is_not_asked_about(router: FakeRouter, tmp_path: Path) -> None:
    user = User()
    async with process(
        router, tmp_path / "l.db", elicitation_callback=user, confirm_above=0, max_seconds_per_day=4
    ) as client:
        refusal = await submit(client)
    assert "REFVIDEO_MAX_SECONDS_PER_DAY" in said(refusal)
    assert user.questions == []


@BOTH_ERAS
async def test_a_released_job_is_one_question_not_two(router: FakeRouter, tmp_path: Path, mode: str) -> None:
    router.submissions = [LOST]
    user = User()
    async with process(router, tmp_path / "l.db", mode=mode, elicitation_callback=user, confirm_above=0) as client:
        await submit(client)
        released = await submit(client)
    assert [question.split(" ")[0] for question in user.questions] == ["Buy", "This"]
    assert told(released)["task_id"] == "task-2"


@pytest.mark.parametrize(
    ("text", "above"), [("never", None), ("Always", 0), ("above:5", 5), ("above:0", 0), ("${CONFIRM}", None)]
)
def test_the_setting_is_read(text: str, above: int | None) -> None:
    assert Settings.read({"REFVIDEO_CONFIRM": text}).confirm_above == above


@pytest.mark.parametrize("text", ["yes", "above", "above:", "above:-1", "above:5s", "5"])
def test_another_setting_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"^REFVIDEO_CONFIRM must be never, always or above:SECONDS"):
        Settings.read({"REFVIDEO_CONFIRM": text})
