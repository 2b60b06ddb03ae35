"""`refvideo-mcp config CLIENT`: what it prints can be pasted, and starts this installation."""

import json
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

import refvideo_mcp
from client_table import rows
from command_line import run
from refvideo_mcp import extras
from refvideo_mcp.cli import installed, main
from refvideo_mcp.cli.config import CLIENTS

COMMAND = str(Path(sys.executable).parent / "refvideo-mcp")
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="quotes as a POSIX shell does")


def printed(client: str) -> str:
    done = run("config", client)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_help_names_every_client() -> None:
    shown = " ".join(run("config", "--help").stdout.split())
    assert f"CLIENT {', '.join(CLIENTS)} " in shown


def test_docs_clients_tells_what_is_known_of_every_client() -> None:
    told = {(title, name.strip("`")) for title, name, _, _ in rows("Not run")}
    assert told - {("ChatGPT", "none")} == {(client.title, name) for name, client in CLIENTS.items()}


@pytest.mark.parametrize("client", ["claude-desktop", "cursor", "gemini-cli"])
def test_most_clients_take_the_same_json(client: str) -> None:
    assert json.loads(printed(client)) == {
        "mcpServers": {"refvideo": {"command": COMMAND, "env": {"MYROUTER_API_KEY": "sandbox"}}}
    }


def test_vs_code_asks_for_the_key_and_keeps_it() -> None:
    answer = json.loads(printed("vscode"))
    (question,) = answer["inputs"]
    assert (question["type"], question["id"], question["password"]) == ("promptString", "myrouter-key", True)
    assert answer["servers"] == {
        "refvideo": {"type": "stdio", "command": COMMAND, "env": {"MYROUTER_API_KEY": "${input:myrouter-key}"}}
    }


def test_codex_takes_toml() -> None:
    assert tomllib.loads(printed("codex")) == {
        "mcp_servers": {"refvideo": {"command": COMMAND, "env": {"MYROUTER_API_KEY": "sandbox"}}}
    }


@POSIX_ONLY
def test_claude_code_takes_a_command() -> None:
    line = "claude mcp add --scope user refvideo -e MYROUTER_API_KEY=sandbox --"
    assert shlex.split(printed("claude-code")) == [*line.split(), COMMAND]


@pytest.mark.anyio
async def test_what_is_printed_starts_a_server() -> None:
    entry = json.loads(printed("cursor"))["mcpServers"]["refvideo"]
    async with Client(StdioServerParameters(command=entry["command"], env=entry["env"])) as client:
        assert len((await client.list_tools()).tools) == 3


@pytest.mark.parametrize(
    ("client", "platform", "file"),
    [
        ("claude-desktop", "darwin", "~/Library/Application Support/Claude/claude_desktop_config.json"),
        ("claude-desktop", "win32", r"%APPDATA%\Claude\claude_desktop_config.json"),
        ("claude-desktop", "linux", "~/.config/Claude/claude_desktop_config.json"),
        ("claude-code", "darwin", "~/.claude.json"),
        ("cursor", "win32", r"%USERPROFILE%\.cursor\mcp.json"),
        ("cursor", "linux", "~/.cursor/mcp.json"),
        ("vscode", "darwin", "~/Library/Application Support/Code/User/mcp.json"),
        ("vscode", "linux", "~/.config/Code/User/mcp.json"),
        ("gemini-cli", "win32", r"%USERPROFILE%\.gemini\settings.json"),
        ("codex", "linux", "~/.codex/config.toml"),
    ],
)
def test_the_file_it_belongs_in_is_named(
    client: str, platform: str, file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    main(["config", client])
    told = capsys.readouterr().err
    assert f" {file}" in told
    assert "REFVIDEO_IMAGE_DIRS beside the key names another folder" in told
    assert CLIENTS[client].title in told


@pytest.mark.parametrize("command", [r"C:\Users\Zoë \"Z\"\refvideo-mcp.exe", "/home/猫/ven v/bin/refvideo-mcp"])
def test_a_path_of_any_letters_is_pasted_whole(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", command)
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")  # then Python itself is what is started
    for client, read in (("cursor", json.loads), ("codex", tomllib.loads)):
        main(["config", client])
        answer: dict[str, Any] = read(capsys.readouterr().out)
        (servers,) = answer.values()
        assert (servers["refvideo"]["command"], servers["refvideo"]["args"]) == (command, ["-m", "refvideo_mcp"])


def test_an_installation_in_the_cache_of_uv_is_started_by_uvx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What uvx runs lies in a folder that may be emptied at any time; uvx itself may not be found from a menu."""
    uvx = tmp_path / ("uvx.exe" if sys.platform == "win32" else "uvx")
    uvx.write_text("")
    uvx.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed.server_command() == [COMMAND]
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "uv" / "archive-v0" / "0a1b"))
    told = tmp_path / "refvideo_mcp-0.1.dist-info" / "direct_url.json"
    told.parent.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    git = {"vcs": "git", "commit_id": "0a1b"}
    for origin, source in (
        ({"url": "file:///home/me/re%20fvideo", "dir_info": {}}, "/home/me/re fvideo"),
        ({"url": "https://me.example/r.whl", "archive_info": {}}, "https://me.example/r.whl"),
        ({"url": "https://me.example/r.git", "vcs_info": git}, "git+https://me.example/r.git@0a1b"),
    ):
        told.write_text(json.dumps(origin))
        assert installed.server_command() == [str(uvx), "--from", source, "--with", "av", "refvideo-mcp"]
    told.unlink()  # it came from an index
    assert installed.server_command() == [COMMAND]


def test_nothing_is_advised_that_goes_by_a_name_in_an_index() -> None:
    """Whoever owns that name there could run what they like on the machines of our users."""
    root = Path(__file__).parents[1]
    texts = [root / "README.md", *(root / "docs").rglob("*.md"), *Path(refvideo_mcp.__file__).parent.rglob("*.py")]
    by_name = r"\b(pipx? (install|inject|run)|uv (add|run|tool|pip)|uvx) [^`\n&]*\brefvideo-mcp\b.*|refvideo-mcp\[.*"
    assert [found[0] for text in texts for found in re.finditer(by_name, text.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("pip", "command"), [(True, "{python} -m pip install av"), (False, "uv pip install --python {python} av")]
)
def test_a_missing_package_is_installed_into_this_very_environment(
    pip: bool, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: pip or None)
    assert extras.how_to_install("av") == command.format(python=sys.executable)


def test_another_client_is_refused_with_the_known_ones() -> None:
    done = run("config", "nano")
    assert done.returncode == 2
    assert re.search(r"invalid choice: 'nano' \(choose from .*codex", done.stderr)
