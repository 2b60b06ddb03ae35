"""Pictures that never had a path: given to the player in a chat app's page, by all ways that a person has."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp_types import CallToolResult
from playwright.async_api import Browser, Page, expect

from http_server import HttpServer
from marker import KEY
from player_host import EVERYTHING, Chat, ChatApp, Player
from refvideo_mcp.app import build_server
from refvideo_mcp.sandbox import Sandbox
from refvideo_mcp.settings import Settings
from stdio_server import StdioServer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for all of these tests, because they share a browser."""
    return "asyncio"


@pytest.fixture
def chat(browser: Browser, drawn: Path, tmp_path: Path) -> Chat:
    @asynccontextmanager
    async def opened(*, width: int = 760, is_phone: bool = False) -> AsyncIterator[ChatApp]:
        with Sandbox(seconds=0.5, folder=drawn / "clips") as sandbox:
            places = {"output_dir": "videos", "data_dir": "data", "cache_dir": "cache", "database": "ledger.db"}
            folders: dict[str, Any] = {name: tmp_path / place for name, place in places.items()}
            settings = Settings(base_url=sandbox.url, api_key=KEY, **folders)
            async with ChatApp.running(browser, build_server(settings), width=width, is_phone=is_phone) as app:
                yield app

    return opened


async def asks(app: ChatApp, *ids: str, **options: Any) -> Player:
    """The player of a call whose subjects have no pictures."""
    player = await app.open("generate_reference_video", **options)
    await call(app, player, *ids)
    await player.settled("pictures")
    return player


async def call(app: ChatApp, player: Player, *ids: str) -> CallToolResult:
    """The model's call of a video without pictures, as its host shows it to the page."""
    request = {"prompt": " meets ".join(f"@{id}" for id in ids), "subjects": [{"id": id} for id in ids], "duration": 2}
    await player.input(**request)
    result = await app.client.call_tool("generate_reference_video", request)
    await player.result(result)
    return result


def field(player: Player, id: str) -> Any:
    return player.frame.get_by_role("group", name=f"@{id}")


async def choose(player: Player, id: str, *files: Path) -> None:
    async with player.page.expect_file_chooser() as opened:
        await field(player, id).get_by_role("button", name="Choose").click()
    await (await opened.value).set_files(list(files))


async def test_chosen_pictures_of_two_subjects_reach_the_server_and_the_chat(chat: Chat, drawn: Path) -> None:
    async with chat() as app:
        player = await asks(app, "fox", "lantern", theme="light")
        await expect(
            player.frame.get_by_role("heading", name="Pictures of @fox and @lantern are missing")
        ).to_be_visible()
        send = player.frame.get_by_role("button", name="Use these pictures")
        await player.screenshot("pictures-asked")
        await choose(player, "fox", drawn / "fox.png", drawn / "fox.png")
        await expect(send).to_be_disabled()
        await choose(player, "lantern", drawn / "lantern.png")
        await expect(field(player, "fox").get_by_role("img")).to_have_count(2)
        await player.screenshot("pictures-chosen")
        await send.click()
        await expect(
            player.frame.get_by_role("heading", name="The pictures of @fox and @lantern are here.")
        ).to_be_visible()
        await expect(player.frame.get_by_role("status")).to_have_text("The chat knows.")
        await player.screenshot("pictures-here")
        (message,) = await player.asked("message")
    assert message["role"] == "user"
    assert message["content"] == [{"type": "text", "text": "The pictures of @fox and @lantern are here."}]


async def drop(player: Player, id: str, *files: Path) -> None:
    """From the system, as its own drag and drop."""
    box = await field(player, id).bounding_box()
    assert box
    session = await player.page.context.new_cdp_session(player.page)
    where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    for step in ("dragEnter", "dragOver", "drop"):
        await session.send("Input.dispatchDragEvent", {"type": step, **where, "data": data})


async def copy_picture(page: Page, picture: bytes) -> None:
    """Put a picture into the clipboard, as a screenshot is."""
    elsewhere = await page.context.new_page()
    await elsewhere.route("https://elsewhere.test/", lambda route: route.fulfill(body="", content_type="text/html"))
    await elsewhere.goto("https://elsewhere.test/")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin="https://elsewhere.test")
    put = "async (data) => navigator.clipboard.write([new ClipboardItem({'image/png': (await fetch(data)).blob()})])"
    await elsewhere.evaluate(put, f"data:image/png;base64,{base64.b64encode(picture).decode()}")
    await elsewhere.close()


