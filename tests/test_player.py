"""The player in a browser: a chat app's page with the official bridge, the real server, the sandbox behind."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp_types import CallToolResult, TextContent
from playwright.async_api import Browser, expect

from marker import KEY
from player_host import EVERYTHING, Chat, ChatApp, Player
from refvideo_mcp.app import build_server
from refvideo_mcp.sandbox import Sandbox
from refvideo_mcp.settings import Settings

pytestmark = pytest.mark.anyio

PROMPT = "@fox follows @lantern home, slow dolly in"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for all of these tests, because they share a browser."""
    return "asyncio"


def order(drawn: Path, rehearsal: str = "", **changes: Any) -> dict[str, Any]:
    subjects = [{"id": name, "images": [str(drawn / f"{name}.png")]} for name in ("fox", "lantern")]
    prompt = f"{PROMPT} [rehearse:{rehearsal}]" if rehearsal else PROMPT
    return {"prompt": prompt, "subjects": subjects, "duration": 2, "resolution": "540p", "seed": 33311, **changes}


@pytest.fixture
def chat(browser: Browser, drawn: Path, tmp_path: Path) -> Chat:
    """Opens a chat app; videos are saved below `tmp_path`, and the page may load them from the router, too."""

    @asynccontextmanager
    async def opened(
        *, seconds: float = 0.5, link_seconds: float = 3600, width: int = 760, **settings: Any
    ) -> AsyncIterator[ChatApp]:
        chosen = {"api_key": KEY, "output_dir": tmp_path / "videos", "database": tmp_path / "ledger.db", **settings}
        with Sandbox(seconds=seconds, folder=drawn / "clips", link_seconds=link_seconds) as sandbox:
            server = build_server(Settings(base_url=sandbox.url, **chosen))
            async with ChatApp.running(browser, server, width=width) as app:
                yield app

    return opened


def only(folder: Path) -> Path:
    """The video that is in there."""
    (file,) = folder.glob("*.mp4")
    return file


async def start(app: ChatApp, player: Player, request: dict[str, Any]) -> CallToolResult:
    """The model's call, as its host shows it to the page."""
    await player.input(**request)
    result = await app.client.call_tool("generate_reference_video", request)
    await player.result(result)
    return result


async def plays(player: Player) -> None:
    """Whether the film moves when somebody presses play."""
    await player.frame.locator("video").focus()
    await player.page.keyboard.press("Space")
    await player.until("() => document.querySelector('video').currentTime > 0.2")


async def test_progress_moves_without_the_model_and_then_the_video_plays(
    chat: Chat, drawn: Path, tmp_path: Path
) -> None:
    async with chat(seconds=9, cache_dir=tmp_path / "cache") as app:
        player = await app.open("generate_reference_video", theme="light")
        await start(app, player, order(drawn))
        await expect(player.frame.get_by_role("heading", name=PROMPT)).to_be_visible()
        await player.until("() => document.querySelector('progress').value > 0")
        first = await player.evaluate("() => document.querySelector('progress').value")
        await expect(player.frame.locator("#state")).to_have_text(re.compile(r"^Rendering"))
        await player.screenshot("working")
        await player.until(f"() => document.querySelector('progress').value > {first}")
        await expect(player.frame.get_by_role("timer")).to_have_text(re.compile(r"0:(0[3-9]|[1-9]\d)"))

        await player.settled("playing")
        assert str(await player.evaluate("() => document.querySelector('video').src")).startswith("http://127.0.0.1:")
        await expect(player.frame.get_by_text("2 s · 960\u00d7540 · seed 33311")).to_be_visible()
        await expect(player.frame.locator("#place")).to_contain_text(f"Saved at {tmp_path}")
        subjects = player.frame.get_by_role("list", name="Subjects").get_by_role("listitem")
        await expect(subjects).to_have_text(["@fox", "@lantern"])
        await player.until("() => [...document.querySelectorAll('#subjects img')].every(i => i.naturalWidth === 128)")
        await player.screenshot("done")
        await plays(player)

        calls = await player.asked("tool")
        (context,) = await player.asked("context")
    assert {call["name"] for call in calls} == {"get_task_result"}
    assert context["content"][0]["text"].startswith("Done: ")


