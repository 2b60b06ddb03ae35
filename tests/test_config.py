"""`refvideo-mcp config CLIENT`: what it prints can be pasted, and starts this installation."""

import base64
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from mcp import Client, StdioServerParameters

import refvideo_mcp
from client_table import rows
from command_line import call
from refvideo_mcp import extras
from refvideo_mcp.cli import config, main
from refvideo_mcp.cli.config import CLIENTS

COMMAND = str(Path(sys.executable).parent / "refvideo-mcp")
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="quotes as a POSIX shell does")


def printed(client: str) -> str:
    done = call("config", client)
    assert done.returncode == 0, done.stderr
    return done.stdout


def offered(client: str, how: str) -> str:
    """What may be done instead of pasting, as it is told."""
    (line,) = re.findall(rf"^Or .*{how}: (.*)$", call("config", client).stderr, re.MULTILINE)
    return str(line)


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_help_names_every_client() -> None:
    shown = " ".join(call("config", "--help").stdout.split())
    assert f"CLIENT {', '.join(CLIENTS)} " in shown


def test_the_readme_names_every_client() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"it does so for (.*?)\.", readme)
    assert re.findall(r"`([\w-]+)`", sentence) == [*CLIENTS]


def test_docs_clients_tells_what_is_known_of_every_client() -> None:
    told = {(title, name.strip("`")) for title, name, _, _ in rows("Not run")}
    assert told - {("ChatGPT", "none")} == {(client.title, name) for name, client in CLIENTS.items()}


@pytest.mark.parametrize(
    "client", ["claude-desktop", "cursor", "gemini-cli", "windsurf", "cline", "lm-studio", "continue"]
)
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


def test_zed_takes_json_of_its_own() -> None:
    assert json.loads(printed("zed")) == {
        "context_servers": {"refvideo": {"command": COMMAND, "args": [], "env": {"MYROUTER_API_KEY": "sandbox"}}}
    }


def test_opencode_takes_the_command_as_one_list() -> None:
    assert json.loads(printed("opencode")) == {
        "$schema": "https://opencode.ai/config.json",
        "mcp": {"refvideo": {"type": "local", "command": [COMMAND], "environment": {"MYROUTER_API_KEY": "sandbox"}}},
    }


def test_goose_takes_yaml() -> None:
    assert yaml.safe_load(printed("goose")) == {
        "extensions": {
            "refvideo": {
                "name": "refvideo",
                "type": "stdio",
                "enabled": True,
                "cmd": COMMAND,
                "args": [],
                "envs": {"MYROUTER_API_KEY": "sandbox"},
                "timeout": 300,
            }
        }
    }


@POSIX_ONLY
def test_claude_code_takes_a_command() -> None:
    line = "claude mcp add --scope user refvideo -e MYROUTER_API_KEY=sandbox --"
    assert shlex.split(printed("claude-code")) == [*line.split(), COMMAND]


@POSIX_ONLY
@pytest.mark.parametrize(
    ("client", "line"),
    [
        ("gemini-cli", "gemini mcp add --scope user -e MYROUTER_API_KEY=sandbox refvideo"),
        ("codex", "codex mcp add refvideo --env MYROUTER_API_KEY=sandbox --"),
        ("opencode", "opencode mcp add refvideo --env MYROUTER_API_KEY=sandbox --"),
    ],
)
def test_a_client_that_adds_servers_itself_is_told_to(client: str, line: str) -> None:
    """Each line was run with that client, which wrote its file and, where it can look, found the server."""
    assert shlex.split(offered(client, "write it")) == [*line.split(), COMMAND]


@POSIX_ONLY
def test_gemini_is_told_which_arguments_are_the_servers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
    main(["config", "gemini-cli"])
    assert capsys.readouterr().err.rstrip().endswith(f" refvideo {sys.executable} -- -m refvideo_mcp")


@POSIX_ONLY
def test_vs_code_adds_it_from_its_command_line() -> None:
    code, option, entry = shlex.split(offered("vscode", "write it, with sandbox as the key"))
    assert (code, option) == ("code", "--add-mcp")
    assert json.loads(entry) == {"name": "refvideo", "command": COMMAND, "env": {"MYROUTER_API_KEY": "sandbox"}}


@pytest.mark.parametrize(
    ("client", "start"),
    [("cursor", "cursor://anysphere.cursor-deeplink/mcp/install?"), ("lm-studio", "lmstudio://add_mcp?")],
)
def test_a_link_holds_what_would_be_pasted(client: str, start: str) -> None:
    link = offered(client, "as --open does")
    assert link.startswith(start)
    query = parse_qs(urlsplit(link).query, strict_parsing=True)
    assert query["name"] == ["refvideo"]
    assert {"refvideo": json.loads(base64.b64decode(query["config"][0], validate=True))} == (
        json.loads(printed(client))["mcpServers"]
    )


