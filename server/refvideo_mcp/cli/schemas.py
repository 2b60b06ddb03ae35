"""`refvideo-mcp schemas`: the tools/list entry of every tool."""

import argparse
import json
from pathlib import Path

from refvideo_mcp.errors import InvalidCall
from refvideo_mcp.settings import Settings

__all__ = ["add_schemas", "entries"]


def add_schemas(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--write", metavar="DIR", type=Path, help="write one JSON file per tool instead")
    parser.set_defaults(run=_schemas)


def _schemas(options: argparse.Namespace) -> None:
    """Print every entry, or write one file per tool into the folder and remove those of tools that are gone.

    Raises:
        InvalidCall: nothing can be written there.
    """
    folder: Path | None = options.write
    found = entries()
    if folder is None:
        print("".join(found.values()), end="")
        return
    try:
        _write(found, folder)
    except OSError as error:
        raise InvalidCall(f"{folder} cannot be written: {error.strerror}.", "Choose another folder.") from error


def _write(found: dict[str, str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stale in set(folder.glob("*.json")) - {folder / f"{name}.json" for name in found}:
        stale.unlink()
    for name, text in found.items():
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def entries() -> dict[str, str]:
    """Tool name → its whole tools/list entry as JSON text, keys sorted. Without what only apps can use."""
    import anyio

    from refvideo_mcp.app import build_server
    from refvideo_mcp.player import for_apps_only

    tools = anyio.run(build_server(Settings()).list_tools)
    found = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
    return {
        entry["name"]: json.dumps(entry, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for entry in found
        if not for_apps_only(entry)
    }
