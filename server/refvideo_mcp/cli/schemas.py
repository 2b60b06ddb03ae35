"""`refvideo-mcp schemas`: the tools/list entry of every tool."""

import json
from pathlib import Path

import anyio

from refvideo_mcp.app import build_server
from refvideo_mcp.player import for_apps_only
from refvideo_mcp.settings import Settings

__all__ = ["entries", "schemas"]


def entries() -> dict[str, str]:
    """Tool name → its whole tools/list entry as JSON text, keys sorted. Without what only apps can use."""
    tools = anyio.run(build_server(Settings()).list_tools)
    found = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
    return {
        entry["name"]: json.dumps(entry, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for entry in found
        if not for_apps_only(entry)
    }


def schemas(folder: Path | None) -> None:
    """Print every entry, or write one file per tool into `folder` and remove those of tools that are gone."""
    found = entries()
    if folder is None:
        print("".join(found.values()), end="")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for stale in set(folder.glob("*.json")) - {folder / f"{name}.json" for name in found}:
        stale.unlink()
    for name, text in found.items():
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
