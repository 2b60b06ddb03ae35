"""The rooms of the package, and which may import which: arrows point one way, and each library stays in its rooms."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import refvideo_mcp
from refvideo_mcp import errors

PACKAGE = Path(refvideo_mcp.__file__).parent

DOMAIN = {"errors", "network", "schemas", "files", "settings", "router", "images", "videos", "ledger", "cast"}
FACES = {"tools", "tasks", "player", "prompts"}
# Room → what it may import. A room stands below those.
ROOMS: dict[str, set[str]] = {
    "sandbox": set(),  # its rules are its own, so that a mistake in `schemas` shows
    "errors": set(),
    "extras": set(),
    "network": set(),
    "startup": set(),
    "schemas": {"errors"},
    "files": {"errors", "schemas"},
    "settings": {"errors", "schemas", "files"},
    "logs": {"errors", "settings"},
    "router": {"errors", "network", "schemas"},
    "images": {"errors", "extras", "network", "schemas", "files"},
    "cast": {"errors", "images"},
    "videos": {"errors", "network", "schemas", "files"},
    "ledger": {"errors", "schemas"},
    "jobs": DOMAIN,
    "tools": {"errors", "schemas", "jobs"},
    "tasks": {"errors", "schemas", "jobs"},
    "player": {"errors", "schemas", "jobs"},
    "prompts": {"errors", "schemas", "jobs"},
    "app": DOMAIN | {"jobs", "sandbox"} | FACES,
    "doors": {"app", "errors", "logs", "network", "settings", "startup"},
    "cli": {
        "app",
        "doors",
        "sandbox",
        "logs",
        "settings",
        "startup",
        "errors",
        "extras",
        "network",
        "schemas",
        "files",
        "jobs",
    },
}
# What a room may import beyond that, and why.
ALSO = {
    ("tools", "ledger"): "a job's row, which `jobs` hands out, is what answers are made of",
    ("player", "tools"): "the address of its page, which tools name",
    ("tasks", "tools"): "a finished task holds the tools' own answer",
    ("doors", "jobs"): "a door that closes waits for the POSTs in flight",
    ("doors", "tools"): "it tells them when a caller hung up",
    ("cli", "ledger"): "release and forget are for people, not for agents; a job's row, as in the tools",
    ("cli", "router"): "the doctor asks the router",
    ("cli", "player"): "which tools are listed to apps only",
}
# Library → the rooms that may know it.
LIBRARIES = {
    "mcp.server.auth": {"doors"},  # who calls is read there and at the face, and passed on as a plain name
    "mcp": FACES | {"app", "doors", "cli"},
    "mcp_types": FACES | {"app", "cli"},
    "httpx2": {"network", "router", "videos", "app", "doors", "cli"},
    "sqlalchemy": {"ledger"},
}


def modules() -> Iterator[tuple[str, Path]]:
    """Each module with its room."""
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room not in ("__init__", "__main__"):
            yield room, file


def imports(file: Path) -> set[str]:
    """The full name of everything that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            around = file.relative_to(PACKAGE.parent).parts[: -node.level] if node.level else ()
            source = ".".join([*around, *([node.module] if node.module else [])])
            names |= {f"{source}.{alias.name}" for alias in node.names}
    return names


def test_every_module_has_its_room() -> None:
    assert {room for room, _ in modules()} == ROOMS.keys()


def test_arrows_point_one_way() -> None:
    order = list(ROOMS)
    arrows = {(room, other) for room, others in ROOMS.items() for other in others} | ALSO.keys()
    assert [arrow for arrow in sorted(arrows) if order.index(arrow[1]) >= order.index(arrow[0])] == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_its_row_allows(room: str) -> None:
    allowed = ROOMS[room] | {other for one, other in ALSO if one == room} | {room, "__version__"}
    strangers = [
        f"{file.relative_to(PACKAGE)} imports {name}"
        for its_room, file in modules()
        if its_room == room
        for name in sorted(imports(file))
        if name.startswith("refvideo_mcp.") and name.split(".")[1] not in allowed
    ]
    assert strangers == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_stays_in_its_rooms(library: str) -> None:
    users = {room for room, file in modules() for name in imports(file) if f"{name}.".startswith(f"{library}.")}
    assert users - LIBRARIES[library] == set()


def test_the_tree_of_errors_holds_every_error_below_its_own_kind() -> None:
    parents = {
        node.name: base.id
        for _, file in modules()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name)
    }
    found = {"RefvideoError": "Exception"}
    while more := {name: parent for name, parent in parents.items() if parent in found and name not in found}:
        found |= more
    told, above = {}, ["Exception"]
    for indent, name in re.findall(r"^( *)\* (\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(indent) // 2 + 1
        told[name] = above[depth - 1]
        above[depth:] = [name]
    assert told == found
