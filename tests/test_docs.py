"""Whatever a page names is there: links, headings, commands, options, settings."""

import re
from functools import cache
from pathlib import Path

import pytest

import refvideo_mcp.settings
from command_line import call

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "deploy", ".github")
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(file for name in FOLDERS for file in (ROOT / name).rglob("*.md")))
]
OF_THE_TESTS = {"REFVIDEO_NO_SKIPS"}


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """What GitHub calls the page's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text(page), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def options(command: str) -> set[str]:
    """Of a command with commands of its own, theirs too."""
    shown = call(*command.split(), "--help")
    if shown.returncode:
        return set()
    own = re.findall(r"^ {4}([a-z]+) {2,}", shown.stdout, re.MULTILINE) if command else []
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", shown.stdout)).union(*(options(f"{command} {n}") for n in own))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_inside_the_repository_leads_somewhere(page: str) -> None:
    broken = []
    for link in re.findall(r"(?:\]\(|src=\")((?!https?:|mailto:)[^)\"\s]+)", text(ROOT / page)):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_is_one_that_is_read(page: str) -> None:
    read = set(re.findall(r'"((?:MYROUTER|REFVIDEO)_[A-Z_]+)"', text(Path(refvideo_mcp.settings.__file__))))
    assert set(re.findall(r"\b(?:MYROUTER|REFVIDEO)_[A-Z_]+\b", text(ROOT / page))) - OF_THE_TESTS <= read


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_is_there(page: str) -> None:
    """A command is what stands in code: its own name, and the options after it."""
    strange = []
    code = re.findall(r"```.*?```|`[^`\n]+`", text(ROOT / page), re.DOTALL)
    for line in (line for block in code for line in block.replace("\\\n", " ").splitlines()):
        for name, rest in re.findall(r"(?<![\w/.-])refvideo-mcp(?: +([a-z]+))?((?: +[^|;&`>]*)?)", line):
            known = options(name)
            if not known:
                strange.append(f"refvideo-mcp {name}")
            strange += [
                f"{name} {option}" for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", rest) if option not in known
            ]
    assert strange == []


def test_every_page_is_found_from_the_readme() -> None:
    linked = {"README.md"}
    for page in PAGES * 3:
        if page in linked:
            found = re.findall(r"\]\(((?!https?:)[^)#\s]+\.md)", text(ROOT / page))
            linked |= {((ROOT / page).parent / link).resolve().relative_to(ROOT).as_posix() for link in found}
    assert {page for page in PAGES if page.startswith("docs/")} <= linked
