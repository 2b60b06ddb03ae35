"""Other people's clients on the real server: the MCP Inspector, and both TypeScript SDKs doing the whole job."""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from client_place import ClientPlace
from client_table import HTTP, STDIO, rows, written
from command_line import COMMAND, environment
from node_tools import inspector, node_modules, script, version

INSPECTOR = "@modelcontextprotocol/inspector"
ERAS = {"2025-11-25": "legacy", "2026-07-28": "modern"}
INSPECTIONS = [(revision, door) for revision in ERAS for door in (STDIO, HTTP)]
# The first speaks the handshake only; the second finds out, and takes the newest that both know.
SDKS = {"@modelcontextprotocol/sdk": "2025-11-25", "@modelcontextprotocol/client": "2026-07-28"}
JOBS = [(package, door) for package in SDKS for door in (STDIO, HTTP)]
TOOLS = ["generate_reference_video", "get_task_result", "list_reference_videos"]
PLAYER = "ui://refvideo/player.html"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientPlace]:
    node_modules()  # a bare machine skips here, before anything starts
    # So long that a waiting client sees the job more than once.
    with ClientPlace.running(tmp_path_factory.mktemp("clients"), seconds=2.5) as place:
        yield place


@pytest.fixture(scope="module")
def jobs(place: ClientPlace) -> Iterator[dict[tuple[str, str], Future[str]]]:
    """What each TypeScript client prints. They mostly wait, so they do it at the same time."""

    def whole_job(package: str, door: str) -> str:
        order = json.dumps(place.order(f"waves to {package} over {door}", over_http=door == HTTP))
        where = [place.url] if door == HTTP else COMMAND
        return script("whole_job.mjs", package, order, *where, **place.settings)

    with ThreadPoolExecutor() as pool:
        yield {job: pool.submit(whole_job, *job) for job in JOBS}


@pytest.mark.parametrize(("package", "door"), JOBS)
def test_a_typescript_client_does_the_whole_job(
    place: ClientPlace, jobs: dict[tuple[str, str], Future[str]], package: str, door: str
) -> None:
    seen = json.loads(jobs[package, door].result())
    assert (seen["revision"], seen["tools"]) == (SDKS[package], TOOLS)
    assert seen["started"]["structuredContent"]["state"] == "queued"
    progress = [step["progress"] for step in seen["progress"]]
    assert len(progress) > 1
    assert progress == sorted(set(progress))
    assert {step["message"].split()[0].rstrip(",") for step in seen["progress"]} <= {
        "queued",
        "processing",
        "succeeded",
    }
    answer = seen["finished"]["structuredContent"]
    assert answer["state"] == "succeeded"
    (video,) = answer["videos"]
    assert ("saved_to" in video) == (door == STDIO)
    assert place.plays(video["url"] if door == HTTP else video["saved_to"])

    result = "progress grew, the link plays" if door == HTTP else "progress grew, the saved file plays"
    written("Software development kits", f"`{package}` {version(package)}", seen["revision"], door, result)


def inspect(place: ClientPlace, door: str, *options: str) -> subprocess.CompletedProcess[str]:
    where = [place.url] if door == HTTP else COMMAND
    return subprocess.run(
        inspector("--method", "tools/list", "--advertise-apps", "--connect-timeout", "60000", *options, "--", *where),
        env=environment(**place.settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(("revision", "door"), INSPECTIONS)
def test_the_strict_inspector_finds_no_schema_problem(place: ClientPlace, revision: str, door: str) -> None:
    found = inspect(place, door, "--strict", "--protocol-era", ERAS[revision], "--format", "json")
    assert (found.returncode, found.stderr) == (0, "")
    names = [tool["name"] for tool in json.loads(found.stdout)["result"]["tools"]]
    assert names[:3] == TOOLS
    result = f"{len(names)} tools, no schema problem"
    written("The Inspector", f"`{INSPECTOR}` {version(INSPECTOR)}", revision, door, result)


def test_the_inspector_finds_the_player_of_the_tools_that_have_one(place: ClientPlace) -> None:
    found = inspect(place, HTTP, "--app-info", "--protocol-era", "modern")
    assert found.returncode == 0
    apps = {app["toolName"]: app.get("resourceUri") for app in map(json.loads, found.stdout.splitlines())}
    assert apps == {
        "generate_reference_video": PLAYER,
        "get_task_result": PLAYER,
        "list_reference_videos": None,
        "read_video_piece": PLAYER,
        "add_pictures": PLAYER,
    }


def test_the_page_has_a_row_for_each_of_these_runs_and_no_other() -> None:
    assert len(rows("Software development kits")) == len(JOBS)
    assert len(rows("The Inspector")) == len(INSPECTIONS)
