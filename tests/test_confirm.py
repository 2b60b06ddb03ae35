"""REFVIDEO_CONFIRM: nothing is bought before the user says yes."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client import ClientRequestContext
from mcp_types import (
    ElicitRequestFormParams,
    ElicitRequestParams,
    ElicitResult,
    ErrorData,
    ListRootsResult,
    Root,
)
from pydantic import FileUrl

from a_place import SHORT, Place
from fake_router import LOST, FakeRouter, Reply, process, said, submit, told
from marker import KEY
from pictures import saved, scene
from refvideo_mcp.app import build_server
from refvideo_mcp.errors import Refused
from refvideo_mcp.sandbox import Sandbox
from refvideo_mcp.settings import Settings
from refvideo_mcp.tools import questions
from typist import typing

pytestmark = pytest.mark.anyio
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")

BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])
YES = ElicitResult(action="accept", content={"buy": True})
NO_MORE = "Nothing was sent or bought. Do not call again unless they ask for it."


class User:
    """Somebody who is asked. `answer` None = nobody looks. `releases`: whether a lost job may be sent again."""

    def __init__(self, answer: ElicitResult | None = YES, *, releases: bool = True) -> None:
        self.answer = answer
        self.releases = releases
        self.questions: list[str] = []

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        self.questions.append(params.message)
        if self.answer is None:
            await anyio.sleep_forever()
        assert self.answer is not None
        assert isinstance(params, ElicitRequestFormParams)
        if self.releases and "send_again" in params.requested_schema["properties"]:
            return ElicitResult(action="accept", content={"send_again": True})
        return self.answer


@pytest.fixture
def elsewhere(work: Path, tmp_path: Path) -> Path:
    """A folder with a picture that belongs to no work."""
    (tmp_path / "elsewhere" / "cat.png").write_bytes(saved(scene(), "PNG"))
    return tmp_path / "elsewhere"


def about(question: str, elsewhere: Path) -> dict[str, Any]:
    """Arguments that raise the question."""
    pictures = {"subjects": [{"images": [str(elsewhere / "cat.png")]}]}
    videos = {"save_to": str(elsewhere)}
    asked: dict[str, dict[str, Any]] = {
        "a folder of pictures": pictures,
        "a folder for videos": videos,
        "both folders": pictures | videos,
    }
    return asked.get(question, {})


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
@pytest.mark.parametrize("question", ["a folder of pictures", "a folder for videos", "a lost job", "buying"])
@pytest.mark.parametrize("content", [{}, None, {"allow": "perhaps", "send_again": "perhaps", "buy": "perhaps"}])
async def test_a_question_accepted_without_what_it_asks_for_is_no_yes(
    router: FakeRouter, tmp_path: Path, elsewhere: Path, mode: str, question: str, content: dict[str, Any] | None
) -> None:
    """Some clients send back an empty form. Of whoever asked in here, the reader learns nothing."""
    user = User(ElicitResult.model_construct(action="accept", content=content), releases=False)
    above = 0 if question == "buying" else None
    router.submissions = [LOST] if question == "a lost job" else []
    async with process(router, tmp_path / "l.db", mode=mode, elicitation_callback=user, confirm_above=above) as client:
        if question == "a lost job":
            await submit(client)
        refusal = await submit(client, **about(question, elsewhere))
    assert refusal.is_error
    assert said(refusal) == (
        "The client says that the user accepted the question, but not what they answered: that is no yes. "
        "Nothing was sent or bought. Tell the user; do not call again unless they ask for it."
    )
    assert (len(user.questions), len(router.posts)) == (1, 1 if question == "a lost job" else 0)


async def test_a_client_whose_dialog_fails_buys_nothing(router: FakeRouter, tmp_path: Path) -> None:
    async def broken(context: ClientRequestContext, params: ElicitRequestParams) -> ErrorData:
        return ErrorData(code=-32603, message="Cannot read properties of undefined")

    async with process(
        router, tmp_path / "l.db", mode="legacy", elicitation_callback=broken, confirm_above=0
    ) as client:
        refusal = await submit(client)
    assert refusal.is_error
    assert said(refusal) == (
        "The client failed at a question of this call (Cannot read properties of undefined). "
        "Nothing was sent or bought. Tell the user; do not call again unless they ask for it."
    )
    assert router.posts == []


@BOTH_ERAS
@pytest.mark.parametrize("question", ["a folder of pictures", "a folder for videos", "both folders"])
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_after_a_no_the_agent_learns_no_way_round_it_and_the_user_is_asked_nothing_more(
    router: FakeRouter, tmp_path: Path, elsewhere: Path, mode: str, question: str, action: Any
) -> None:
    """An agent that is told which setting allows it goes on asking for that."""
    user = User(ElicitResult(action=action))
    async with process(router, tmp_path / "l.db", mode=mode, elicitation_callback=user, confirm_above=0) as client:
        refusal = await submit(client, **about(question, elsewhere))
    assert refusal.is_error
    sentence = "The user said no." if action == "decline" else "The user closed the question without an answer."
    assert said(refusal) == f"{sentence} {NO_MORE}"
    assert (len(user.questions), router.posts) == (1, [])


async def test_every_folder_that_a_yes_allows_is_in_the_question(
    router: FakeRouter, tmp_path: Path, elsewhere: Path
) -> None:
    folders = [tmp_path / f"elsewhere-{number}" for number in range(5)]
    for folder in folders:
        shutil.copytree(elsewhere, folder)
    user = User(ElicitResult(action="decline"))
    async with process(router, tmp_path / "l.db", elicitation_callback=user) as client:
        await submit(client, subjects=[{"images": [str(folder / "cat.png")]} for folder in folders])
    assert user.questions == [f"Send pictures from {' and '.join(map(str, folders))} to api.myrouter.ai?"]


@BOTH_ERAS
async def test_pictures_come_from_the_folders_that_the_client_tells(
    router: FakeRouter, tmp_path: Path, elsewhere: Path, mode: str
) -> None:
    async def open_here(context: ClientRequestContext) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri=FileUrl(elsewhere.as_uri()))])

    server = build_server(
        Settings(api_key=KEY, database=tmp_path / "l.db"), transport=router.transport, clock=router.clock
    )
    async with Client(server, mode=mode, list_roots_callback=open_here) as client:
        assert told(await submit(client, subjects=[{"images": ["cat.png"]}]))["task_id"] == "task-1"


@pytest.mark.parametrize("silent", [False, True])
async def test_a_client_that_fails_to_tell_its_folders_has_none(
    router: FakeRouter, tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    monkeypatch.setattr(questions, "ROOTS_SECONDS", 0.2)  # real seconds, outside of our clock

    async def broken(context: ClientRequestContext) -> ErrorData:
        if silent:
            await anyio.sleep_forever()
        return ErrorData(code=-32601, message="Method not found")

    (elsewhere / "cat.png").rename(tmp_path / "work" / "cat.png")
    server = build_server(
        Settings(api_key=KEY, database=tmp_path / "l.db"), transport=router.transport, clock=router.clock
    )
    async with Client(server, mode="legacy", list_roots_callback=broken) as client:
        assert told(await submit(client, subjects=[{"images": ["cat.png"]}]))["task_id"] == "task-1"


async def test_a_question_about_the_home_folder_says_that_a_yes_is_none_for_those_in_it(
    router: FakeRouter, tmp_path: Path, elsewhere: Path
) -> None:
    home = (elsewhere / "cat.png").rename(tmp_path / "home" / "cat.png").parent
    user = User(ElicitResult(action="accept", content={"allow": True}))
    async with process(router, tmp_path / "l.db", elicitation_callback=user) as client:
        await submit(client, subjects=[{"images": [str(home / "cat.png")]}], save_to=str(home))
    assert user.questions == [
        f"Send pictures from {home} (that folder alone) to api.myrouter.ai?",
        f"Save videos in {home} (that folder alone)?",
    ]
    assert len(router.posts) == 1


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


class TestAtTheTerminal:
    """The command line buys, too."""

    ORDER = ("generate", "--prompt", "@hero waves", "--subject", "hero=hero.png", *SHORT)

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        with Sandbox(seconds=0.5) as sandbox:
            place = Place(tmp_path, sandbox.url)
            place.settings["REFVIDEO_CONFIRM"] = "always"
            yield place

    @posix_only
    @pytest.mark.parametrize(("key", "code", "posts"), [("y", 0, 1), ("n", 2, 0), ("", 2, 0)])
    def test_a_person_is_asked_before_it_is_bought(self, place: Place, key: str, code: int, posts: int) -> None:
        with typing(place, *self.ORDER) as typist:
            typist.waits_for("[y/N]")
            typist.types(f"{key}\n")
            assert typist.waits_for_the_end()[0] == code
        asked = (
            'Buy 1 s of video at 540p: "@hero waves"? Allowance: 300 of 300 s of video left in these 24 hours. [y/N]'
        )
        assert asked in typist.seen
        assert ("You said no: nothing was sent or bought." in typist.seen) == (posts == 0)
        assert place.submits() == posts

    def test_where_nobody_can_be_asked_nothing_is_bought_unless_yes_was_said(self, place: Place) -> None:
        """Programs and agents run commands without a terminal."""
        found = place.run(*self.ORDER)
        assert (found.returncode, found.stdout) == (2, "")
        assert found.stderr == (
            "refvideo-mcp: REFVIDEO_CONFIRM asks before a video is bought, and here is no terminal to ask on. "
            "Nothing was sent or bought. --yes says yes beforehand.\n"
        )
        assert place.submits() == 0
        assert place.run(*self.ORDER, "--dry-run").returncode == 0
        assert place.run(*self.ORDER, "--yes").returncode == 0
        assert place.submits() == 1

    def test_a_yes_to_buying_is_none_to_sending_from_another_folder_or_again(
        self, place: Place, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        elsewhere = Place(tmp_path_factory.mktemp("elsewhere"), "").picture
        order = ("generate", "--prompt", "@1 waves", *SHORT, "--yes", "--subject")
        found = place.run(*order, str(elsewhere), TMPDIR=str(place.folder))
        assert (found.returncode, place.submits()) == (2, 0)
        lost = ("generate", "--prompt", "@1 [rehearse:drop-after]", *SHORT, "--yes", "--subject", "hero.png")
        assert [place.run(*lost).returncode for _ in range(2)] == [4, 2]
        assert place.submits() == 1

    def test_a_job_that_the_call_joins_and_a_short_video_are_not_asked_about(self, place: Place) -> None:
        key = ("--idempotency-key", "engine-0123456789")
        assert place.run(*self.ORDER, *key, "--yes").returncode == 0
        again = place.run(*self.ORDER, *key)
        assert again.returncode == 0, again.stderr
        assert "nothing new was bought" in again.stderr
        assert place.run(*self.ORDER, REFVIDEO_CONFIRM="above:1").returncode == 0
        assert place.submits() == 2

    @posix_only
    def test_the_question_about_a_folder_names_the_bucket_that_pictures_go_to(
        self, place: Place, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        elsewhere = Place(tmp_path_factory.mktemp("elsewhere"), "").picture
        place.settings |= {"REFVIDEO_MEDIA_STORE": "s3://pictures-of-mine", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
        with typing(place, "generate", "--prompt", "@1", "--subject", str(elsewhere)) as typist:
            typist.waits_for("[y/N]")
            typist.types("n\n")
            assert typist.waits_for_the_end() == (2, "")
        question = rf"Send pictures from {elsewhere.parent} to 127\.0\.0\.1:\d+ through s3://pictures-of-mine\?"
        assert re.search(question, typist.seen)


@pytest.mark.parametrize(
    ("text", "above"),
    [("never", None), ("Always", 0), ("yes", 0), ("above:5", 5), ("above:5s", 5), ("${CONFIRM}", None)],
)
def test_the_setting_is_read(text: str, above: int | None) -> None:
    assert Settings.read({"REFVIDEO_CONFIRM": text}).confirm_above == above


@pytest.mark.parametrize("text", ["maybe", "above", "above:", "above:-1", "1", "5"])
def test_another_setting_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"^REFVIDEO_CONFIRM must be never, always or above:SECONDS"):
        Settings.read({"REFVIDEO_CONFIRM": text})