async def test_a_saved_video_plays_where_the_host_forbids_remote_media(chat: Chat, drawn: Path, tmp_path: Path) -> None:
    async with chat(sandbox=True, output_dir=tmp_path) as app:
        player = await app.open("get_task_result", theme="dark")
        started = await app.client.call_tool("generate_reference_video", order(drawn))
        result = await app.client.call_tool("get_task_result", {"task_id": started.structured_content["task_id"]})
        file = only(tmp_path)
        with file.open("ab") as video:  # behind the last frame there is room for anything
            video.write((2**20).to_bytes(4) + b"free" + bytes(2**20 - 8))
        await player.input(task_id=started.structured_content["task_id"])
        await player.result(result)
        await player.settled("playing")
        assert str(await player.evaluate("() => document.querySelector('video').src")).startswith("data:video/mp4;")
        await expect(player.frame.get_by_text("Sandbox", exact=True)).to_be_visible()
        await player.screenshot("done-dark")
        await plays(player)
        offsets = [c["arguments"]["offset"] for c in await player.asked("tool") if c["name"] == "read_video_piece"]
    assert len(offsets) >= 3
    assert offsets == sorted(offsets)


async def test_a_dead_link_is_asked_for_afresh(chat: Chat, drawn: Path) -> None:
    async with chat(output_dir=None, link_seconds=30) as app:
        player = await app.open("get_task_result")
        started = await app.client.call_tool("generate_reference_video", order(drawn, "expired-link-once"))
        task = started.structured_content["task_id"]
        result = await app.client.call_tool("get_task_result", {"task_id": task})
        assert result.structured_content["state"] == "succeeded"
        await player.result(result)
        await player.settled("playing")
        assert player.fetched[0] == result.structured_content["videos"][0]["url"]
        assert len(set(player.fetched)) == 2
        assert "get_task_result" in [call["name"] for call in await player.asked("tool")]
        await plays(player)


async def test_a_failed_job_shows_its_reason(chat: Chat, drawn: Path) -> None:
    async with chat() as app:
        player = await app.open("generate_reference_video")
        await start(app, player, order(drawn, "task-failed"))
        await player.settled("trouble")
        await expect(player.frame.get_by_role("heading", name="The job failed")).to_be_visible()
        await expect(player.frame.locator("#note")).to_have_text(
            re.compile(r"ILLEGAL_IMAGE_CONTENT\. The content rules refused a picture: .+ Whether it was billed: see .+")
        )
        await expect(player.frame.get_by_role("button")).to_have_count(0)
        await player.screenshot("failed")


@pytest.mark.parametrize(
    ("rehearsal", "heading", "note"),
    [
        ("NOT_ENOUGH_BALANCE", "Nothing was bought", r"NOT_ENOUGH_BALANCE.* Top up the account at 127\.0\.0\.1"),
        ("drop-after", "Nobody knows whether this job was bought", r"billed.* Look for the job in the console of 127"),
    ],
)
async def test_a_job_that_may_be_on_the_bill_does_not_look_like_none(
    chat: Chat, drawn: Path, rehearsal: str, heading: str, note: str
) -> None:
    """The person who looks at it has no tools and no user."""
    async with chat() as app:
        player = await app.open("generate_reference_video", theme="dark")
        await start(app, player, order(drawn, rehearsal))
        await expect(player.frame.get_by_role("heading", name=heading)).to_be_visible()
        await expect(player.frame.locator("#note")).to_have_text(re.compile(note))
        await expect(player.frame.locator("#note")).not_to_contain_text(re.compile("the user|task_result|call again"))
        await player.screenshot("refused")


async def test_a_refused_call_says_why(chat: Chat) -> None:
    async with chat() as app:
        player = await app.open("generate_reference_video", theme="dark")
        await player.result(await app.client.call_tool("generate_reference_video", {"prompt": "no subjects"}))
        await expect(player.frame.get_by_role("heading", name="No job was started")).to_be_visible()
        await expect(player.frame.locator("#note")).to_contain_text("is missing")
        broken = CallToolResult(content=[TextContent(type="text", text="Error executing tool")], is_error=True)
        await player.result(broken)
        await expect(player.frame.get_by_role("heading", name="The call failed")).to_be_visible()


