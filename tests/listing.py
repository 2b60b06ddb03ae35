"""What `tools/list` answers, as it is on the wire."""

from typing import Any

from mcp import Client

from refvideo_mcp.app import build_server
from refvideo_mcp.settings import Settings

ERAS = ("legacy", "2026-07-28")


async def listing(era: str) -> dict[str, Any]:
    """The whole result, in the protocol of that era."""
    async with Client(build_server(Settings()), mode=era) as client:
        result = await client.list_tools()
    answer: dict[str, Any] = result.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return answer
