"""Clients that hang up, look away, or see half of an answer: each finishes its video, and pays once."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import ProgressNotification

from client_place import ClientPlace
from client_table import HTTP, STDIO, rows, written
from command_line import COMMAND, environment
from fake_router import said, told
from odd_clients import drops_and_repeats, hangs_up, sees_only_structure, sees_only_text, waits
from task_client import TakesTasks

pytestmark = pytest.mark.anyio

HEADING = "Odd clients"
REVISIONS = {"legacy": "2025-11-25", "2026-07-28": "2026-07-28"}
# On stdio the server ends with the connection, and the next one goes on; over HTTP one server sees both.
HANGING_UP = [("legacy", STDIO), ("2026-07-28", HTTP)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientPlace]:
    with ClientPlace.running(tmp_path_factory.mktemp("clients"), seconds=0.3) as place:
        yield place


@pytest.fixture
def paid_once(place: ClientPlace) -> Iterator[None]:
    before = place.submits()
    yield
    assert place.submits() == before + 1


def connected(place: ClientPlace, era: str, door: str, **options: Any) -> Client:
    stdio = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=environment(**place.settings))
    return Client(place.url if door == HTTP else stdio, mode=era, **options)


def finished(place: ClientPlace, video: str, who: str, revision: str, door: str) -> None:
    assert place.plays(video)
    what = "link" if door == HTTP else "saved file"
    written(HEADING, who, revision, door, f"one job, the {what} plays")


@pytest.mark.usefixtures("paid_once")
def test_a_script_without_an_sdk(place: ClientPlace) -> None:
    """It shakes hands in an older revision, and leaves out whatever it can."""
    script = Path(__file__).parent / "raw_client.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 40
    found = subprocess.run(
        [sys.executable, script, place.picture, *COMMAND],
        env=environment(**place.settings),
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert (found.returncode, found.stderr) == (0, "")
    finished(place, found.stdout.rstrip("\n"), "knows no SDK", "2025-06-18", STDIO)


@pytest.mark.usefixtures("paid_once")
@pytest.mark.parametrize(("era", "door"), HANGING_UP)
async def test_a_client_that_hangs_up_on_a_long_call(place: ClientPlace, era: str, door: str) -> None:
    order = place.order(f"is waited for by {era}", over_http=door == HTTP)
    video = await hangs_up(lambda: connected(place, era, door), order, patience=0.5)
    finished(place, video, "hangs up while it waits, and asks for the list", REVISIONS[era], door)


@pytest.mark.usefixtures("paid_once")
@pytest.mark.parametrize(("era", "door"), HANGING_UP)
async def test_a_client_that_drops_the_call_that_buys(place: ClientPlace, era: str, door: str) -> None:
    order = place.order(f"is ordered by {era} [rehearse:slow-answer:2]", over_http=door == HTTP)
    video = await drops_and_repeats(lambda: connected(place, era, door), order, patience=1)
    finished(place, video, "hangs up while it buys, and repeats the call", REVISIONS[era], door)


@pytest.mark.usefixtures("paid_once")
async def test_a_client_that_ignores_progress(place: ClientPlace) -> None:
    """It has not asked for any, so it must get none."""
    news: list[object] = []

    async def hear(message: object) -> None:
        news.append(message)

    async with connected(place, "legacy", HTTP, message_handler=hear) as client:
        video = await waits(client, place.order("looks away", over_http=True))
    assert not [message for message in news if isinstance(message, ProgressNotification)]
    finished(place, video, "ignores progress", "2025-11-25", HTTP)


@pytest.mark.usefixtures("paid_once")
async def test_a_client_that_shows_its_model_only_the_structure(place: ClientPlace) -> None:
    async with connected(place, "2026-07-28", HTTP) as client:

        async def show(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
            return told(await client.call_tool(tool, arguments))

        video = await sees_only_structure(show, place.order("is structured", over_http=True))
    finished(place, video, "shows its model only the structure", "2026-07-28", HTTP)


@pytest.mark.usefixtures("paid_once")
async def test_a_client_that_shows_its_model_only_the_text(place: ClientPlace) -> None:
    async with connected(place, "legacy", STDIO) as client:

        async def show(tool: str, arguments: dict[str, Any]) -> str:
            return said(await client.call_tool(tool, arguments))

        video = await sees_only_text(show, place.order("is a text", over_http=False))
    finished(place, video, "shows its model only the text", "2025-11-25", STDIO)


@pytest.mark.usefixtures("paid_once")
async def test_a_client_that_declares_tasks(place: ClientPlace) -> None:
    """One call is enough: the client asks for the task until it is complete."""
    takes_tasks = TakesTasks()
    async with connected(place, "2026-07-28", HTTP, extensions=[takes_tasks]) as client:
        answer = await client.call_tool("generate_reference_video", place.order("is a task", over_http=True))
    created, *_, last = takes_tasks.seen
    assert (created["resultType"], last["status"]) == ("task", "completed")
    finished(place, told(answer)["videos"][0]["url"], "declares Tasks", "2026-07-28", HTTP)


def test_the_page_has_a_row_for_each_of_them_and_no_other() -> None:
    assert len(rows(HEADING)) == 5 + 2 * len(HANGING_UP)
