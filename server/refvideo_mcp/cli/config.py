"""`refvideo-mcp config CLIENT`: what a client needs to start this server, and where it goes. Edits nothing itself."""

import argparse
import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from refvideo_mcp.errors import InvalidCall

__all__ = ["CLIENTS", "add_config", "as_shell_line", "server_command"]

NAME = "refvideo"
KEY = "MYROUTER_API_KEY"
SANDBOX = "sandbox"
# uvx keeps what it runs in its cache, which may be emptied at any time.
_UV_CACHE = re.compile(r"[\\/](archive|environments)-v[0-9]+[\\/]")


@dataclass(frozen=True)
class _Client:
    """`files` are by `sys.platform`; "" is every other one. `also` is another place that serves."""

    title: str
    files: dict[str, str]
    also: str = ""


CLIENTS = {
    "claude-desktop": _Client(
        "Claude Desktop",
        {
            "darwin": "~/Library/Application Support/Claude/claude_desktop_config.json",
            "win32": r"%APPDATA%\Claude\claude_desktop_config.json",
            "": "~/.config/Claude/claude_desktop_config.json",
        },
    ),
    "claude-code": _Client("Claude Code", {"win32": r"%USERPROFILE%\.claude.json", "": "~/.claude.json"}),
    "cursor": _Client(
        "Cursor",
        {"win32": r"%USERPROFILE%\.cursor\mcp.json", "": "~/.cursor/mcp.json"},
        ".cursor/mcp.json of one project",
    ),
    "vscode": _Client(
        "VS Code",
        {
            "darwin": "~/Library/Application Support/Code/User/mcp.json",
            "win32": r"%APPDATA%\Code\User\mcp.json",
            "": "~/.config/Code/User/mcp.json",
        },
        ".vscode/mcp.json of one project",
    ),
    "gemini-cli": _Client(
        "Gemini CLI",
        {"win32": r"%USERPROFILE%\.gemini\settings.json", "": "~/.gemini/settings.json"},
        ".gemini/settings.json of one project",
    ),
    "codex": _Client("Codex", {"win32": r"%USERPROFILE%\.codex\config.toml", "": "~/.codex/config.toml"}),
    "windsurf": _Client(
        "Windsurf",
        {
            "win32": r"%USERPROFILE%\.codeium\windsurf\mcp_config.json",
            "": "~/.codeium/windsurf/mcp_config.json",
        },
    ),
    "cline": _Client(
        "Cline",
        {
            "win32": r"%USERPROFILE%\.cline\data\settings\cline_mcp_settings.json",
            "": "~/.cline/data/settings/cline_mcp_settings.json",
        },
        "the file that MCP Servers > Configure opens in an editor",
    ),
    "zed": _Client("Zed", {"win32": r"%APPDATA%\Zed\settings.json", "": "~/.config/zed/settings.json"}),
    "lm-studio": _Client("LM Studio", {"": "mcp.json, which Program > Install > Edit mcp.json opens"}),
    "opencode": _Client(
        "opencode",
        {"win32": r"%USERPROFILE%\.config\opencode\opencode.json", "": "~/.config/opencode/opencode.json"},
        "opencode.json of one project",
    ),
    "goose": _Client(
        "goose", {"win32": r"%APPDATA%\Block\goose\config\config.yaml", "": "~/.config/goose/config.yaml"}
    ),
    "continue": _Client(
        "Continue",
        {
            "win32": r"%USERPROFILE%\.continue\mcpServers\refvideo.json",
            "": "~/.continue/mcpServers/refvideo.json",
        },
        ".continue/mcpServers/refvideo.json of one project",
    ),
}


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("client", metavar="CLIENT", choices=CLIENTS, help=", ".join(CLIENTS))
    parser.add_argument("--open", action="store_true", help="hand the client's link to this system")
    parser.set_defaults(run=_config)


def _config(options: argparse.Namespace) -> None:
    """Print the snippet or the command on stdout, and where it goes on stderr."""
    command = server_command()
    if options.open:
        _open(options.client, command)
        return
    sys.stderr.write(_advice(options.client, sys.platform, command))
    sys.stderr.flush()
    print(_snippet(options.client, command))


def server_command() -> list[str]:
    """The command, with an absolute path: the programs that users start from a menu have a short PATH."""
    if _UV_CACHE.search(sys.prefix) and (uvx := shutil.which("uvx")) and (source := _source()):
        return [uvx, "--from", source, "--with", "av", "refvideo-mcp"]
    installed = Path(sysconfig.get_path("scripts"), "refvideo-mcp.exe" if sys.platform == "win32" else "refvideo-mcp")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "refvideo_mcp"]


def as_shell_line(command: list[str]) -> str:
    """The command as it is pasted into a terminal of this system."""
    return subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)