@pytest.mark.parametrize("saved", [True, False], ids=["saved", "not-saved"])
async def test_where_it_may_not_play_it_says_where_the_video_is(
    chat: Chat, drawn: Path, tmp_path: Path, saved: bool
) -> None:
    can = {name: EVERYTHING[name] for name in ("openLinks", "message")}
    async with chat(sandbox=True, output_dir=tmp_path if saved else None) as app:
        player = await app.open("generate_reference_video", capabilities=can)
        started = await start(app, player, order(drawn))
        await expect(player.frame.get_by_text("ask for it in the chat")).to_be_visible()
        await player.screenshot("not-proxied")
        await player.frame.get_by_role("button", name="Ask for the result").click()
        await expect(player.frame.get_by_role("status")).to_have_text("Your question is in the chat.")
        result = await app.client.call_tool("get_task_result", {"task_id": started.structured_content["task_id"]})
        await player.result(result)
        await player.settled("elsewhere")
        await expect(player.frame.locator("#note")).to_have_text("This app does not let the player load the video.")
        place = player.frame.locator("#place")
        if saved:
            file = only(tmp_path)
            await expect(place).to_contain_text(f"The file is at {file}")
            await expect(player.frame.get_by_role("img", name="References")).to_be_visible()
        else:
            await expect(place).to_be_hidden()
        await player.screenshot(f"elsewhere-{'saved' if saved else 'not-saved'}")
        await player.frame.get_by_role("button", name="Open video").click()
        await expect(player.frame.get_by_role("status")).to_be_visible()
        (link,) = await player.asked("link")
    assert link["url"] == result.structured_content["videos"][0]["url"]


async def finished(app: ChatApp, drawn: Path, **options: Any) -> Player:
    player = await app.open("generate_reference_video", **options)
    await start(app, player, order(drawn))
    await player.settled("playing")
    return player


async def test_another_take_is_only_asked_for_in_the_chat(chat: Chat, drawn: Path) -> None:
    async with chat() as app:
        player = await finished(app, drawn)
        await player.frame.get_by_role("button", name="Another take").click()
        await expect(player.frame.get_by_role("status")).to_have_text("Your wish is in the chat.")
        (message,) = await player.asked("message")
        assert message["role"] == "user"
        wish = message["content"][0]["text"]
        assert re.fullmatch(
            r"Another take, please: the same prompt and pictures as job \S+, another seed than 33311\.", wish
        )
        assert "generate_reference_video" not in [call["name"] for call in await player.asked("tool")]

        quiet = {name: can for name, can in EVERYTHING.items() if name != "message"}
        player = await finished(app, drawn, capabilities=quiet)
        await player.frame.get_by_role("button", name="Another take").click()
        await expect(player.frame.get_by_role("status")).to_have_text("Noted. Say so in the chat.")
        assert (await player.asked("context"))[-1]["content"][0]["text"].startswith("Another take, please")


async def test_the_link_and_the_path_are_copied_and_the_file_is_handed_over(
    chat: Chat, drawn: Path, tmp_path: Path
) -> None:
    async with chat() as app:
        player = await finished(app, drawn)
        link = await player.evaluate("() => document.querySelector('video').src")
        await app.page.evaluate("document.body.append(document.createElement('textarea'))")
        pasted = app.page.locator("textarea")
        file = only(tmp_path / "videos")
        for button, text in (("Copy link", link), ("Copy path", str(file))):
            await player.frame.get_by_role("button", name=button).click()
            await expect(player.frame.get_by_role("status")).to_have_text(re.compile(r"copied\.$"))
            await pasted.fill("")
            await pasted.focus()
            await app.page.keyboard.press("Control+V")
            await expect(pasted).to_have_value(text)
        await player.frame.get_by_role("button", name="Download").click()
        await expect(player.frame.get_by_role("status")).to_have_text("Handed over for download.")
        (download,) = await player.asked("download")
    expected = {"type": "resource_link", "uri": link, "name": file.name, "mimeType": "video/mp4"}
    assert download["contents"] == [expected]


