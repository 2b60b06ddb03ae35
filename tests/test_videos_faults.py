"""Whatever happens to a download, over real sockets: the file is whole, or there is none and a sentence says why."""

import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx2
import pytest
import socksio
import stamina

from faults import HUGE, OneFault
from misbehaving_router import AnyFault, Body, Fault, InTurn, MisbehavingRouter, Redirect, Status, nowhere
from refvideo_mcp.errors import Unavailable
from refvideo_mcp.videos import NotReached, Videos

pytestmark = pytest.mark.anyio

MB = 2**20
MP4 = b"\0\0\0\x10ftypisom\0\0\0\0" + (3 * MB).to_bytes(4, "big") + b"mdat" + bytes(range(256)) * (3 * MB // 256)
MP4 = MP4[: 16 + 3 * MB]
FETCHED = "The video could not be fetched yet: "
BROKE = FETCHED + "the connection broke again and again."


@pytest.fixture(autouse=True)
def attempts_without_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
async def router() -> AsyncIterator[MisbehavingRouter]:
    async with MisbehavingRouter() as router:
        router.video = MP4
        yield router


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("percent", [1, 60, 99])
async def test_download_that_is_cut_begins_again_and_is_whole_in_the_end(
    percent: int, router: MisbehavingRouter, tmp_path: Path
) -> None:
    router.video_cuts = [percent] * 3
    saved = await Videos(tmp_path).save(router.video_url("t"), "cat")
    assert saved.read_bytes() == MP4
    assert names(tmp_path) == ["cat.mp4"]
    assert len(router.downloads) == 4


async def test_file_that_changed_meanwhile_is_not_mixed_with_its_elder(tmp_path: Path) -> None:
    elder, younger = MP4, MP4[:64] + b"\xff" * (len(MP4) - 64)
    async with MisbehavingRouter() as router:
        router.video, router.video_cuts = elder, [50]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Videos(tmp_path).save, router.video_url("t"), "cat")
            await router.until(lambda: not router.video_cuts)
            router.video = younger
    assert (tmp_path / "cat.mp4").read_bytes() == younger


async def test_nothing_of_the_router_goes_to_the_host_of_the_video(router: MisbehavingRouter, tmp_path: Path) -> None:
    async with MisbehavingRouter() as cdn:
        cdn.video = MP4
        headers = ("Set-Cookie: session=1; Path=/", f"Location: {router.url}/videos/next.mp4")
        router.video_fault = InTurn(Body(b"", 302, headers=headers), Redirect(cdn.video_url("t")), Fault.NONE)
        await Videos(tmp_path).save(router.video_url("t"), "cat")
        for request in [*router.downloads, *cdn.downloads]:
            assert set(request.headers) == {"host", "accept", "accept-encoding", "connection", "user-agent"}
        assert (len(router.downloads), len(cdn.downloads)) == (2, 1)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/cat.mp4"])
async def test_redirect_to_anything_but_http_is_not_followed(
    location: str, router: MisbehavingRouter, tmp_path: Path
) -> None:
    router.video_fault = Redirect(location)
    with pytest.raises(Unavailable) as caught:
        await Videos(tmp_path).save(router.video_url("t"), "cat")
    assert str(caught.value) == "The video could not be fetched: its link is no http or https address."
    assert (len(router.downloads), names(tmp_path)) == (1, [])


PRIVATE = [
    "localhost",
    "127.0.0.1",
    "0x7f.1",
    "[::1]",
    "[::ffff:10.0.0.1]",
    "10.0.0.1",
    "169.254.169.254",
    "nas.local",
    "nas",
]


@pytest.mark.parametrize("host", PRIVATE)
async def test_link_into_a_private_network_is_not_followed_where_the_router_is_elsewhere(
    host: str, tmp_path: Path
) -> None:
    """Whoever answers in the router's place must not make this machine ask others."""
    asked: list[httpx2.URL] = []

    def host_of_the_video(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url)
        return httpx2.Response(302, headers={"Location": f"http://{host}/cat.mp4"})

    videos = Videos(tmp_path, any_host=False, transport=httpx2.MockTransport(host_of_the_video))
    for url in (f"https://{host}/cat.mp4", "https://cdn.example/cat.mp4"):
        with pytest.raises(Unavailable) as caught:
            await videos.save(url, "cat")
        shown = host.strip("[]")
        assert str(caught.value) == f"The video was not fetched: its link leads to {shown}, which is no public host."
    assert [url.host for url in asked] == ["cdn.example"]
    assert names(tmp_path) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/cat.mp4", "cat.mp4", ""])
