"""How a client starts this very installation, wherever it starts it from."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

__all__ = ["as_shell_line", "server_command"]

# uvx keeps what it runs in its cache, which may be emptied at any time.
_UV_CACHE = re.compile(r"[\\/](archive|environments)-v[0-9]+[\\/]")


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
