"""Clients that make less of an answer than they could. Each is a short script that ends with its video."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp import Client

from fake_router import told

__all__ = ["drops_and_repeats", "hangs_up", "sees_only_structure", "sees_only_text", "waits"]

GENERATE, RESULT, LIST = "generate_reference_video", "get_task_result", "list_reference_videos"
Order = dict[str, Any]


async def sees_only_text(show: Callable[[str, Order], Awaitable[str]], order: Order) -> str:
    """Calls what the text says, as long as it says so; returns the path or the link that it is told at last."""
    text = await show(GENERATE, order)
    while advice := re.search(r'Call (\w+) with task_id "([^"]+)"', text):
        text = await show(advice[1], {"task_id": advice[2]})
    done = re.search(r"^Done: (?:the video is saved at (.+) \(job|(\S+) )", text)
    assert done, text
    return done[1] or done[2]


async def sees_only_structure(show: Callable[[str, Order], Awaitable[Order]], order: Order) -> str:
    """The same, from the fields alone."""
    answer = await show(GENERATE, order)
    while "videos" not in answer:
        advice = re.search(r"Call (\w+)", answer["next_step"])
        assert advice, answer
        answer = await show(advice[1], {"task_id": answer["task_id"]})
    return _place(answer)


async def waits(client: Client, order: Order) -> str:
    """Starts a job and waits for it; without a progress callback it sends no progress token."""
    started = await client.call_tool(GENERATE, order)
    return await _result(client, told(started)["task_id"])


async def hangs_up(connect: Callable[[], Client], order: Order, patience: float) -> str:
    """Closes the connection when an answer takes too long, and knows nothing any more when it comes back."""
    async with connect() as client:
        started = await client.call_tool(GENERATE, order)
        with anyio.move_on_after(patience) as call:
            await _result(client, told(started)["task_id"])
        assert call.cancelled_caught, "it has to be less patient, or the job slower"
    async with connect() as client:
        newest = told(await client.call_tool(LIST, {"limit": 1}))["jobs"][0]
        return await _result(client, newest["task_id"])


async def drops_and_repeats(connect: Callable[[], Client], order: Order, patience: float) -> str:
    """Hangs up on the call that buys, and makes the same call again."""
    async with connect() as client:
        with anyio.move_on_after(patience) as call:
            await client.call_tool(GENERATE, order)
        assert call.cancelled_caught, "it has to be less patient, or the job slower"
    async with connect() as client:
        return await waits(client, order)


async def _result(client: Client, task_id: str) -> str:
    while "videos" not in (answer := told(await client.call_tool(RESULT, {"task_id": task_id}))):
        assert answer["state"] in ("submitting", "queued", "processing"), answer
    return _place(answer)


def _place(answer: Order) -> str:
    (video,) = answer["videos"]
    place: str = video.get("saved_to") or video["url"]
    return place
