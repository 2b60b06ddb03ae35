"""What is told to a person at a terminal is written for a person, not made of what an agent is told."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import refvideo_mcp
from refvideo_mcp.errors import Advice, Refused, ask_user, ask_user_for, wait_for

PACKAGE = Path(refvideo_mcp.__file__).parent
# Where a text may speak to the agent: only agents are told it.
FACES = {"tools", "tasks", "player", "prompts", "sandbox"}
NAMES = {"generate_reference_video", "get_task_result", "list_reference_videos"}
TO_AGENTS = re.compile("|".join(["[Aa]sk the user", "[Tt]ell the user", "unless the user", "[Cc]all again", *NAMES]))


def texts() -> Iterator[tuple[str, str]]:
    """Every text outside those rooms, with its place; no docstring, no tool's name, not what only agents read."""
    for file in PACKAGE.rglob("*.py"):
        if file.relative_to(PACKAGE).parts[0].removesuffix(".py") in FACES:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        silent: set[object] = {*NAMES} | {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Advice":
                silent |= {id(part) for part in ast.walk(node.args[0])}
            if isinstance(node, ast.keyword) and node.arg == "description":
                silent.add(id(node.value))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node), node.value} & silent:
                yield f"{file.relative_to(PACKAGE)}:{node.lineno}", node.value


def test_no_text_for_both_readers_speaks_to_the_agent() -> None:
    assert [(place, text) for place, text in texts() if TO_AGENTS.search(text)] == []


def test_an_advice_has_two_readers() -> None:
    error = Refused("It is gone.", ask_user("copy it again, ") + wait_for("task-1") + ".")
    assert str(error) == (
        'It is gone. Ask the user to copy it again, get_task_result with task_id "task-1" waits for it.'
    )
    assert error.for_person == "It is gone. Copy it again, refvideo-mcp result task-1 waits for it."
    assert ask_user_for("another path.") == Advice("Ask the user for another path.", "Give another path.")
    assert ("First: " + ask_user("ask {host}.")).format(host="us").for_person == "First: Ask us."
    assert Refused("It is gone.").for_person == "It is gone."