async def test_a_picture_is_dropped_and_another_pasted(chat: Chat, drawn: Path) -> None:
    async with chat() as app:
        player = await asks(app, "fox", "lantern", theme="dark")
        await drop(player, "lantern", drawn / "lantern.png")
        await expect(field(player, "lantern").get_by_role("img", name="lantern.png")).to_be_visible()
        await copy_picture(app.page, (drawn / "fox.png").read_bytes())
        await field(player, "fox").get_by_role("button", name="Choose").focus()
        await app.page.keyboard.press("Control+V")
        await expect(field(player, "fox").get_by_role("img", name="image.png")).to_be_visible()
        await player.screenshot("pictures-dark")


async def test_what_is_no_picture_or_too_large_is_left_out_with_the_reason(
    chat: Chat, drawn: Path, tmp_path: Path
) -> None:
    notes, large, masked = tmp_path / "notes.pdf", tmp_path / "large.png", tmp_path / "masked.png"
    notes.write_bytes(b"%PDF-1.7")
    large.write_bytes((drawn / "fox.png").read_bytes().ljust(21_000_000, b"\0"))
    masked.write_bytes(b"%PDF-1.7 under another name")
    async with chat() as app:
        player = await asks(app, "fox", theme="light")
        fault = field(player, "fox").get_by_role("alert")
        await choose(player, "fox", notes, drawn / "fox.png")
        await expect(fault).to_have_text("notes.pdf is no picture. Use a JPEG or PNG.")
        await choose(player, "fox", large)
        await expect(fault).to_have_text("large.png has 21 MB; 20 MB are the most. Use a smaller one.")
        await player.screenshot("pictures-too-large")
        await choose(player, "fox", *[drawn / "fox.png"] * 3)
        await expect(fault).to_have_text("fox.png is left out: 3 pictures are the most.")
        await expect(field(player, "fox").get_by_role("button", name="Choose")).to_be_hidden()
        for _ in range(3):
            await field(player, "fox").get_by_role("button", name="Remove fox.png").first.click()
        await expect(field(player, "fox").get_by_role("img")).to_have_count(0)
        await expect(player.frame.get_by_role("button", name="Use these pictures")).to_be_disabled()
        await choose(player, "fox", masked)
        await player.frame.get_by_role("button", name="Use these pictures").click()
        told = "masked.png is a PDF document. Export the page or picture as a JPEG or PNG. Nothing was sent."
        await expect(fault).to_have_text(told)
        assert await player.asked("message") == []


async def test_pictures_are_given_with_the_keyboard_alone(chat: Chat, drawn: Path) -> None:
    async with chat() as app:
        player = await asks(app, "fox")
        focused = "() => document.activeElement.ariaLabel ?? document.activeElement.textContent"
        await app.page.keyboard.press("Tab")
        assert await player.evaluate(focused) == "Choose: @fox"
        for picture in ("fox", "lantern"):
            async with app.page.expect_file_chooser() as opened:
                await player.evaluate("() => new Promise(requestAnimationFrame)")  # until the browser listens, too
                await app.page.keyboard.press("Enter")
            await (await opened.value).set_files(drawn / f"{picture}.png")
            await expect(field(player, "fox").get_by_role("img", name=f"{picture}.png")).to_be_visible()
        await app.page.keyboard.press("Shift+Tab")
        assert await player.evaluate(focused) == "Remove lantern.png"
        await app.page.keyboard.press("Space")
        assert await player.evaluate(focused) == "Remove fox.png"
        await app.page.keyboard.press("Tab")
        await app.page.keyboard.press("Tab")
        assert await player.evaluate(focused) == "Use these pictures"
        await app.page.keyboard.press("Enter")
        await expect(player.frame.get_by_role("status")).to_have_text("The chat knows.")
        (message,) = await player.asked("message")
    assert message["content"][0]["text"] == "The pictures of @fox are here."


async def test_on_a_small_phone_the_camera_is_offered_and_nothing_is_too_wide(chat: Chat, drawn: Path) -> None:
    async with chat(width=320, is_phone=True) as app:
        await app.page.add_style_tag(content="body { padding: 0 !important }")
        player = await asks(app, "fox", "a-lantern-with-a-name-that-is-rather-long-for-a-phone", theme="dark")
        async with app.page.expect_file_chooser() as opened:
            await field(player, "fox").get_by_role("button", name="Take a photo").click()
        await (await opened.value).set_files(drawn / "fox.png")
        await choose(player, "fox", drawn / "lantern.png")
        await expect(field(player, "fox").get_by_role("img")).to_have_count(2)
        await player.screenshot("pictures-phone")
        fits = "() => [...document.querySelectorAll('*')].every(e => e.getBoundingClientRect().right <= 320)"
        assert await player.evaluate(fits)