async def test_link_that_is_not_http_is_not_followed(url: str, tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        await Videos(tmp_path).save(url, "cat")
    assert str(caught.value) == "The video could not be fetched: its link is no http or https address."
    assert names(tmp_path) == []


async def test_link_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        await Videos(tmp_path).save("http://[::1/cat.mp4", "cat")
    assert str(caught.value) == FETCHED + "its link or its host's answer is malformed."


async def test_host_that_cannot_be_reached_is_named_as_the_cause(tmp_path: Path) -> None:
    with nowhere() as url, pytest.raises(Unavailable) as caught:
        await Videos(tmp_path).save(f"{url}/cat.mp4", "cat")
    assert str(caught.value) == FETCHED + "its host cannot be reached."
    assert names(tmp_path) == []


@pytest.mark.parametrize(("variable", "value"), [("HTTPS_PROXY", "foo://proxy"), ("SSL_CERT_FILE", "/nowhere/ca.pem")])
async def test_proxy_or_certificate_that_cannot_be_is_named_as_the_cause(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable.lower(), raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(Unavailable) as error:
        await Videos(tmp_path).save("https://cdn.example/video.mp4", "cat")
    assert str(error.value) == (
        "The video could not be fetched: a proxy or certificate setting cannot be used. "
        "Ask the user to check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE."
    )


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
async def test_refusal_of_the_host_is_told_as_it_is_and_not_asked_for_twice(
    status: int, router: MisbehavingRouter, tmp_path: Path
) -> None:
    router.video_fault = Status(status)
    with pytest.raises(NotReached) as caught:
        await Videos(tmp_path).save(router.video_url("t"), "cat")
    assert str(caught.value) == FETCHED + f"its host answered {status}."
    assert caught.value.status == status
    assert (len(router.downloads), names(tmp_path)) == (1, [])


async def test_link_that_is_refused_during_the_download_is_told_too(router: MisbehavingRouter, tmp_path: Path) -> None:
    router.video_fault = InTurn(Fault.HALF_BODY, Status(403))
    with pytest.raises(NotReached):
        await Videos(tmp_path).save(router.video_url("t"), "cat")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "passing",
    [
        Status(503),
        Status(429),
        Status(408),
        Fault.RESET_BEFORE_READING,
        Fault.RESET_AFTER_BODY,
        Fault.CLOSE_WITHOUT_ANSWER,
        Fault.HALF_HEAD,
        Fault.HALF_BODY,
        Fault.LENGTH_TOO_LONG,
        Fault.LENGTH_TOO_SHORT,
    ],
    ids=str,
)
async def test_fault_that_passes_is_not_noticed(passing: OneFault, router: MisbehavingRouter, tmp_path: Path) -> None:
    router.video_fault = InTurn(passing, passing, Fault.NONE)
    saved = await Videos(tmp_path).save(router.video_url("t"), "cat")
    assert saved.read_bytes() == MP4
    assert names(tmp_path) == ["cat.mp4"]


@pytest.mark.parametrize(
    ("fault", "says", "downloads"),
    [
        (Status(503), FETCHED + "its host answered 503.", 8),
        (Redirect(""), FETCHED + "its link leads from redirect to redirect.", 4),
        (Fault.CLOSE_WITHOUT_ANSWER, BROKE, 8),
        (Fault.HALF_BODY, BROKE, 8),
        (Fault.LENGTH_TOO_SHORT, FETCHED + "only a part of it came.", 8),
        (Fault.HTML, FETCHED + "its link led to a web page instead of a video.", 1),
        (
            Body(b"\xef\xbb\xbf\n<?xml version='1.0'?><Error/>"),
            FETCHED + "its link led to a web page instead of a video.",
            1,
        ),
        (Fault.INVALID_JSON, FETCHED + "its link led to something else instead of a video.", 1),
        (Body(b"no"), FETCHED + "its link led to something else instead of a video.", 1),
        (Fault.EMPTY_BODY, FETCHED + "its link led to an empty file instead of a video.", 1),
        (
            Body(b"no gzip", headers=("Content-Encoding: gzip",)),
            FETCHED + "its link or its host's answer is malformed.",
            1,
        ),
    ],
    ids=str,
)
async def test_fault_that_stays_is_told_in_a_sentence_and_leaves_nothing_behind(
    fault: AnyFault, says: str, downloads: int, router: MisbehavingRouter, tmp_path: Path
) -> None:
    router.video_fault = fault
    with pytest.raises(NotReached) as caught:
        await Videos(tmp_path).save(router.video_url("t"), "cat")
    assert str(caught.value) == says
    assert caught.value.status is None
    assert (len(router.downloads), names(tmp_path)) == (downloads, [])


async def test_web_page_is_noticed_at_its_first_bytes(router: MisbehavingRouter, tmp_path: Path) -> None:
    router.video, router.video_fault = b"<html>" + b" " * 100, Fault.HUGE_BODY
    with pytest.raises(Unavailable, match="a web page"):
        await Videos(tmp_path).save(router.video_url("t"), "cat")
    assert router.bytes_sent < HUGE / 4


@pytest.mark.parametrize("fault", [Fault.HUGE_BODY, Fault.HUGE_CHUNKED])
async def test_video_over_the_limit_is_not_fetched_to_its_end(
    fault: Fault, router: MisbehavingRouter, tmp_path: Path
) -> None:
    router.video_fault = fault
    with pytest.raises(Unavailable) as caught:
        await Videos(tmp_path, max_mb=4).save(router.video_url("t"), "cat")
    assert str(caught.value) == (
        "The video is larger than 4 MB and was not saved. REFVIDEO_MAX_VIDEO_MB raises the limit."
    )
    assert router.bytes_sent < HUGE / 4
    assert (len(router.downloads), names(tmp_path)) == (1, [])


async def test_limit_of_zero_is_none(router: MisbehavingRouter, tmp_path: Path) -> None:
    saved = await Videos(tmp_path, max_mb=0).save(router.video_url("t"), "cat")
    assert saved.read_bytes() == MP4


@pytest.mark.parametrize("fault", [Fault.DRIP, Fault.HANG])
async def test_download_that_never_ends_is_given_up(fault: Fault, router: MisbehavingRouter, tmp_path: Path) -> None:
    """A drip keeps every read alive: only a limit for the whole ends it."""
    router.video_fault = fault
    with pytest.raises(Unavailable) as caught:
        await Videos(tmp_path, within=0.3).save(router.video_url("t"), "cat")
    assert str(caught.value) == FETCHED + "its host is too slow."
    assert names(tmp_path) == []


async def test_cancelled_download_leaves_nothing_behind(router: MisbehavingRouter, tmp_path: Path) -> None:
    router.video_fault = Fault.DRIP
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Videos(tmp_path).save, router.video_url("t"), "cat")
            while not names(tmp_path):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [socksio.ProtocolError("bad"), ssl.SSLError("bad"), ValueError("bad")])
