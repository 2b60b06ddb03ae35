"""A proxy that fails on the way to the router: what matters is how far the request got, not how it failed."""

import gc
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

import anyio
import pytest
from mcp import Client

from bad_proxy import CDN, ROUTER, BadProxy, Break
from fake_router import said, told
from marker import KEY
from misbehaving_router import MisbehavingRouter
from refvideo_mcp.app import build_server
from refvideo_mcp.ledger import Ledger
from refvideo_mcp.router import Timeouts
from refvideo_mcp.settings import Settings
from test_faults import HurriedClock

# The HTTP client leaves the socket of a handshake that broke to the garbage collector.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]

REQUEST = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
FAR = [broken for broken in Break if broken.name.startswith("FORWARDED")]
NEAR = [broken for broken in Break if broken not in FAR and broken is not Break.NONE]
SILENT = (Break.HANGS, Break.TUNNEL_HANGS, Break.FORWARDED_HANGS)


@pytest.fixture(scope="module", autouse=True)
def late_imports() -> None:
    """The server imports these at their first use; in hurried time that would take it half a minute."""
    for module in ("httpx2", "httpcore2", "socksio", "sqlalchemy", "stamina", "refvideo_mcp.ledger.database"):
        import_module(module)


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    yield
    gc.collect()  # here, where it may warn


@asynccontextmanager
async def behind(
    kind: str, folder: Path, environment: pytest.MonkeyPatch, timeouts: Timeouts | None = None
) -> AsyncIterator[tuple[MisbehavingRouter, BadProxy, Client, HurriedClock]]:
    """A router, a proxy of that kind before it, a client of a server that must go through it, and the server's time."""
    clock = HurriedClock(10)
    async with MisbehavingRouter() as router, BadProxy.running(kind, router, folder) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            environment.setenv(name, proxy.url)
        environment.setenv("no_proxy", "")
        environment.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
        settings = Settings(
            api_key=KEY, base_url=f"https://{ROUTER}", output_dir=folder, database=folder / "ledger.db", max_wait=300
        )
        async with Client(build_server(settings, clock=clock, timeouts=timeouts)) as client:
            yield router, proxy, client, clock


def states(folder: Path) -> list[str]:
    ledger = Ledger(folder / "ledger.db")
    try:
        return [job.state for job in ledger.newest(f"local@{ROUTER}", 10)]
    finally:
        ledger.close()


def whole(router: MisbehavingRouter) -> int:
    """How many POSTs reached the router."""
    return sum(post.complete for post in router.posts)


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("broken", NEAR, ids=lambda broken: broken.name)
async def test_proxy_that_breaks_before_the_request_has_left_costs_nothing(
    kind: str, broken: Break, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = Timeouts(connect=0.5, reach=0.5) if broken in SILENT else None
    async with behind(kind, tmp_path, monkeypatch, impatient) as (router, proxy, client, _):
        proxy.broken = broken
        answer = await client.call_tool("generate_reference_video", REQUEST)
        reached, remembered = len(router.posts), states(tmp_path)
        proxy.broken = Break.NONE
        again = await client.call_tool("generate_reference_video", REQUEST)
    assert (reached, remembered) == (0, ["rejected"])
    assert said(answer).startswith(f"{ROUTER} could not be reached (")
    assert "Nothing was sent or bought." in said(answer)
    assert answer.is_error
    assert (told(again)["state"], whole(router)) == ("queued", 1)


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("broken", FAR, ids=lambda broken: broken.name)
async def test_proxy_that_breaks_when_the_request_has_left_leaves_it_uncertain_and_sent_once(
    kind: str, broken: Break, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = Timeouts(submit=1.5, grace=0) if broken in SILENT else None
    async with behind(kind, tmp_path, monkeypatch, impatient) as (router, proxy, client, _):
        proxy.broken = broken
        answer = await client.call_tool("generate_reference_video", REQUEST)
        proxy.broken = Break.NONE
        again = await client.call_tool("generate_reference_video", REQUEST)
    assert (whole(router), states(tmp_path)) == (1, ["uncertain"])
    assert "The job may have been accepted and billed all the same." in said(answer)
    assert answer.is_error
    assert again.is_error  # and nothing more was sent


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize(
    "broken",
    [Break.CLOSE_AT_ONCE, Break.GARBAGE, Break.DIES_LATE, Break.GARBAGE_LATE, Break.TUNNEL_GARBAGE],
    ids=lambda broken: broken.name,
)
async def test_job_is_followed_on_by_itself_once_the_proxy_is_mended(
    kind: str, broken: Break, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with behind(kind, tmp_path, monkeypatch) as (router, proxy, client, clock):
        router.job_answer = lambda task_id: {
            "task": {"task_id": task_id, "status": "TASK_STATUS_SUCCEED"},
            "videos": [{"video_url": f"https://{CDN}/videos/{task_id}.mp4", "video_url_ttl": "3600"}],
        }
        router.video = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"isom", 512, b"isom", b"mp41") * 10
        task_id = told(await client.call_tool("generate_reference_video", REQUEST))["task_id"]
        proxy.broken = broken
        started = clock.steady()
        waited = await client.call_tool("get_task_result", {"task_id": task_id, "wait_seconds": 20})
        took = clock.steady() - started
        proxy.broken = Break.NONE
        with anyio.fail_after(30):
            await router.until(lambda: bool(router.downloads))
    assert waited.is_error
    assert f"No answer from {ROUTER} (" in said(waited)
    assert took >= 20  # an agent that was answered at once would ask again at once
    assert whole(router) == 1
