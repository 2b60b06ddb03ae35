"""What the README says is what the program does."""

import json
import re
from pathlib import Path

import pytest

import refvideo_mcp.settings
from command_line import call
from refvideo_mcp.cli import EXIT_CODES
from refvideo_mcp.files import Consent
from refvideo_mcp.images import Images
from refvideo_mcp.schemas import ReferenceVideoRequest, Subject

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def rows(heading: str, page: str = README) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_tool_table_names_every_tool_with_its_arguments() -> None:
    documented = {row[0].strip("`"): re.findall(r"`(\w+)`", row[2]) for row in rows("Tools")}
    entries = [json.loads(file.read_text(encoding="utf-8")) for file in (ROOT / "tool_schemas").glob("*.json")]
    assert {name: sorted(arguments) for name, arguments in documented.items()} == {
        entry["name"]: sorted(entry["inputSchema"]["properties"]) for entry in entries
    }


def test_the_settings_table_names_every_variable_that_is_read() -> None:
    source = Path(refvideo_mcp.settings.__file__).read_text(encoding="utf-8")
    read = set(re.findall(r'"((?:MYROUTER|REFVIDEO)_[A-Z_]+)"', source))
    for_many = rows("Settings", (ROOT / "docs" / "http.md").read_text(encoding="utf-8"))
    assert {row[0].strip("`") for row in (*rows("Settings"), *for_many)} == read


def test_the_command_table_names_every_command() -> None:
    commands = set(re.findall(r"^    (\w+) ", call("--help").stdout, re.MULTILINE))
    documented = {name for row in rows("Commands") for name in re.findall(r"refvideo-mcp (\w+)`", row[0])}
    assert documented == commands


def test_the_exit_codes_are_documented_as_help_tells_them() -> None:
    table = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8").split("\n## Exit codes\n")[1]
    documented = re.findall(r"^\| (\d+) \| (.*) \|$", table, re.MULTILINE)
    assert {int(code): meaning for code, meaning in documented} == EXIT_CODES


def test_there_are_exactly_two_setup_commands() -> None:
    assert len(re.findall(r"^<!-- (?:demo|test) command -->$", README, re.MULTILINE)) == 2


@pytest.mark.anyio
async def test_the_first_sentence_to_say_names_pictures_that_may_be_sent_wherever_the_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sentence,) = re.findall(r"say: \*Make a video of (.*?):", README)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir("/")
    subjects = [{"images": [picture]} for picture in sentence.split(" and ")]
    request = ReferenceVideoRequest.model_validate({"prompt": "@1 follows @2 home", "subjects": subjects})
    assert len(subjects) == 2
    assert await Images(Consent()).consent.pictures_to_ask_about(request) == []
    outside = request.model_copy(update={"subjects": [Subject(id="1", images=["~/fox.png"], voice_id=None)]})
    assert await Images(Consent()).consent.pictures_to_ask_about(outside) == [tmp_path]


def test_one_spelling_of_the_command_is_used_once_the_environment_is_active() -> None:
    afterwards = README.split("once the environment is active")[1]
    assert set(re.findall(r"\S*bin/refvideo-mcp", afterwards)) == {
        "/path/to/.venv/bin/refvideo-mcp",
        '"/path/to/.venv/bin/refvideo-mcp',
    }
