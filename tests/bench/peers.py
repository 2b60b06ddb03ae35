"""Other servers for the same purpose, as their users get them: each from PyPI, in a cached environment of its own."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.clients import IsError, Stdio
from bench.rows import GENERATE, TRIVIAL, in_turn, order
from bench.servers import Bench
from bench.table import Figure, Sight

__all__ = ["peers"]

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refvideo-bench"
MINIMAL = "from fastmcp import FastMCP\nm = FastMCP('m')\n@m.tool\ndef hello() -> str:\n    return 'hello'\nm.run()"


@dataclass(frozen=True)
class Peer:
    """`settings` get the address of its service as {url}; `call` asks for a video, None: it has no such service."""

    name: str
    package: str
    command: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    call: tuple[str, Mapping[str, Any]] | None = None


PEERS = (
    Peer(
        "minimax-mcp",
        "minimax-mcp",
        ("minimax-mcp",),
        {"MINIMAX_API_KEY": "key", "MINIMAX_API_HOST": "{url}"},
        ("generate_video", {"prompt": "a cat"}),
    ),
    Peer(
        "sanzaru",
        "sanzaru[mcp,video,image]",
        ("sanzaru",),
        {"HF_KEY": "key:secret", "HIGGSFIELD_BASE_URL": "{url}", "SANZARU_MEDIA_PATH": "{home}"},
        ("create_video", {"prompt": "a cat"}),
    ),
    Peer("gflow-cli", "gflow-cli", ("gflow", "mcp", "run")),  # it drives a browser that a person has signed in
    Peer("fastmcp, its minimal server", "fastmcp", ("python", "-c", MINIMAL)),
)


def peers(bench: Bench) -> Iterator[Figure | Sight]:
    own = partial(bench.ours, Stdio, begin=False)
    yield from _told(bench, "refvideo-mcp", lambda url: own(MYROUTER_BASE_URL=url), (GENERATE, order()))
    for peer in PEERS:
        try:
            folder = _installed(peer.package)
        except subprocess.CalledProcessError as error:
            yield Sight(f"{peer.name}: cannot be installed", error.stderr.strip().splitlines()[-1])
            continue
        command = [str(folder / peer.command[0]), *peer.command[1:]]
        media = str(bench.home())

        def make(url: str, peer: Peer = peer, command: list[str] = command, media: str = media) -> Stdio:
            settings = {name: text.format(url=url, home=media) for name, text in peer.settings.items()}
            return bench.other(command, **settings)

        us, them = in_turn(
            bench.rounds(5),
            lambda: _start(make("http://127.0.0.1:9")),
            lambda: _start(bench.bare("trivial", Stdio, begin=False)),
        )
        yield Figure(f"{peer.name}: start → tools/list", TRIVIAL, "s", us, them)
        yield from _told(bench, peer.name, make, peer.call)


def _told(
    bench: Bench, name: str, make: Callable[[str], Stdio], call: tuple[str, Mapping[str, Any]] | None
) -> Iterator[Figure | Sight]:
    server = make("http://127.0.0.1:9")
    server.begin()
    tools = server.ask("tools/list")["tools"]
    server.stop()
    yield Figure(f"{name}: tokens of tools/list, at 4 characters", "", "tokens", [len(json.dumps(tools)) / 4])
    count = sum(_undescribed(tool["inputSchema"]) for tool in tools)
    yield Figure(f"{name}: parameters without a description", "", "parameters", [count])
    if call is None:
        return
    for what, url, locked in (
        ("a wrong key", bench.router_url, 1.0),
        ("a refused connection", "http://127.0.0.1:9", 0.0),
    ):
        bench.router(locked=locked)
        server = make(url)
        server.begin()
        yield Sight(f"{name}: {what}", _outcome(server, *call))
        server.stop()
    bench.router()


def _start(server: Stdio) -> float:
    begun = time.perf_counter()
    server.begin()
    server.ask("tools/list")
    took = time.perf_counter() - begun
    server.stop()
    return took


def _outcome(server: Stdio, tool: str, arguments: Mapping[str, Any]) -> str:
    """What an agent sees of a call that fails."""
    try:
        result = server.ask("tools/call", name=tool, arguments=arguments)
    except IsError as error:
        return f"protocol error: “{str(error)[:300]}”"
    text = " ".join(part.get("text", "") for part in result["content"])
    return f"isError {'true' if result.get('isError') else '**false**'}: “{text[:300]}”"


def _undescribed(schema: Mapping[str, Any]) -> int:
    """How many properties say nothing of themselves, nested ones included."""
    parts = [*schema.get("properties", {}).values()]
    inner = [schema[name] for name in ("items",) if isinstance(schema.get(name), dict)]
    inner += [*schema.get("$defs", {}).values(), *parts]
    return sum("description" not in part for part in parts) + sum(map(_undescribed, inner))


def _installed(package: str) -> Path:
    """The folder of its programs."""
    home = CACHE / package.partition("[")[0]
    done = home / ".installed"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        for command in (
            [sys.executable, "-m", "venv", str(home)],
            [str(home / "bin" / "pip"), "install", "--quiet", package],
        ):
            subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
        done.touch()
    return home / "bin"
