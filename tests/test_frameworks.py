"""Agent frameworks on the real server: each does the whole job, its own conversion of the tools' answers included."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from client_place import ClientPlace
from client_table import STDIO, rows, written
from command_line import COMMAND, environment
from programs import installed
from scripted_model import ScriptedModel

HERE = Path(__file__).parent / "frameworks"
REQUIREMENTS = HERE / "requirements.txt"
PROGRAM = Path("Scripts", "python.exe") if sys.platform == "win32" else Path("bin", "python")
HEADING = "Agent frameworks"
FRAMEWORKS = {
    "langchain-mcp-adapters": "langchain_job.py",
    "openai-agents": "openai_agents_job.py",
    "pydantic-ai-slim": "pydantic_ai_job.py",
}
TOOLS = ["generate_reference_video", "get_task_result", "list_reference_videos"]


@cache
def python() -> str:
    """Python in an environment of their own: they want an older `mcp`."""
    folder = installed("frameworks", REQUIREMENTS.read_bytes() + sys.version.encode(), by=install)
    return str(folder / PROGRAM)


def install(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(folder / PROGRAM)]
    command = [*pip, "install", "--quiet", "--no-compile", "-r", str(REQUIREMENTS)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if result.returncode:
        pytest.skip(f"pip could not install the frameworks: {result.stderr[-500:]}")


def version(framework: str) -> str:
    wanted = re.search(rf"^{framework}\S*==(\S+)$", REQUIREMENTS.read_text(), re.MULTILINE)
    assert wanted
    return wanted[1]


def revision() -> str:
    """The newest one that their `mcp` speaks, which is what it asks for."""
    program = "from mcp.types import LATEST_PROTOCOL_VERSION; print(LATEST_PROTOCOL_VERSION)"
    return subprocess.run([python(), "-c", program], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientPlace]:
    python()  # a bare machine skips here, before anything starts
    with ClientPlace.running(tmp_path_factory.mktemp("frameworks"), seconds=1) as place:
        yield place


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_agent_framework_does_the_whole_job(place: ClientPlace, framework: str) -> None:
    """It pays once, and its converters take the finished video's answer, preview and all."""
    before = place.submits()
    with ScriptedModel.running(place.order(f"waves to {framework}", over_http=False)) as model:
        ended = subprocess.run(
            [python(), HERE / FRAMEWORKS[framework], model.url, *COMMAND],
            env=environment(**place.settings),
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=120,
        )
    assert ended.returncode == 0, ended.stderr
    assert model.tools == TOOLS
    assert place.plays(json.loads(ended.stdout.splitlines()[-1]))
    assert place.submits() == before + 1
    written(HEADING, f"`{framework}` {version(framework)}", revision(), STDIO, "one job, the saved file plays")


def test_the_page_has_a_row_for_each_of_them_and_no_other() -> None:
    assert len(rows(HEADING)) == len(FRAMEWORKS)
