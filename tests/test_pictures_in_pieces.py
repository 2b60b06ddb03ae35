"""How the player hands over pictures that have no path: in pieces, through a tool that only it knows."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.extension import advertise
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp_types import CallToolResult
from PIL import Image

from fake_router import FakeRouter, process, said
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
SHOWS_APPS = [advertise(EXTENSION_ID, {"mimeTypes": [APP_MIME_TYPE]})]
AGAIN = "Send the pictures again."


DAY = 24 * 3600.0
FOX: dict[str, Any] = {"prompt": "@fox runs", "subjects": [{"id": "fox"}]}


def window(folder: Path, clock: VirtualClock, router: FakeRouter | None = None, **options: Any) -> Client:
    """A client that shows apps, with a server process of its own."""
    options = {"data_dir": folder / "data", "extensions": SHOWS_APPS, **options}
    return process(router or FakeRouter(clock), folder / "ledger.db", **options)


def png(colour: str = "gold", size: tuple[int, int] = (600, 400)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, "PNG")
    return content.getvalue()


async def give(client: Client, *pictures: bytes, subject: str = "fox") -> CallToolResult:
    """All of them in one piece."""
    return await add(
        client, 0, b"".join(pictures), [(f"{len(one)}.png", len(one)) for one in pictures], subject=subject
    )


async def add(
    client: Client,
    offset: int,
    piece: bytes | str,
    pictures: Sequence[tuple[str, int]],
    upload: str = "upload-1",
    subject: str = "fox",
) -> CallToolResult:
    data = piece if isinstance(piece, str) else base64.b64encode(piece).decode()
    told = [{"name": name, "size": size} for name, size in pictures]
    arguments = {"upload": upload, "subject": subject, "pictures": told, "offset": offset, "data": data}
    return await client.call_tool("add_pictures", arguments)


@ERAS
async def test_pieces_of_two_pictures_are_put_together(tmp_path: Path, era: str) -> None:
    front, back = png("gold"), png("navy")
    both, pictures = front + back, [("front.png", len(front)), ("back.png", len(back))]
    middle = len(front) - 10
    async with window(tmp_path, VirtualClock(), mode=era) as client:
        first = await add(client, 0, both[:middle], pictures)
        second = await add(client, middle, both[middle:], pictures)
    assert (first.structured_content, second.structured_content) == ({"kept": False}, {"kept": True})
    assert said(second) == "The pictures of @fox are here."


async def test_a_refusal_names_the_picture_and_speaks_to_a_person(tmp_path: Path) -> None:
    pdf = b"%PDF-1.7"
    async with window(tmp_path, VirtualClock()) as client:
        refused = await add(client, 0, png() + pdf, [("fox.png", len(png())), ("notes.png", len(pdf))])
    assert refused.is_error
    assert (refused.meta or {})["refvideo/job"] == {
        "told": "notes.png is a PDF document. Export the page or picture as a JPEG or PNG. Nothing was sent.",
        "isRefused": True,
    }


async def test_a_picture_of_21_mb_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async with window(tmp_path, VirtualClock()) as client:
        refused = await add(client, 0, b"\x89PNG", [("large.png", 21_000_000)])
    assert said(refused) == "large.png has 21 MB; 20 MB are the most. Use a smaller picture."


async def test_what_does_not_fit_together_is_sent_again(tmp_path: Path) -> None:
    clock, picture = VirtualClock(), png()
    told = [("fox.png", len(picture))]
    lost = f"The upload was interrupted, and what had arrived is gone. {AGAIN}"
    async with clock.passing(), window(tmp_path, clock) as client:
        assert said(await add(client, 10, picture[10:], told)) == lost
        await add(client, 0, picture[:10], told)
        assert said(await add(client, 20, picture[20:], told)) == lost
        assert said(await add(client, 10, "no base64", told)) == f"A piece of the pictures arrived damaged. {AGAIN}"
        too_much = await add(client, 10, picture[10:] + b"more", told)
        assert said(too_much) == f"The pictures are not as large as they were said to be. {AGAIN}"
        await clock.sleep(301)
        assert said(await add(client, 10, picture[10:], told)) == lost
        assert (await add(client, 0, picture, told, "upload-2")).structured_content == {"kept": True}


async def test_an_account_that_begins_more_gives_up_its_oldest_upload(tmp_path: Path) -> None:
    """A page that was closed half way must not keep its person from trying again."""
    large, picture = [("large.png", 20 * 2**20)], png()
    async with window(tmp_path, VirtualClock()) as client:
        for number in range(4):
            assert not (await add(client, 0, picture[:10], large, f"upload-{number}")).is_error
        assert not (await add(client, 10, picture[10:20], large, "upload-1")).is_error
        gone = await add(client, 10, picture[10:20], large, "upload-0")
    assert said(gone) == f"The upload was interrupted, and what had arrived is gone. {AGAIN}"


@ERAS
async def test_a_call_without_images_says_that_the_user_can_give_them_and_then_takes_them(
    tmp_path: Path, era: str
) -> None:
    clock, front, back = VirtualClock(), png("gold"), png("navy")
    router = FakeRouter(clock)
    async with clock.passing(), window(tmp_path, clock, router, mode=era) as client:
        refused = await client.call_tool("generate_reference_video", FOX)
        await give(client, front, back)
        made = await client.call_tool("generate_reference_video", FOX)
    assert said(refused) == (
        "`subjects[0].images` is missing: 1-3 pictures: local path, https URL or data URI. "
        "One pasted into the chat has no path: leave images out. "
        "Nothing was sent or bought: correct this and try again. "
        "The user sees where to give the pictures, right here in the chat: "
        "when told that they are here, make the same call again, without images."
    )
    facts = (refused.meta or {})["refvideo/job"]
    assert (facts["missing"], facts["goesTo"], facts["isRefused"]) == (["fox"], "api.myrouter.ai", True)
    assert "Sent to api.myrouter.ai: fox (chat)." in said(made)
    (post,) = router.posts
    assert post["subjects"][0]["images"] == [
        f"data:image/png;base64,{base64.b64encode(one).decode()}" for one in (front, back)
    ]


@ERAS
async def test_other_clients_read_what_they_would_read_anyway(tmp_path: Path, era: str) -> None:
    async with window(tmp_path, VirtualClock(), mode=era, extensions=[]) as client:
        refused = await client.call_tool("generate_reference_video", FOX)
    assert said(refused) == (
        "`subjects[0].images` is missing: 1-3 pictures: local path, https URL or data URI. "
        "One pasted into the chat has no path: ask for it. Nothing was sent or bought: correct this and try again."
    )
    assert "refvideo/job" not in (refused.meta or {})


@pytest.mark.parametrize("remember", [False, True])
async def test_they_are_forgotten_after_a_day_unless_a_call_remembers_them(tmp_path: Path, remember: bool) -> None:
    clock = VirtualClock()
    router = FakeRouter(clock)
    subject = {"id": "fox", **({"remember": True} if remember else {})}
    async with clock.passing(), window(tmp_path, clock, router) as client:
        await give(client, png())
        await client.call_tool("generate_reference_video", FOX | {"subjects": [subject]})
        clock.set_by = DAY - 60
        assert not (await client.call_tool("generate_reference_video", FOX | {"prompt": "@fox sleeps"})).is_error
        clock.set_by = DAY + 60
        later = await client.call_tool("generate_reference_video", FOX | {"prompt": "@fox wakes"})
        await clock.sleep(3601)
    assert later.is_error != remember
    assert list((tmp_path / "data" / "guests").rglob("*.png")) == []


async def test_a_process_that_starts_a_day_later_forgets_what_one_that_was_killed_has_left(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with clock.passing():
        async with window(tmp_path, clock) as client:
            await give(client, png())
        assert len(list((tmp_path / "data" / "guests").rglob("*.png"))) == 1
        clock.set_by = DAY
        async with window(tmp_path, clock):
            await clock.sleep(1)
    assert list((tmp_path / "data" / "guests").rglob("*.png")) == []


async def test_where_nothing_is_kept_no_pictures_are_asked_for(tmp_path: Path) -> None:
    async with window(tmp_path, VirtualClock(), data_dir=None) as client:
        refused = await client.call_tool("generate_reference_video", FOX)
    assert "missing" not in (refused.meta or {})["refvideo/job"]
    assert "right here in the chat" not in said(refused)


async def test_newer_pictures_take_the_place_of_older_ones_but_not_of_the_cast_s(tmp_path: Path) -> None:
    clock, old, new = VirtualClock(), png("gold"), png("navy")
    router = FakeRouter(clock)
    async with clock.passing(), window(tmp_path, clock, router) as client:
        await give(client, old)
        await give(client, new)
        await client.call_tool("generate_reference_video", FOX | {"subjects": [{"id": "fox", "remember": True}]})
        late = await give(client, old)
    assert router.posts[0]["subjects"][0]["images"] == [f"data:image/png;base64,{base64.b64encode(new).decode()}"]
    assert said(late) == "The cast has @fox by now. These pictures are not needed."