async def test_download_that_breaks_in_any_way_is_tried_again_and_told(error: Exception, tmp_path: Path) -> None:
    """A SOCKS proxy, a TLS layer or a header may break in a way that the HTTP client has no word for."""
    attempts = 0

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal attempts
        attempts += 1
        if attempts % 2:
            raise error
        return httpx2.Response(200, content=MP4)

    videos = Videos(tmp_path, transport=httpx2.MockTransport(answer))
    assert (await videos.save("https://cdn.example/cat.mp4", "cat")).read_bytes() == MP4

    def fail(request: httpx2.Request) -> httpx2.Response:
        raise error

    with pytest.raises(Unavailable) as caught:
        await Videos(tmp_path, transport=httpx2.MockTransport(fail)).save("https://cdn.example/cat.mp4", "cat")
    assert str(caught.value) == BROKE
    assert names(tmp_path) == ["cat.mp4"]


class Half(httpx2.AsyncByteStream):
    """Half a video, then something happens, then the rest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield MP4[:MB]
        shutil.rmtree(self._folder)
        yield MP4[MB:]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a folder with an open file")
async def test_folder_that_vanishes_during_the_download_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Half(folder)))
    with pytest.raises(Unavailable) as caught:
        await Videos(folder, transport=transport).save("https://cdn.example/cat.mp4", "cat")
    assert str(caught.value) == f"The video could not be saved in {folder}: it is gone."
    assert names(tmp_path) == []


async def test_file_in_the_place_of_the_folder_is_told(router: MisbehavingRouter, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.write_text("the user's own")
    with pytest.raises(Unavailable) as caught:
        await Videos(folder).save(router.video_url("t"), "cat")
    assert str(caught.value) == f"The video could not be saved in {folder}: it is no folder."
    assert folder.read_text() == "the user's own"


async def test_disk_that_fills_is_told_and_emptied_again(small_disk: Path, router: MisbehavingRouter) -> None:
    with pytest.raises(Unavailable) as caught:
        await Videos(small_disk).save(router.video_url("t"), "cat")
    assert str(caught.value) == f"The video could not be saved in {small_disk}: its disk is full."
    assert (len(router.downloads), names(small_disk)) == (1, [])
    assert shutil.disk_usage(small_disk).used == 0


IN_A_SMALL_SPACE = """
import asyncio, resource, sys
from pathlib import Path
from refvideo_mcp.errors import Unavailable
from refvideo_mcp.videos import Videos

resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    asyncio.run(Videos(Path(sys.argv[2])).save(sys.argv[1], "cat"))
except Unavailable as error:
    sys.stdout.write(str(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for the size of files")
async def test_file_system_that_takes_no_large_files_is_told(router: MisbehavingRouter, tmp_path: Path) -> None:
    command = [sys.executable, "-c", IN_A_SMALL_SPACE, router.video_url("t"), str(tmp_path)]
    with anyio.fail_after(60):
        child = await anyio.run_process(command, stderr=None)
    assert child.stdout.decode() == f"The video could not be saved in {tmp_path}: it takes no file of this size."
    assert names(tmp_path) == []
