"""The cast: the same character again, in another chat, by its name alone."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult, PromptReference, TextResourceContents

from command_line import environment
from fake_router import LOST, FakeRouter, Reply, jobs, process, refused, said, submit, told
from misbehaving_router import MisbehavingRouter
from pictures import data_uri, noise, private_exif, saved, scene
from refvideo_mcp.cast import Cast, CastError
from refvideo_mcp.errors import InvalidCall
from refvideo_mcp.images import Picture
from refvideo_mcp.jobs import casting
from stdio_server import StdioServer
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])
ACCOUNT = "local@api.myrouter.ai"
URL = "https://pictures.example/lena.png"
NOTHING = "Nothing was sent or bought"


@pytest.fixture
def fox(tmp_path: Path) -> Path:
    file = tmp_path / "fox.jpg"
    file.write_bytes(saved(scene(), "JPEG", exif=private_exif()))
    return file


@pytest.fixture
def lantern(tmp_path: Path) -> Path:
    file = tmp_path / "lantern.png"
    file.write_bytes(saved(scene(200, 300), "PNG"))
    return file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


class Window:
    """A user's client, one process after another. What is asked gets `answers`."""

    def __init__(self, router: FakeRouter, folder: Path, mode: str = "auto") -> None:
        self.router = router
        self.folder = folder
        self.mode = mode
        self.questions: list[str] = []
        self.answer: ElicitResult | None = None

    async def _asked(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        self.questions.append(params.message)
        assert self.answer is not None
        return self.answer

    async def submit(self, *subjects: Any, prompt: str = "@fox runs", **arguments: Any) -> Any:
        """The answer to a call in a process of its own."""
        async with self.process(**arguments.pop("settings", {})) as client:
            return await submit(client, prompt, subjects=list(subjects), **arguments)

    def process(self, **changes: Any) -> Client:
        callback = self._asked if self.answer else None
        settings: dict[str, Any] = {"mode": self.mode, "data_dir": self.folder / "data"} | changes
        return process(self.router, self.folder / "ledger.db", elicitation_callback=callback, **settings)


@pytest.fixture
def window(router: FakeRouter, tmp_path: Path) -> Window:
    return Window(router, tmp_path)


def files(data: Path) -> list[Path]:
    return [path for path in data.rglob("*") if path.is_file() and path.name != "lock"]


def no_folder(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("")


def picture(number: int, side: int = 200) -> Picture:
    content = saved(scene(side, side + number), "PNG")
    return Picture(f"{number}.png", content, "png", side, side + number)


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_new_chat_makes_another_video_of_the_fox_without_its_pictures(
    tmp_path: Path, fox: Path, mode: str
) -> None:
    """The router gets the same bytes, from a process that never saw the file: it is gone by then."""
    first = {"prompt": "@fox runs", "subjects": [{"id": "fox", "images": [str(fox)], "remember": True}]}
    then = {"prompt": "@fox sleeps", "subjects": [{"id": "fox"}]}
    answers = []
    async with MisbehavingRouter() as router:
        for order in (first, then):
            async with (
                StdioServer.running(tmp_path / "home", router.url, REFVIDEO_IMAGE_DIRS=str(tmp_path)) as server,
                Client(server.pipes(), mode=mode) as client,
            ):
                answers.append(await client.call_tool("generate_reference_video", order))
            await anyio.Path(fox).unlink(missing_ok=True)
    bodies = [json.loads(post.body) for post in router.posts]
    assert bodies[0]["subjects"] == bodies[1]["subjects"]
    (image,) = bodies[1]["subjects"][0]["images"]
    assert image.startswith("data:image/jpeg;base64,")
    assert [body["prompt"] for body in bodies] == ["@fox runs", "@fox sleeps"]
    host = router.url.removeprefix("http://")
    assert f"Sent to {host}: fox.jpg. Kept as @fox for later calls on this machine. " in said(answers[0])
    assert f"Sent to {host}: fox (cast). " in said(answers[1])
    kept = tmp_path / "home" / "data" / "refvideo-mcp" / "cast"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (kept, *kept.rglob("*")) if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(kept)} == {0o600}


@BOTH_ERAS
async def test_what_is_said_of_a_subject_stays_with_it(
    router: FakeRouter, window: Window, data: Path, fox: Path, mode: str
) -> None:
    """Pictures as they are sent, links as they were given, a voice, a line; nothing of that goes to the router."""
    window.mode = mode
    images = [str(fox), URL, data_uri(saved(scene(200, 200), "PNG"))]
    subject = {"id": "fox", "images": images, "voice_id": "v-1", "remember": "true", "about": "a fox\nwith a lantern"}
    await window.submit(subject, audio=True)
    await window.submit({"id": "@fox"}, audio=True, prompt="@fox sings")
    assert router.posts[0]["subjects"] == router.posts[1]["subjects"]
    assert router.posts[1]["subjects"][0].keys() == {"id", "images", "voice_id"}
    assert router.posts[1]["subjects"][0]["images"][1] == URL
    (member,) = Cast(data / "cast").members(ACCOUNT)
    assert (member.name, member.about, member.voice_id) == ("fox", "a fox with a lantern", "v-1")
    assert sorted(path.suffix for path in files(data)) == [".jpeg", ".json", ".png"]
    assert not [path for path in files(data) if b"owner-lives" in path.read_bytes()]


async def test_a_saved_voice_is_used_where_it_can_be_heard_and_gives_way_to_another(
    router: FakeRouter, window: Window
) -> None:
    await window.submit({"id": "fox", "images": URL, "voice_id": "v-1", "remember": "yes"}, audio=True)
    await window.submit({"id": "fox"}, prompt="@fox is silent")
    await window.submit({"id": "fox", "voice_id": "v-2"}, prompt="@fox talks", audio=True)
    await window.submit({"id": "fox"}, prompt="@fox says it again", audio=True)
    assert [post["subjects"][0].get("voice_id") for post in router.posts] == ["v-1", None, "v-2", "v-1"]


@BOTH_ERAS
async def test_a_job_from_the_cast_is_the_same_job_as_one_from_the_files(
    router: FakeRouter, window: Window, fox: Path, lantern: Path, mode: str
) -> None:
    """An engine that repeats its call under one key gets the one job, wherever its pictures come from."""
    window.mode = mode
    given = {"id": "fox", "images": [str(lantern), str(fox)]}
    await window.submit(given | {"remember": True})
    one = await window.submit(given, prompt="@fox naps", idempotency_key="engine-0123456789")
    other = await window.submit({"id": "fox"}, prompt="@fox naps", idempotency_key="engine-0123456789")
    assert told(one)["task_id"] == told(other)["task_id"] == "task-2"
    assert len(router.posts) == 2


@BOTH_ERAS
async def test_the_recipe_of_a_job_from_the_cast_names_it_and_makes_the_job_again(
    router: FakeRouter, window: Window, fox: Path, mode: str
) -> None:
    window.mode = mode
    await window.submit({"id": "fox", "images": str(fox), "remember": True})
    await window.submit({"id": "fox"}, {"id": "lena", "images": URL}, prompt="@fox meets @lena")
    async with window.process() as client:
        recipe = told(await jobs(client, task_id="task-2"))["recipe"]
    assert recipe["subjects"] == [{"id": "fox"}, {"id": "lena", "images": [URL]}]
    await window.submit(*recipe["subjects"], prompt="@fox meets @lena again")
    assert router.posts[1]["subjects"] == router.posts[2]["subjects"]


async def test_pictures_that_must_shrink_shrink_alike_from_the_cast(
    router: FakeRouter, window: Window, tmp_path: Path
) -> None:
    """What is kept is the picture itself, not what was left of it beside others."""
    (tmp_path / "large.png").write_bytes(saved(noise(2200, 2000), "PNG", compress_level=1))
    (tmp_path / "other.png").write_bytes(saved(noise(2000, 2000), "PNG", compress_level=1))
    large, other = ({"id": name, "images": str(tmp_path / f"{name}.png")} for name in ("large", "other"))
    await window.submit(large | {"remember": True}, other, prompt="@large and @other")
    await window.submit({"id": "large"}, other, prompt="@large or @other")
    assert router.posts[0]["subjects"] == router.posts[1]["subjects"]
    await window.submit(large, prompt="@large alone")
    await window.submit({"id": "large"}, prompt="@large by itself")
    assert router.posts[2]["subjects"] == router.posts[3]["subjects"]
    assert len(router.posts[2]["subjects"][0]["images"][0]) > len(router.posts[0]["subjects"][0]["images"][0])


class TestWhoIsMeant:
    async def test_a_name_that_nobody_has_is_answered_with_those_that_there_are_the_nearest_first(
        self, router: FakeRouter, window: Window
    ) -> None:
        for name in ("lena", "fox", "lantern"):
            await window.submit({"id": name, "images": URL, "remember": True}, prompt=f"@{name}")
        answer = await window.submit({"id": "Foxy"}, prompt="@Foxy runs")
        assert answer.is_error
        assert said(answer) == (
            "No images are given for @Foxy, and nobody of that name is in the cast: it has @fox, @lantern, @lena. "
            "Take one of these, or give the pictures. Nothing was sent or bought."
        )
        assert len(router.posts) == 3

    async def test_an_empty_cast_is_not_mentioned(self, window: Window) -> None:
        answer = await window.submit({"id": "fox"})
        assert said(answer) == (
            "`subjects[0].images` is missing: 1-3 pictures: local path, https URL or data URI. One pasted into the "
            "chat has no path: ask for it. Nothing was sent or bought: correct this and try again."
        )

    async def test_a_server_without_a_place_says_so(self, router: FakeRouter, window: Window) -> None:
        nowhere = {"data_dir": None, "http": True}
        answer = await window.submit({"id": "fox"}, settings=nowhere)
        assert "`subjects[0].images` is missing" in said(answer)
        assert "This server keeps no pictures (the setting REFVIDEO_DATA_DIR)." in said(answer)
        answer = await window.submit({"id": "fox", "images": URL, "remember": True}, settings=nowhere)
        assert said(answer) == (
            "This server has no place to keep pictures in (the setting REFVIDEO_DATA_DIR). "
            "Nothing was sent or bought. Call again without remember."
        )
        assert router.posts == []

    async def test_no_account_sees_another_s_cast(self, router: FakeRouter, window: Window) -> None:
        await window.submit({"id": "fox", "images": URL, "remember": True})
        answer = await window.submit({"id": "fox"}, settings={"base_url": "https://other.example"})
        assert "`subjects[0].images` is missing" in said(answer)
        assert len(router.posts) == 1

    @pytest.mark.parametrize("name", ["../../fox", "CON", "fox.", "Füchsin 🦊", "a" * 100, "fox/../x", "a\0b"])
    async def test_any_name_can_be_kept(self, router: FakeRouter, window: Window, data: Path, name: str) -> None:
        await window.submit({"id": name, "images": URL, "remember": True}, prompt="it runs")
        await window.submit({"id": name}, prompt="it sleeps")
        assert router.posts[0]["subjects"] == router.posts[1]["subjects"]
        assert all(len(path.name) in (32, 12) for path in (data / "cast").rglob("*") if path.name != "lock")

    async def test_names_that_differ_in_their_letters_case_are_two(self, router: FakeRouter, window: Window) -> None:
        await window.submit({"id": "fox", "images": URL, "remember": True})
        await window.submit({"id": "Fox", "images": f"{URL}?2", "remember": True}, prompt="@Fox runs")
        await window.submit({"id": "fox"}, prompt="@fox sleeps")
        assert router.posts[2]["subjects"][0]["images"] == [URL]

    async def test_a_position_is_no_name(self, router: FakeRouter, window: Window) -> None:
        answer = await window.submit({"images": URL, "remember": True}, prompt="@1 runs")
        assert said(answer) == (
            "`subjects[0]` needs an id to be remembered by, such as fox. "
            "Nothing was sent or bought: correct this and try again."
        )


class TestKeeping:
    async def test_nobody_is_kept_unasked(self, window: Window, data: Path, fox: Path) -> None:
        for no in (False, "false", None, "", "no"):
            await window.submit({"id": "fox", "images": str(fox), "remember": no}, prompt=f"@fox {no}")
        assert files(data) == []

    async def test_another_picture_under_a_taken_name_is_refused_before_anything_is_sent(
        self, router: FakeRouter, window: Window, fox: Path, lantern: Path
    ) -> None:
        await window.submit({"id": "fox", "images": str(fox), "remember": True})
        answer = await window.submit({"id": "fox", "images": str(lantern), "remember": True}, prompt="@fox glows")
        assert answer.is_error
        assert said(answer) == (
            "The cast has another @fox already, with other pictures. Leave images out to take that one, give another "
            'id, or, if the user wants @fox to be these pictures from now on, remember: "replace". '
            "Nothing was sent or bought."
        )
        assert len(router.posts) == 1

    async def test_a_taken_name_is_no_trouble_to_a_call_that_keeps_nothing(
        self, router: FakeRouter, window: Window, fox: Path, lantern: Path
    ) -> None:
        await window.submit({"id": "fox", "images": str(fox), "remember": True})
        await window.submit({"id": "fox", "images": str(lantern)}, prompt="@fox glows")
        assert len(router.posts) == 2

    async def test_the_same_pictures_again_are_no_trouble_either(
        self, window: Window, data: Path, fox: Path, clock: VirtualClock
    ) -> None:
        subject = {"id": "fox", "images": [str(fox), URL], "remember": True}
        await window.submit(subject | {"about": "a fox"})
        (before,) = Cast(data / "cast").members(ACCOUNT)
        clock.set_by = 10.0
        await window.submit(subject | {"images": [URL, str(fox)]}, prompt="@fox again")
        (after,) = Cast(data / "cast").members(ACCOUNT)
        assert (after.about, after.pictures, after.saved_at) == ("a fox", before.pictures, before.saved_at)
        assert after.last_used_at > before.last_used_at

    async def test_replaced_pictures_are_gone(
        self, router: FakeRouter, window: Window, data: Path, fox: Path, lantern: Path
    ) -> None:
        await window.submit({"id": "fox", "images": str(fox), "remember": True, "about": "a fox"})
        answer = await window.submit({"id": "fox", "images": str(lantern), "remember": "Replace"}, prompt="@fox glows")
        assert "Kept as @fox" in said(answer)
        await window.submit({"id": "fox"}, prompt="@fox sleeps")
        assert router.posts[1]["subjects"] == router.posts[2]["subjects"]
        assert sorted(path.suffix for path in files(data)) == [".json", ".png"]
        assert Cast(data / "cast").members(ACCOUNT)[0].about == "a fox"

    @pytest.mark.parametrize("reply", [refused(400, "ILLEGAL_PROMPT"), LOST])
    async def test_nobody_is_kept_of_a_job_that_the_router_did_not_take_for_certain(
        self, router: FakeRouter, window: Window, data: Path, fox: Path, reply: Reply
    ) -> None:
        router.submissions = [reply]
        answer = await window.submit({"id": "fox", "images": str(fox), "remember": True})
        assert answer.is_error
        assert "ept as" not in said(answer)
        assert files(data) == []

    async def test_a_job_that_is_taken_late_still_keeps_its_subject(
        self, router: FakeRouter, tmp_path: Path, data: Path, fox: Path
    ) -> None:
        router.submissions = [Reply(after=60)]
        subject = {"id": "fox", "images": str(fox), "remember": True}
        async with process(router, tmp_path / "ledger.db", data_dir=data) as client:
            answer = await submit(client, "@fox runs", subjects=[subject])
            assert (told(answer)["state"], files(data)) == ("submitting", [])
            assert "ept as" not in said(answer)
            await client.call_tool("get_task_result", {"task_id": told(answer)["idempotency_key"]})
        assert len(files(data)) == 2

    async def test_a_call_that_joins_an_earlier_job_keeps_its_subject_too(
        self, router: FakeRouter, window: Window, data: Path, fox: Path
    ) -> None:
        subject = {"id": "fox", "images": str(fox)}
        await window.submit(subject, idempotency_key="engine-0123456789")
        answer = await window.submit(subject | {"remember": True}, idempotency_key="engine-0123456789")
        assert "nothing new was bought" in said(answer)
        assert "Kept as @fox for later calls on this machine." in said(answer)
        assert (len(router.posts), len(files(data))) == (1, 2)

    async def test_what_is_kept_by_a_sandbox_ends_with_it(self, window: Window, data: Path, fox: Path) -> None:
        answer = await window.submit(
            {"id": "fox", "images": str(fox), "remember": True}, settings={"sandbox": True, "api_key": "sandbox"}
        )
        assert "Kept as @fox until this server ends." in said(answer)
        assert files(data) == []


class TestAsking:
    """Once per name, before its pictures are kept; sending them later asks nothing."""

    @BOTH_ERAS
    async def test_the_user_is_asked_once_per_name(
        self, router: FakeRouter, window: Window, fox: Path, mode: str
    ) -> None:
        window.mode, window.answer = mode, ElicitResult(action="accept", content={"keep": True})
        subject = {"id": "fox", "images": str(fox), "remember": True}
        for prompt in ("@fox runs", "@fox sleeps"):
            await window.submit(subject, prompt=prompt)
        await window.submit({"id": "fox"}, prompt="@fox wakes up")
        assert window.questions == ["Keep the pictures of @fox on this computer for later videos?"]
        assert len(router.posts) == 3

    @BOTH_ERAS
    @pytest.mark.parametrize(
        "no", [ElicitResult(action="decline"), ElicitResult(action="accept", content={"keep": False})]
    )
    async def test_after_a_no_nothing_is_bought_or_kept(
        self, router: FakeRouter, window: Window, data: Path, fox: Path, mode: str, no: ElicitResult
    ) -> None:
        window.mode, window.answer = mode, no
        answer = await window.submit({"id": "fox", "images": str(fox), "remember": True})
        assert said(answer) == (
            "The user did not agree that the pictures are kept. "
            "Nothing was sent or bought: call again without remember."
        )
        assert (router.posts, files(data)) == ([], [])


DAMAGE = [
    *("not JSON", "nothing that is text", "another form", "no pictures", "another's name"),
    *("a time that no clock has", "a size that is none", "a picture gone", "a picture changed", "a path"),
]


class TestTrouble:
    async def test_a_full_disk_is_told_and_the_job_goes_on(
        self, router: FakeRouter, window: Window, tmp_path: Path, small_disk: Path
    ) -> None:
        (tmp_path / "fox.png").write_bytes(saved(noise(800, 600), "PNG"))
        subject = {"id": "fox", "images": str(tmp_path / "fox.png"), "remember": True}
        answer = await window.submit(subject, settings={"data_dir": small_disk})
        assert not answer.is_error
        assert "Not kept: The cast cannot be written" in said(answer)
        assert "No space left on device" in said(answer)
        assert files(small_disk) == []
        answer = await window.submit({"id": "fox", "images": URL, "remember": True}, settings={"data_dir": small_disk})
        assert "Kept as @fox" in said(answer), "there is room for a link"

    async def test_a_full_disk_leaves_the_earlier_pictures_as_they_were(
        self, window: Window, tmp_path: Path, small_disk: Path, lantern: Path
    ) -> None:
        (tmp_path / "fox.png").write_bytes(saved(noise(800, 600), "PNG"))
        place: dict[str, Any] = {"settings": {"data_dir": small_disk}}
        await window.submit({"id": "fox", "images": str(lantern), "remember": True}, **place)
        before = {path: path.read_bytes() for path in files(small_disk)}
        subject = {"id": "fox", "images": str(tmp_path / "fox.png"), "remember": "replace"}
        assert "Not kept" in said(await window.submit(subject, prompt="@fox hisses", **place))
        assert {path: path.read_bytes() for path in files(small_disk)} == before

    @pytest.mark.parametrize("damage", DAMAGE)
    async def test_a_damaged_member_is_told_and_stops_nobody_else(
        self, router: FakeRouter, window: Window, data: Path, fox: Path, damage: str
    ) -> None:
        for name in ("fox", "lena"):
            images = [str(fox)] if name == "fox" else [URL]
            await window.submit({"id": name, "images": images, "remember": True}, prompt=f"@{name} runs")
        picture = next(path for path in files(data) if path.suffix == ".jpeg")
        note = picture.parent / "subject.json"
        match damage:
            case "not JSON":
                note.write_text("{")
            case "nothing that is text":
                note.write_bytes(b"\xff\xfe\0")
            case "a time that no clock has":
                note.write_text(re.sub('"last_used_at": .*', '"last_used_at": 1e999', note.read_text()))
            case "another's name":
                note.write_text(note.read_text().replace('"fox"', '"wolf"'))
            case "no pictures":
                note.write_text(json.dumps(json.loads(note.read_text()) | {"pictures": []}))
            case "a size that is none":
                note.write_text(re.sub('"width": .*', '"width": Infinity,', note.read_text()))
            case "another form":
                note.write_text('{"name": "fox", "pictures": 7}')
            case "a picture gone":
                picture.unlink()
            case "a picture changed":
                picture.write_bytes(saved(scene(300, 300), "JPEG"))
            case "a path":
                note.write_text(note.read_text().replace(picture.name, "../../../fox.jpg"))
        answer = await window.submit({"id": "fox"}, prompt="@fox sleeps")
        assert answer.is_error
        assert said(answer) == (
            f"What the cast kept of @fox is damaged ({note.parent}). "
            'Give its pictures again, with remember: "replace" to keep them. Nothing was sent or bought.'
        )
        assert not (await window.submit({"id": "fox", "images": str(fox)}, prompt="@fox wakes")).is_error
        assert not (await window.submit({"id": "lena"}, prompt="@lena waves")).is_error
        await window.submit({"id": "fox", "images": str(fox), "remember": "replace"}, prompt="@fox yawns")
        await window.submit({"id": "fox"}, prompt="@fox runs off")
        assert router.posts[-2]["subjects"] == router.posts[-1]["subjects"]

    async def test_a_cast_that_is_no_folder_is_told_and_jobs_with_pictures_of_their_own_go_on(
        self, router: FakeRouter, window: Window, data: Path, fox: Path
    ) -> None:
        no_folder(data / "cast")
        answer = await window.submit({"id": "fox"})
        assert "The cast cannot be read" in said(answer)
        assert "Not a directory. Nothing was sent or bought." in said(answer)
        assert not (await window.submit({"id": "fox", "images": str(fox)})).is_error
        answer = await window.submit({"id": "fox", "images": str(fox), "remember": True}, prompt="@fox sleeps")
        assert "The cast cannot be read" in said(answer)
        assert len(router.posts) == 1

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFO, whose reader waits for ever")
    async def test_a_disk_that_does_not_answer_holds_up_no_other_call_and_nobody_for_long(
        self, router: FakeRouter, window: Window, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(casting, "DISK_SECONDS", 0.3)  # real seconds, outside of our clock
        await window.submit({"id": "fox", "images": URL, "remember": True})
        (note,) = files(data)
        note.unlink()
        os.mkfifo(note)
        try:
            answer = await window.submit({"id": "fox"}, prompt="@fox sleeps")
            assert said(answer) == (
                "The disk of the cast did not answer within 0.3 s. "
                "Nothing was sent or bought. Give the pictures themselves, and tell the user."
            )
            async with window.process() as client:
                listed = await jobs(client)
                assert [job["task_id"] for job in told(listed)["jobs"]] == ["task-1"]
                assert "The disk of the cast did not answer within 0.3 s." in said(listed)
            assert not (await window.submit({"id": "fox", "images": URL}, prompt="@fox wakes up")).is_error
        finally:
            os.close(os.open(note, os.O_RDWR | os.O_NONBLOCK))  # its readers wait no longer
        assert len(router.posts) == 2

    async def test_over_http_no_path_of_the_server_is_told(self, window: Window, data: Path) -> None:
        no_folder(data / "cast")
        answer = await window.submit({"id": "fox"}, settings={"http": True})
        assert str(data) not in said(answer)
        assert said(answer).startswith("The cast cannot be read: Not a directory.")


class TestTwoProcesses:
    """Windows of one user, at once."""

    def test_whoever_reads_while_another_replaces_gets_a_whole_set_of_pictures(self, tmp_path: Path) -> None:
        cast = Cast(tmp_path)
        sets = [tuple(picture(10 * number + n) for n in range(3)) for number in range(2)]
        cast.keep(ACCOUNT, "fox", sets[0], now=1.0)
        with writing(tmp_path, rounds=60) as writer:
            seen = set()
            while writer.poll() is None:
                found = cast.load(ACCOUNT, "fox")
                assert found is not None
                seen.add(found[1])
            assert writer.wait() == 0
        assert {frozenset(one.sha256 for one in pictures if isinstance(one, Picture)) for pictures in seen} <= {
            frozenset(one.sha256 for one in pictures) for pictures in sets
        }

    def test_two_that_write_one_member_leave_one_whole(self, tmp_path: Path) -> None:
        with writing(tmp_path, rounds=40) as one, writing(tmp_path, rounds=40) as other:
            assert (one.wait(), other.wait()) == (0, 0)
        found = Cast(tmp_path).load(ACCOUNT, "fox")
        assert found is not None
        assert len(files(tmp_path)) == 1 + len(found[1])

    def test_of_two_that_keep_different_pictures_under_one_new_name_the_second_is_refused(self, tmp_path: Path) -> None:
        """Both were told before their jobs that the name is free."""
        one, other = Cast(tmp_path), Cast(tmp_path)
        for cast, number in ((one, 1), (other, 2)):
            cast.check(ACCOUNT, "fox", [picture(number)], replaces=False)
        one.keep(ACCOUNT, "fox", [picture(1)], now=1.0)
        with pytest.raises(InvalidCall, match="The cast has another @fox already"):
            other.keep(ACCOUNT, "fox", [picture(2)], now=2.0)

    def test_one_that_is_killed_while_it_writes_leaves_a_whole_member_and_nothing_that_stays(
        self, tmp_path: Path
    ) -> None:
        cast = Cast(tmp_path)
        cast.keep(ACCOUNT, "fox", [picture(0)], now=1.0)
        for moment in range(3):
            with writing(tmp_path, rounds=10_000) as writer:
                while cast.members(ACCOUNT)[0].last_used_at < 3:
                    assert writer.poll() is None
                for _ in range(moment * 7):
                    cast.names(ACCOUNT)
                writer.kill()
            found = cast.load(ACCOUNT, "fox")
            assert found is not None
            cast.keep(ACCOUNT, "fox", [picture(moment)], replaces=True, now=1.0)
            assert len(files(tmp_path)) == 2


def writing(folder: Path, rounds: int) -> subprocess.Popen[bytes]:
    """A process that keeps two sets of pictures in turn under one name."""
    program = f"""
from pathlib import Path
from test_cast import ACCOUNT, picture
from refvideo_mcp.cast import Cast
sets = [tuple(picture(10 * number + n) for n in range(3)) for number in range(2)]
for turn in range({rounds}):
    Cast(Path({str(folder)!r})).keep(ACCOUNT, "fox", sets[turn % 2], replaces=True, now=float(turn))
"""
    return subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parent, env=environment())


class TestTheRoom:
    """What the tools and the commands stand on."""

    def test_a_renamed_member_has_its_pictures_and_its_story(self, tmp_path: Path) -> None:
        cast = Cast(tmp_path)
        kept = cast.keep(ACCOUNT, "fox", [picture(1), URL], about="a fox", voice_id="v-1", now=1.0)
        cast.rename(ACCOUNT, "fox", "vixen")
        assert cast.get(ACCOUNT, "fox") is None
        found = cast.load(ACCOUNT, "vixen")
        assert found is not None
        assert [one if isinstance(one, str) else one.content for one in found[1]] == [picture(1).content, URL]
        assert (found[0].about, found[0].voice_id, found[0].saved_at) == ("a fox", "v-1", kept.saved_at)
        assert len(files(tmp_path)) == 2

    def test_a_name_is_taken_from_nobody(self, tmp_path: Path) -> None:
        cast = Cast(tmp_path)
        for name in ("fox", "lena"):
            cast.keep(ACCOUNT, name, [URL], now=1.0)
        with pytest.raises(InvalidCall, match="The cast has @lena already"):
            cast.rename(ACCOUNT, "fox", "lena")
        with pytest.raises(InvalidCall, match="The cast has no @moon: it has @fox, @lena"):
            cast.rename(ACCOUNT, "moon", "sun")
        assert cast.names(ACCOUNT, "lenna") == ["lena", "fox"]

    def test_a_removed_member_leaves_nothing(self, tmp_path: Path) -> None:
        cast = Cast(tmp_path)
        cast.keep(ACCOUNT, "fox", [picture(1)], now=1.0)
        cast.remove(ACCOUNT, "fox")
        assert (cast.names(ACCOUNT), files(tmp_path)) == ([], [])
        with pytest.raises(InvalidCall, match="The cast has no @fox: nobody is in it"):
            cast.remove(ACCOUNT, "fox")

    def test_a_damaged_member_can_be_found_and_removed(self, tmp_path: Path) -> None:
        cast = Cast(tmp_path)
        cast.keep(ACCOUNT, "fox", [URL], now=1.0)
        (note,) = files(tmp_path)
        note.write_text("[]")
        assert (cast.names(ACCOUNT), cast.damaged(ACCOUNT)) == ([], [(note.parent, None)])
        with pytest.raises(CastError, match="What the cast kept of @fox is damaged"):
            cast.get(ACCOUNT, "fox")
        cast.remove(ACCOUNT, "fox")
        assert cast.damaged(ACCOUNT) == []

    def test_the_same_letters_spelled_in_two_ways_are_one_name(self, tmp_path: Path) -> None:
        cast = Cast(tmp_path)
        cast.keep(ACCOUNT, "f\u00fcchsin", [URL], now=1.0)
        assert cast.get(ACCOUNT, "fu\u0308chsin") is not None

    def test_a_hundred_are_the_most(self, tmp_path: Path) -> None:
        cast = Cast(tmp_path)
        for number in range(100):
            cast.keep(ACCOUNT, f"fox-{number}", [URL], now=1.0)
        with pytest.raises(InvalidCall, match="The cast has 100 members, and takes no more"):
            cast.keep(ACCOUNT, "one-more", [URL], now=1.0)
        cast.keep("local@other.example", "fox", [URL], now=1.0)


@BOTH_ERAS
class TestWhereItIsShown:
    async def test_the_list_of_jobs_names_who_is_in_it(self, window: Window, fox: Path, mode: str) -> None:
        window.mode = mode
        about = "a red fox with a lantern in its mouth"
        await window.submit({"id": "lena", "images": URL, "remember": True}, prompt="@lena")
        await window.submit({"id": "fox", "images": str(fox), "remember": True, "about": about})
        async with window.process() as client:
            answer = await client.call_tool("list_reference_videos", {})
            of_one = await client.call_tool("list_reference_videos", {"task_id": "task-1"})
        assert "Cast, taken by id alone: @fox (a red fox with a lantern…), @lena." in said(answer)
        assert told(answer)["cast"] == [{"id": "fox", "about": about}, {"id": "lena"}]
        assert "Cast" not in said(of_one)
        assert "cast" not in told(of_one)

    async def test_an_empty_one_is_not_mentioned(self, window: Window, mode: str) -> None:
        window.mode = mode
        async with window.process() as client:
            answer = await client.call_tool("list_reference_videos", {})
            read = (await client.read_resource("refvideo://cast")).contents[0]
        assert said(answer).startswith("No jobs yet.")
        assert "cast" not in said(answer).lower()
        assert "cast" not in told(answer)
        assert isinstance(read, TextResourceContents)
        assert json.loads(read.text) == []

    async def test_one_that_cannot_be_read_is_named_with_the_jobs(self, window: Window, data: Path, mode: str) -> None:
        window.mode = mode
        await window.submit({"id": "lena", "images": URL}, prompt="@lena")
        no_folder(data / "cast")
        async with window.process() as client:
            answer = await client.call_tool("list_reference_videos", {})
            with pytest.raises(MCPError, match="The cast cannot be read"):
                await client.read_resource("refvideo://cast")
        assert "task-1" in said(answer)
        assert "The cast cannot be read" in said(answer)
        assert "The cast cannot be read" in told(answer)["next_step"]

    async def test_a_resource_shows_everybody_with_a_small_picture(self, window: Window, fox: Path, mode: str) -> None:
        window.mode = mode
        await window.submit({"id": "lena", "images": URL, "voice_id": "v-1", "remember": True}, audio=True)
        await window.submit({"id": "fox", "images": str(fox), "remember": True, "about": "a fox"})
        async with window.process() as client:
            assert [str(found.uri) for found in (await client.list_resources()).resources] == ["refvideo://cast"]
            (content,) = (await client.read_resource("refvideo://cast")).contents
        assert isinstance(content, TextResourceContents)
        shown, lena = json.loads(content.text)
        assert shown.pop("picture").startswith("data:image/jpeg;base64,/9j/")
        assert shown.pop("last_used_at").endswith("+00:00")
        assert shown == {"id": "fox", "about": "a fox", "pictures": 1}
        assert lena.pop("last_used_at")
        assert lena == {"id": "lena", "pictures": 1, "voice_id": "v-1"}

    @pytest.mark.parametrize(
        ("argument", "written", "completed"),
        [
            ("images", "", ["@fox", "@fred", "@lena"]),
            ("images", "F", ["@fox", "@fred"]),
            ("images", "~/cat.png, @fr", ["~/cat.png, @fred"]),
            ("images", "@zoe", []),
            ("idea", "The fox and @le", ["The fox and @lena"]),
            ("idea", "The fo", []),
        ],
    )
    async def test_a_client_that_offers_the_prompt_completes_names(
        self, window: Window, mode: str, argument: str, written: str, completed: list[str]
    ) -> None:
        window.mode = mode
        for name in ("lena", "fred", "fox"):
            await window.submit({"id": name, "images": URL, "remember": True}, prompt=f"@{name}")
        async with window.process() as client:
            ref = PromptReference(type="ref/prompt", name="reference_video")
            answer = await client.complete(ref, {"name": argument, "value": written})
        assert sorted(answer.completion.values) == completed