def test_vs_codes_link_holds_the_question_for_the_key_whatever_the_path(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """VS Code decodes it once as an address and once more itself."""
    monkeypatch.setattr(sys, "executable", "/home/me/100%25 fun/python")
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
    main(["config", "vscode"])
    written, told = capsys.readouterr()
    link = told.rsplit("as --open does: ", 1)[1].strip()
    assert link.startswith("vscode:mcp/install?")
    entry = json.loads(unquote(unquote(link.removeprefix("vscode:mcp/install?"))))
    pasted = json.loads(written)
    assert entry == {"name": "refvideo", "inputs": pasted["inputs"]} | pasted["servers"]["refvideo"]
    assert entry["command"] == "/home/me/100%25 fun/python"


@pytest.mark.parametrize("client", ["windsurf", "cline", "zed", "goose", "continue", "claude-desktop"])
def test_nothing_is_offered_that_a_client_does_not_take(client: str) -> None:
    assert "\nOr " not in call("config", client).stderr


@pytest.mark.parametrize(("platform", "opener"), [("linux", "xdg-open"), ("darwin", "open")])
@POSIX_ONLY
def test_open_hands_the_link_to_the_system_and_writes_nothing(
    platform: str,
    opener: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program(tmp_path / opener, f'echo "$1" > {tmp_path}/opened')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(sys, "platform", platform)
    assert main(["config", "cursor", "--open"]) == 0
    assert capsys.readouterr() == ("", "Cursor has the link. Say yes there.\n")
    monkeypatch.setattr(sys, "platform", "linux")
    assert (tmp_path / "opened").read_text().strip() == offered("cursor", "as --open does")


def test_open_uses_what_windows_opens_links_with(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("os.startfile", opened.append, raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    assert main(["config", "vscode", "--open"]) == 0
    assert [link.split("?")[0] for link in opened] == ["vscode:mcp/install"]


@POSIX_ONLY
@pytest.mark.parametrize("write", [lambda path: None, lambda path: program(path, "exit 3")])
def test_a_link_that_nothing_opens_is_given_to_paste(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "xdg-open")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert main(["config", "cursor", "--open"]) == 2
    written, told = capsys.readouterr()
    assert written == ""
    assert "This system opens no link of Cursor. Paste it into a browser: cursor://" in told


def test_open_says_which_clients_have_a_link(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "zed", "--open"]) == 2
    assert "Zed has no such link; --open is for cursor, vscode, lm-studio." in capsys.readouterr().err


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
        ("windsurf", "win32", r"%USERPROFILE%\.codeium\windsurf\mcp_config.json"),
        ("cline", "linux", "~/.cline/data/settings/cline_mcp_settings.json"),
        ("zed", "darwin", "~/.config/zed/settings.json"),
        ("zed", "win32", r"%APPDATA%\Zed\settings.json"),
        ("lm-studio", "win32", "mcp.json, which Program > Install > Edit mcp.json opens"),
        ("opencode", "linux", "~/.config/opencode/opencode.json"),
        ("goose", "win32", r"%APPDATA%\Block\goose\config\config.yaml"),
        ("goose", "darwin", "~/.config/goose/config.yaml"),
        ("continue", "linux", "~/.continue/mcpServers/refvideo.json"),
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
    for client, read in (
        ("cursor", json.loads),
        ("zed", json.loads),
        ("codex", tomllib.loads),
        ("goose", yaml.safe_load),
    ):
        main(["config", client])
        answer: dict[str, Any] = read(capsys.readouterr().out)
        (servers,) = answer.values()
        started = servers["refvideo"].get("command") or servers["refvideo"]["cmd"]
        assert (started, servers["refvideo"]["args"]) == (command, ["-m", "refvideo_mcp"])


def test_an_installation_in_the_cache_of_uv_is_started_by_uvx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What uvx runs lies in a folder that may be emptied at any time; uvx itself may not be found from a menu."""
    uvx = tmp_path / ("uvx.exe" if sys.platform == "win32" else "uvx")
    uvx.write_text("")
    uvx.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert config.server_command() == [COMMAND]
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
        assert config.server_command() == [str(uvx), "--from", source, "--with", "av", "refvideo-mcp"]
    told.unlink()  # it came from an index
    assert config.server_command() == [COMMAND]


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
    done = call("config", "nano")
    assert done.returncode == 2
    assert re.search(r"invalid choice: 'nano' \(choose from .*codex", done.stderr)