def _source() -> str | None:
    """Where it was installed from; None where that was an index, in which anybody may own the name."""
    try:
        origin = json.loads(distribution("refvideo-mcp").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    url, repository = origin.get("url", ""), origin.get("vcs_info")
    if repository:
        return f"{repository['vcs']}+{url}@{repository['commit_id']}"
    return url2pathname(urlsplit(url).path) if url.startswith("file:") else url or None


def _advice(client: str, platform: str, command: list[str]) -> str:
    chosen = CLIENTS[client]
    file = chosen.files.get(platform, chosen.files[""])
    also = f", or into {chosen.also}" if chosen.also else ""
    what = (
        f"Run this; {chosen.title} keeps it in {file}."
        if client == "claude-code"
        else f"Put this into {file}{also}, beside what is there."
    )
    key = (
        "It asks for your router's key."
        if client == "vscode"
        else f"{SANDBOX} simulates the router; put your router's key in its place for real videos."
    )
    told = (
        f"{what} Then restart {chosen.title}. {key}\n"
        "Pictures may come from the project that is open there, and from Pictures, Downloads, Desktop and Documents; "
        "REFVIDEO_IMAGE_DIRS beside the key names another folder.\n"
    )
    if (adding := _adding(client, command)) and client != "claude-code":
        unasked = f", with {SANDBOX} as the key" if client == "vscode" else ""
        told += f"Or let {chosen.title} write it{unasked}: {as_shell_line(adding)}\n"
    if link := _link(client, command):
        told += f"Or open this link, as --open does: {link}\n"
    return told


def _snippet(client: str, command: list[str]) -> str:
    match client:
        case "claude-code":
            return as_shell_line(_adding(client, command) or [])
        case "codex":
            return _toml(command)
        case "goose":
            return _yaml(command)
        case "vscode":
            return _json({"inputs": [_QUESTION], "servers": {NAME: _asking(command)}})
        case "opencode":
            server = {"type": "local", "command": command, "environment": {KEY: SANDBOX}}
            return _json({"$schema": "https://opencode.ai/config.json", "mcp": {NAME: server}})
        case "zed":
            return _json({"context_servers": {NAME: {"args": []} | _server(command)}})
        case _:
            return _json({"mcpServers": {NAME: _server(command)}})


def _adding(client: str, command: list[str]) -> list[str] | None:
    """The client's own command that adds a server."""
    key = f"{KEY}={SANDBOX}"
    match client:
        case "claude-code":
            return ["claude", "mcp", "add", "--scope", "user", NAME, "-e", key, "--", *command]
        case "vscode":
            return ["code", "--add-mcp", json.dumps({"name": NAME} | _server(command))]
        case "gemini-cli":
            # After a "--" it takes arguments only, never the command.
            rest = ["--", *command[1:]] if command[1:] else []
            return ["gemini", "mcp", "add", "--scope", "user", "-e", key, NAME, command[0], *rest]
        case "codex":
            return ["codex", "mcp", "add", NAME, "--env", key, "--", *command]
        case "opencode":
            return ["opencode", "mcp", "add", NAME, "--env", key, "--", *command]
    return None


def _link(client: str, command: list[str]) -> str | None:
    """The link by which the client offers its user to add the server. It holds no key of anybody's.

    goose has links, too, but takes no command of its user's own from one.
    """
    match client:
        case "cursor":
            return f"cursor://anysphere.cursor-deeplink/mcp/install?name={NAME}&config={_base64(_server(command))}"
        case "lm-studio":
            return f"lmstudio://add_mcp?name={NAME}&config={_base64(_server(command))}"
        case "vscode":
            asked = json.dumps({"name": NAME, "inputs": [_QUESTION]} | _asking(command))
            # VS Code decodes it twice: a % of a path must not look like an escape the second time.
            return "vscode:mcp/install?" + quote(asked.replace("%", r"\u0025"), safe="")
    return None


def _open(client: str, command: list[str]) -> None:
    link = _link(client, command)
    if link is None:
        known = ", ".join(name for name in CLIENTS if _link(name, command))
        raise InvalidCall(f"{CLIENTS[client].title} has no such link; --open is for {known}.")
    title = CLIENTS[client].title
    try:
        if sys.platform == "win32":
            os.startfile(link)  # noqa: S606 - a link of ours, with no key in it
        else:
            opener = "open" if sys.platform == "darwin" else "xdg-open"
            subprocess.run([opener, link], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603 - the same
    except (OSError, subprocess.CalledProcessError) as error:
        raise InvalidCall(f"This system opens no link of {title}.", f"Paste it into a browser: {link}") from error
    sys.stderr.write(f"{title} has the link. Say yes there.\n")


_QUESTION = {
    "type": "promptString",
    "id": "myrouter-key",
    "description": f"Router API key, or: {SANDBOX}",
    "password": True,
}


def _server(command: list[str]) -> dict[str, Any]:
    """The entry that most clients take."""
    return {"command": command[0], **({"args": command[1:]} if command[1:] else {}), "env": {KEY: SANDBOX}}


def _asking(command: list[str]) -> dict[str, Any]:
    """The same for a client that asks for the key and keeps it."""
    return {"type": "stdio"} | _server(command) | {"env": {KEY: f"${{input:{_QUESTION['id']}}}"}}


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _base64(value: object) -> str:
    return quote(base64.b64encode(json.dumps(value).encode()), safe="")


def _toml(command: list[str]) -> str:
    # JSON's texts and lists of texts are TOML's, too.
    written = [f"command = {json.dumps(command[0])}"]
    written += [f"args = {json.dumps(command[1:])}"] if command[1:] else []
    return "\n".join([f"[mcp_servers.{NAME}]", *written, f'env = {{ {KEY} = "{SANDBOX}" }}'])


def _yaml(command: list[str]) -> str:
    # And YAML's.
    written = {
        "name": NAME,
        "type": "stdio",
        "enabled": True,
        "cmd": command[0],
        "args": command[1:],
        "envs": {KEY: SANDBOX},
        "timeout": 300,
    }
    lines = [f"    {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in written.items()]
    return "\n".join(["extensions:", f"  {NAME}:", *lines])
