"""What users wish for days later, in the fewest calls: in clients that show a model text only, or structure only."""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult
from PIL import Image

from fake_router import said, told
from marker import KEY
from refvideo_mcp.app import build_server
from refvideo_mcp.sandbox import Sandbox
from refvideo_mcp.settings import Settings

pytestmark = pytest.mark.anyio

SHORT = {"duration": 1, "resolution": "540p"}


class Agent:
    """Reads of every answer the text alone, or the structure alone, and counts its calls."""

    def __init__(self, client: Client, *, reads_text: bool) -> None:
        self.calls = 0
        self._client = client
        self._reads_text = reads_text

    async def call(self, tool: str, **arguments: Any) -> str:
        self.calls += 1
        answer: CallToolResult = await self._client.call_tool(tool, arguments)
        assert not answer.is_error, said(answer)
        return said(answer) if self._reads_text else json.dumps(told(answer), ensure_ascii=False)

    async def list(self, **arguments: Any) -> str:
        return await self.call("list_reference_videos", **arguments)

    def recipe(self, answer: str) -> dict[str, Any]:
        lines = [line.removeprefix("Recipe: ") for line in answer.splitlines() if line.startswith("Recipe: ")]
        found: dict[str, Any] = json.loads(*lines) if self._reads_text else json.loads(answer)["recipe"]
        return found

    async def make(self, **arguments: Any) -> str:
        """Two calls."""
        started = await self.call("generate_reference_video", **arguments)
        return await self.call("get_task_result", task_id=the_id(started))


def the_id(answer: str) -> str:
    (first, *_) = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", answer)
    return str(first)


@pytest.fixture
async def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    """A new chat, with a server process of its own; days ago another one made a film."""
    await anyio.Path(tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Image.new("RGB", (256, 256), "orange").save(tmp_path / "work" / "fox.png")
    with Sandbox(seconds=0.3) as sandbox:
        settings = Settings(
            KEY,
            sandbox.url,
            output_dir=tmp_path / "videos",
            cache_dir=tmp_path / "cache",
            database=tmp_path / "ledger.db",
            data_dir=tmp_path / "data",
        )

        @asynccontextmanager
        async def begin(*, reads_text: bool) -> AsyncIterator[Agent]:
            async with Client(build_server(settings)) as client:
                yield Agent(client, reads_text=reads_text)

        async with begin(reads_text=True) as earlier:
            subject = [{"id": "fox", "images": ["fox.png"]}]
            await earlier.make(prompt="@fox carries a lantern home", subjects=subject, seed=7, **SHORT)
            keep = [subject[0] | {"remember": "yes", "about": "an orange fox"}]
            await earlier.make(prompt="@fox naps", subjects=keep, **SHORT)
            waits = {"prompt": "@fox waits [rehearse:never-ends]", "subjects": subject}
            await earlier.call("generate_reference_video", **waits, **SHORT)
        yield begin


READERS = pytest.mark.parametrize("reads_text", [True, False], ids=["text", "structure"])


@READERS
async def test_each_wish_takes_the_fewest_calls(
    chat: Callable[..., Any], tmp_path: Path, reads_text: bool, record_property: Callable[[str, object], None]
) -> None:
    counts: dict[str, int] = {}

    async def agent_for(wish: str, work: Callable[[Agent], Any]) -> Any:
        async with chat(reads_text=reads_text) as agent:
            done = await work(agent)
            counts[wish] = agent.calls
            return done

    async def find(agent: Agent) -> str:
        return await agent.list(query="lantern")

    async def slower(agent: Agent) -> str:
        recipe = agent.recipe(await find(agent))
        return await agent.make(**recipe | {"movement_amplitude": "small"})

    async def same_again(agent: Agent) -> str:
        return await agent.make(prompt="@fox swims", subjects=[{"id": "fox"}], **SHORT)

    async def go_on(agent: Agent) -> str:
        (frame,) = re.findall(r"To go on from its last frame give (\S+) as a picture", await agent.list(query="naps"))
        return await agent.make(prompt="@1 wakes up", subjects=[{"images": [frame]}], **SHORT)

    found = await agent_for("find last week's clip with the lantern", find)
    file = re.findall(rf"{tmp_path}/videos/[^\"\n]*\.mp4", found)[0]
    assert "lantern" in file

    async def save(agent: Agent) -> str:
        return await agent.call("get_task_result", task_id=the_id(found), save_to="./clips")

    saved = await agent_for("save that one to ./clips", save)
    (copy,) = [path async for path in anyio.Path(tmp_path / "work" / "clips").iterdir()]
    assert str(copy) in saved
    assert await copy.read_bytes() == await anyio.Path(file).read_bytes()

    running = await agent_for("is anything still running", lambda agent: agent.list(state="open"))
    assert "@fox waits" in running
    assert "@fox naps" not in running

    left = await agent_for("how much is left", lambda agent: agent.list(limit=1))
    assert "297 of 300 s of video left" in left or json.loads(left)["allowance"]["used_seconds"] == 3

    made = await agent_for("same look, slower", slower)
    again = await agent_for("and what was that made of", lambda agent: agent.list(task_id=the_id(made)))
    assert '"seed": 7' in again
    assert '"movement_amplitude": "small"' in again

    went_on = await agent_for("go on from the last frame", go_on)
    assert f"{tmp_path}/videos/" in went_on

    cast = await agent_for("who is in my cast", lambda agent: agent.list(limit=1))
    assert "@fox (an orange fox)" in cast or json.loads(cast)["cast"] == [{"id": "fox", "about": "an orange fox"}]

    swims = await agent_for("the same character as yesterday", same_again)
    assert f"{tmp_path}/videos/" in swims

    record_property("figures", "; ".join(f"{wish}: {calls}" for wish, calls in counts.items()))
    assert counts == {
        "find last week's clip with the lantern": 1,
        "save that one to ./clips": 1,
        "is anything still running": 1,
        "how much is left": 1,
        "same look, slower": 3,
        "and what was that made of": 1,
        "go on from the last frame": 3,
        "who is in my cast": 1,
        "the same character as yesterday": 2,
    }