async def test_what_does_not_get_through_is_said_and_sent_again(chat: Chat, drawn: Path) -> None:
    """Where the server is gone, where it was restarted half way, and where it is back."""
    gone = "async () => { throw new Error('Connection closed.') }"
    forgets = "{ ...params.arguments, upload: params.arguments.offset ? 'unknown' : params.arguments.upload }"
    async with chat() as app:
        player = await asks(app, "fox", "lantern")
        for id in ("fox", "lantern"):
            await choose(player, id, drawn / f"{id}.png")
        send = player.frame.get_by_role("button", name="Use these pictures")
        for host, said in (
            (gone, "The pictures did not get through (Connection closed). Send them again."),
            (
                f"(params) => call_tool({{ ...params, arguments: {forgets} }})",
                "The upload was interrupted, and what had arrived is gone. Send the pictures again.",
            ),
        ):
            await app.page.evaluate(f"() => {{ bridge.oncalltool = {host} }}")
            await send.click()
            await expect(field(player, "fox").get_by_role("alert")).to_have_text(said)
        await player.screenshot("pictures-server-gone")
        await app.page.evaluate("() => { bridge.oncalltool = (params) => call_tool(params) }")
        await send.click()
        await expect(player.frame.get_by_role("status")).to_have_text("The chat knows.")


@pytest.mark.parametrize(
    ("can", "said"),
    [
        (["serverTools", "updateModelContext"], "Noted. Say so in the chat."),
        (["serverTools"], "Copied. Paste it into the chat."),
    ],
)
async def test_where_the_page_may_not_write_into_the_chat_it_says_what_to_do(
    chat: Chat, drawn: Path, can: list[str], said: str
) -> None:
    async with chat() as app:
        player = await asks(app, "fox", capabilities={name: EVERYTHING[name] for name in can})
        await choose(player, "fox", drawn / "fox.png")
        await player.frame.get_by_role("button", name="Use these pictures").click()
        await expect(player.frame.get_by_role("status")).to_have_text(said)
        noted = [one["content"][0]["text"] for one in await player.asked("context")]
        assert noted == (["The pictures of @fox are here."] if "updateModelContext" in can else [])


@asynccontextmanager
async def door(name: str, home: Path, router_url: str) -> AsyncIterator[Any]:
    """What a client connects to."""
    settings = {"REFVIDEO_OUTPUT_DIR": "off", "REFVIDEO_DATA_DIR": str(home / "data")}
    if name == "stdio":
        settings |= {"REFVIDEO_PREVIEW": "on", "XDG_CACHE_HOME": str(home / "cache")}
        async with StdioServer.running(home, router_url, **settings) as server:
            yield server.pipes()
    else:
        async with HttpServer.running(home, router_url, **settings) as served:
            yield served.url


@pytest.mark.parametrize("name", ["stdio", "HTTP"])
async def test_a_video_is_made_of_pictures_that_never_had_a_path(
    browser: Browser, drawn: Path, tmp_path: Path, name: str
) -> None:
    with Sandbox(seconds=0.5, folder=drawn / "clips") as sandbox:
        async with door(name, tmp_path, sandbox.url) as server, ChatApp.running(browser, server) as app:
            player = await asks(app, "fox", "lantern")
            await copy_picture(app.page, (drawn / "fox.png").read_bytes())
            await field(player, "fox").get_by_role("button", name="Choose").focus()
            await app.page.keyboard.press("Control+V")
            await drop(player, "lantern", drawn / "lantern.png")
            await player.frame.get_by_role("button", name="Use these pictures").click()
            await expect(player.frame.get_by_role("status")).to_have_text("The chat knows.")
            assert {one["name"] for one in await player.asked("tool")} == {"add_pictures"}

            player = await app.open("generate_reference_video")
            made = await call(app, player, "fox", "lantern")
            assert not made.is_error, made.content
            await player.settled("playing")
            subjects = player.frame.get_by_role("list", name="Subjects").get_by_role("listitem")
            await expect(subjects).to_have_text(["@fox", "@lantern"])
