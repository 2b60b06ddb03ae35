"""What a client pays for the tools before anything is asked of them: every word of them is in every conversation."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import environment
from listing import ERAS, listing
from refvideo_mcp.tools import INSTRUCTIONS

pytestmark = pytest.mark.anyio

EVERY_ERA = pytest.mark.parametrize("era", ERAS)


def tokens(value: Any) -> float:
    """About a quarter of its characters as compact JSON."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False)) / 4


@EVERY_ERA
async def test_tools_cost_few_tokens(era: str, record_property: Callable[[str, object], None]) -> None:
    answer = await listing(era)
    asked = sum(tokens({key: tool[key] for key in ("name", "description", "inputSchema")}) for tool in answer["tools"])
    words = len(INSTRUCTIONS.split())
    record_property(
        "figures",
        f"names, descriptions and input schemas {asked:.0f} tokens (950), "
        f"the whole tools/list {tokens(answer):.0f} (1850), instructions {words} words (120)",
    )
    assert asked <= 950
    assert tokens(answer) <= 1850
    assert words <= 120


def undescribed(schema: dict[str, Any], path: str) -> list[str]:
    """Properties at any depth that have no description."""
    found = []
    for name, child in schema.get("properties", {}).items():
        found += [] if child.get("description", "").strip() else [f"{path}.{name}"]
        found += undescribed(child, f"{path}.{name}")
    return found + (undescribed(schema["items"], f"{path}[]") if "items" in schema else [])


async def test_every_tool_argument_and_field_of_an_answer_is_described() -> None:
    for tool in (await listing("legacy"))["tools"]:
        assert tool["title"]
        assert tool["description"]
        assert undescribed(tool["inputSchema"], tool["name"]) + undescribed(tool["outputSchema"], tool["name"]) == []


def test_tools_and_keys_come_in_the_same_order_in_every_process() -> None:
    """A client that keeps its conversation in a cache pays for every change of a word."""
    program = "import anyio, json, listing; print(json.dumps(anyio.run(listing.listing, 'legacy')['tools']))"
    first, second = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parent,
            env=environment(PYTHONHASHSEED=seed),
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert first == second
    tools = json.loads(first)
    assert [tool["name"] for tool in tools] == [
        "generate_reference_video",
        "get_task_result",
        "list_reference_videos",
    ]
    assert list(tools[0]["inputSchema"]["properties"])[:3] == ["prompt", "subjects", "duration"]


async def test_the_newer_protocol_says_how_long_the_tools_may_be_kept() -> None:
    """Private, because what is listed may depend on what a client can do; the older protocol has no such words."""
    newer, older = await listing("2026-07-28"), await listing("legacy")
    assert (newer["ttlMs"], newer["cacheScope"]) == (300_000, "private")
    assert older.keys() == {"tools"}
