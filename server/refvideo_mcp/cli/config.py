"""`refvideo-mcp config CLIENT`: what a client needs to start this server, and the file it belongs in. Edits nothing."""

import argparse
import json
import sys
from dataclasses import dataclass
from typing import Any

from refvideo_mcp.cli.installed import as_shell_line, server_command

__all__ = ["CLIENTS", "add_options", "run"]

NAME = "refvideo"
KEY = "MYROUTER_API_KEY"
SANDBOX = "sandbox"


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
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("client", metavar="CLIENT", choices=CLIENTS, help=", ".join(CLIENTS))


def run(options: argparse.Namespace) -> None:
    """Print the snippet or the command on stdout, and where it goes on stderr."""
    sys.stderr.write(_advice(options.client, sys.platform))
    sys.stderr.flush()
    print(_snippet(options.client, server_command()))


def _advice(client: str, platform: str) -> str:
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
    return (
        f"{what} Then restart {chosen.title}. {key}\n"
        "Pictures may come from the project that is open there, and from Pictures, Downloads, Desktop and Documents; "
        "REFVIDEO_IMAGE_DIRS beside the key names another folder.\n"
    )


def _snippet(client: str, command: list[str]) -> str:
    if client == "claude-code":
        return as_shell_line(
            ["claude", "mcp", "add", "--scope", "user", NAME, "-e", f"{KEY}={SANDBOX}", "--", *command]
        )
    if client == "codex":
        return _toml(command)
    server: dict[str, Any] = {"command": command[0], **({"args": command[1:]} if command[1:] else {})}
    if client != "vscode":
        return _json({"mcpServers": {NAME: server | {"env": {KEY: SANDBOX}}}})
    question = {
        "type": "promptString",
        "id": "myrouter-key",
        "description": f"Router API key, or: {SANDBOX}",
        "password": True,
    }
    server = {"type": "stdio", **server, "env": {KEY: "${input:myrouter-key}"}}
    return _json({"inputs": [question], "servers": {NAME: server}})


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _toml(command: list[str]) -> str:
    # JSON's texts and lists of texts are TOML's, too.
    written = [f"command = {json.dumps(command[0])}"]
    written += [f"args = {json.dumps(command[1:])}"] if command[1:] else []
    return "\n".join([f"[mcp_servers.{NAME}]", *written, f'env = {{ {KEY} = "{SANDBOX}" }}'])
