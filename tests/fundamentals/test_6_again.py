"""The same character again: kept once, it needs no picture in any later chat."""

from pathlib import Path

import pytest
from PIL import Image

from fake_router import FakeRouter, process, said

pytestmark = pytest.mark.anyio


async def test_a_subject_that_the_user_asked_to_keep_is_taken_by_its_id(
    router: FakeRouter, ledger: Path, tmp_path: Path
) -> None:
    """Two processes, as two chats on two days: the router gets the same picture."""
    Image.new("RGB", (256, 256), "orange").save(tmp_path / "fox.png")
    given = {"id": "fox", "images": [str(tmp_path / "fox.png")], "remember": "yes", "about": "an orange fox"}
    for prompt, subject in (("@fox winks", given), ("@fox wakes up", {"id": "fox"})):
        async with process(router, ledger, data_dir=tmp_path / "data") as client:
            order = {"prompt": prompt, "subjects": [subject]}
            answer = await client.call_tool("generate_reference_video", order)
    winking, waking = router.posts
    assert waking["subjects"] == winking["subjects"]
    assert "Sent to api.myrouter.ai: fox (cast)." in said(answer)


async def test_an_id_that_nobody_kept_buys_nothing_and_learns_who_is_there(
    router: FakeRouter, ledger: Path, tmp_path: Path
) -> None:
    fox = {"id": "fox", "images": ["https://pictures.example/fox.png"], "remember": "yes"}
    async with process(router, ledger, data_dir=tmp_path / "data") as client:
        for subject in (fox, {"id": "vixen"}):
            order = {"prompt": f"@{subject['id']} runs", "subjects": [subject]}
            answer = await client.call_tool("generate_reference_video", order)
    assert answer.is_error
    assert said(answer) == (
        "No images are given for @vixen, and nobody of that name is in the cast: it has @fox. "
        "Take one of these, or give the pictures. Nothing was sent or bought."
    )
    assert len(router.posts) == 1