async def test_it_is_used_with_the_keyboard_and_read_by_a_screen_reader(chat: Chat, drawn: Path) -> None:
    async with chat(seconds=5) as app:
        player = await app.open("generate_reference_video")
        await start(app, player, order(drawn))
        status = player.frame.get_by_role("status")
        await expect(status).to_have_text(re.compile("^(In the queue|Rendering)"))
        progress = player.frame.get_by_role("progressbar")
        await expect(progress).to_have_accessible_name(re.compile("^(In the queue|Rendering)"))
        await player.settled("playing")
        await expect(status).to_have_text("The video is ready.")
        await expect(progress).to_be_hidden()
        await expect(player.frame.locator("video")).to_have_attribute("aria-label", PROMPT)
        reached: list[str] = []
        for _ in range(12):
            await app.page.keyboard.press("Tab")
            name = await player.evaluate(
                "() => document.activeElement.ariaLabel ?? document.activeElement.textContent.trim()"
            )
            if not reached or name != reached[-1]:  # the video's own controls come one by one
                reached.append(name)
    assert reached[:5] == [PROMPT, "Copy path", "Download", "Copy link", "Another take"]


async def test_nothing_is_wider_than_a_small_phone(chat: Chat, drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a folder with a rather long name" / ("and-another-one-without-any-space" * 3)
    async with chat(seconds=3, width=320, output_dir=folder) as app:
        await app.page.add_style_tag(content="body { padding: 0 !important }")
        fits = "() => [...document.querySelectorAll('*')].every(e => e.getBoundingClientRect().right <= 320)"
        player = await app.open("generate_reference_video")
        await start(app, player, order(drawn, aspect_ratio="9:16"))
        assert await player.evaluate(fits)
        await player.screenshot("phone-working")
        await player.settled("playing")
        assert await player.evaluate(fits)
        await player.screenshot("phone-done")
        player = await app.open("generate_reference_video")
        await start(app, player, order(drawn, "task-failed:" + "WORD_" * 40))
        await player.settled("trouble")
        assert await player.evaluate(fits)
        await player.screenshot("phone-failed")


async def test_it_takes_the_hosts_colours_and_follows_them(chat: Chat) -> None:
    colour = "() => getComputedStyle(document.getElementById('player')).backgroundColor"
    async with chat() as app:
        player = await app.open("generate_reference_video", theme="dark")
        dark = await player.evaluate(colour)
        await app.page.evaluate("bridge.sendHostContextChange({ theme: 'light' })")
        await player.until("() => document.documentElement.dataset.theme === 'light'")
        light = await player.evaluate(colour)
        variables = {"--color-background-primary": "light-dark(rgb(1, 2, 3), black)", "--font-sans": "Georgia"}
        styles = {"styles": {"variables": variables}, "safeAreaInsets": {"top": 7, "right": 0, "bottom": 0, "left": 0}}
        await app.page.evaluate("styles => bridge.sendHostContextChange(styles)", styles)
        await player.until("() => getComputedStyle(document.body).fontFamily === 'Georgia'")
        theirs = await player.evaluate(colour)
        inset = await player.evaluate("() => getComputedStyle(document.body).paddingTop")
    assert (dark, light, theirs, inset) == ("rgb(28, 27, 34)", "rgb(255, 255, 255)", "rgb(1, 2, 3)", "7px")


async def test_it_does_not_ask_while_nobody_sees_it(chat: Chat, drawn: Path) -> None:
    turn = "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true }); "
    turn += "document.dispatchEvent(new Event('visibilitychange')); }"
    async with chat() as app:
        player = await app.open("generate_reference_video")
        await player.evaluate(f"() => ({turn})(true)")
        await start(app, player, order(drawn))
        await expect(player.frame.locator("#state")).to_have_text("In the queue")
        assert await player.asked("tool") == []
        await player.evaluate(f"() => ({turn})(false)")
        await player.settled("playing")


async def test_it_stops_asking_when_the_host_takes_it_down(chat: Chat, drawn: Path) -> None:
    async with chat() as app:
        player = await app.open("generate_reference_video")
        await start(app, player, order(drawn, "never-ends"))
        await player.until("() => document.querySelector('progress').value === 99")
        await app.page.evaluate("bridge.teardownResource({})")
        await app.page.wait_for_function("answered.length === asked.filter(one => one.kind === 'tool').length")
        await player.evaluate("() => new Promise(setTimeout)")
        assert len(await player.asked("tool")) == await app.page.evaluate("answered.length")
