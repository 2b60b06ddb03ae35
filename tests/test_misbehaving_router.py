"""The misbehaving router really does on the wire what its faults are called."""

import asyncio
import json
import sys
from pathlib import Path

import anyio
import httpx2
import pytest

from faults import HUGE, OneFault
from misbehaving_router import Body, Fault, InTurn, MisbehavingRouter, Redirect, Status, nowhere

pytestmark = pytest.mark.anyio

SUBMIT = "/v3/async/vidu-q2-reference2video"
RESULT = "/v3/async/task-result"
KEY = {"Authorization": "Bearer key"}
JOB = {"prompt": "@1 waves"}
RIGHT = b'{"task_id": "task-1", "provider_request_id": "provider-task-1"}'


class Wire:
    """A client that shows every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, router: MisbehavingRouter) -> "Wire":
        return cls(*await asyncio.open_connection("127.0.0.1", int(router.url.rpartition(":")[2])))

    async def __aenter__(self) -> "Wire":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    def post(self, connection: str = "close") -> None:
        body = json.dumps(JOB)
        head = f"POST {SUBMIT} HTTP/1.1\r\nAuthorization: Bearer key\r\nConnection: {connection}\r\n"
        self.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())

    async def answer(self) -> tuple[str, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        return head.decode(), await self.reader.read()


async def post_once(router: MisbehavingRouter, fault: OneFault) -> tuple[str, bytes]:
    router.submit_fault = fault
    async with await Wire.to(router) as wire:
        wire.post()
        with anyio.fail_after(10):
            return await wire.answer()


async def test_well_behaved_router_takes_a_job_and_serves_its_video_after_the_asked_number_of_polls() -> None:
    async with MisbehavingRouter() as router, httpx2.AsyncClient(base_url=router.url, headers=KEY) as client:
        router.polls_until_done = 2
        router.video = b"\0\0\0\x08ftyp"
        assert (await client.post(SUBMIT, json=JOB)).content == RIGHT
        first = (await client.get(RESULT, params={"task_id": "task-1"})).json()
        second = (await client.get(RESULT, params={"task_id": "task-1"})).json()
        video = await client.get(second["videos"][0]["video_url"])

        assert [answer["task"]["status"] for answer in (first, second)] == [
            "TASK_STATUS_PROCESSING",
            "TASK_STATUS_SUCCEED",
        ]
        assert first["videos"] is None
        assert video.content == router.video
        assert (router.accepted, router.polls, router.connections) == (["task-1"], {"task-1": 2}, 1)
        (post,) = router.posts
        assert (post.complete, json.loads(post.body), post.authorization) == (True, JOB, "Bearer key")
        assert [look.authorization for look in router.looks] == ["Bearer key"] * 2
        assert [download.headers["host"] for download in router.downloads] == [router.url[7:]]


async def test_job_ends_as_the_test_says() -> None:
    async with MisbehavingRouter() as router, httpx2.AsyncClient(base_url=router.url, headers=KEY) as client:
        router.accepted.append("a/b")
        router.finish("a/b", "TASK_STATUS_FAILED", "illegal prompt")
        task = (await client.get(RESULT, params={"task_id": "a/b"})).json()["task"]
        assert (task["status"], task["reason"]) == ("TASK_STATUS_FAILED", "illegal prompt")
        router.job_answer = lambda task_id: {"mine": task_id}
        assert (await client.get(RESULT, params={"task_id": "a/b"})).json() == {"mine": "a/b"}


@pytest.mark.parametrize(
    ("headers", "api_key", "status"),
    [({}, None, 401), ({"Authorization": "key"}, None, 401), (KEY, "other", 401), (KEY, "key", 200)],
)
async def test_wrong_key_gets_401_and_no_job(headers: dict[str, str], api_key: str | None, status: int) -> None:
    async with MisbehavingRouter() as router, httpx2.AsyncClient(base_url=router.url, headers=headers) as client:
        router.api_key = api_key
        assert (await client.post(SUBMIT, json=JOB)).status_code == status
        assert [post.authorization for post in router.posts] == [headers.get("Authorization")]
        assert len(router.accepted) == (status == 200)


async def test_unknown_task_and_unknown_path_are_404() -> None:
    async with MisbehavingRouter() as router, httpx2.AsyncClient(base_url=router.url, headers=KEY) as client:
        assert (await client.get(RESULT, params={"task_id": "x"})).json()["reason"] == "TASK_NOT_FOUND"
        assert (await client.get("/x")).json()["reason"] == "API_NOT_FOUND"
        assert [stray.path for stray in router.strays] == ["/x"]


async def test_nowhere_refuses_connections() -> None:
    with nowhere() as url:
        async with httpx2.AsyncClient() as client:
            with pytest.raises(httpx2.ConnectError):
                await client.get(url)


@pytest.mark.parametrize(
    ("fault", "read", "jobs"),
    [
        (Fault.RESET_BEFORE_READING, 0, 0),
        (Fault.RESET_DURING_BODY, len(json.dumps(JOB)) // 2, 0),
        (Fault.RESET_AFTER_BODY, len(json.dumps(JOB)), 0),
        (Fault.RESET_AFTER_ACCEPT, len(json.dumps(JOB)), 1),
    ],
)
async def test_reset_comes_where_its_name_says(fault: Fault, read: int, jobs: int) -> None:
    async with MisbehavingRouter() as router:
        with pytest.raises(ConnectionResetError):
            await post_once(router, fault)
        (post,) = router.posts
        assert (len(post.body), post.complete, len(router.accepted)) == (read, read == len(json.dumps(JOB)), jobs)


async def test_idle_connection_is_closed_after_a_keep_alive_answer() -> None:
    async with MisbehavingRouter() as router, await Wire.to(router) as wire:
        router.submit_fault = Fault.CLOSE_IDLE
        wire.post("keep-alive")
        head, body = await wire.answer()
        assert "Connection: keep-alive" in head
        assert body == RIGHT


async def test_second_request_on_a_connection_is_reset_unread() -> None:
    async with MisbehavingRouter() as router, await Wire.to(router) as wire:
        router.submit_fault = Fault.RESET_ON_REUSE
        wire.post("keep-alive")
        await wire.reader.readuntil(b"}")
        wire.post("keep-alive")
        with pytest.raises(ConnectionResetError):
            await wire.reader.read()
        assert [post.complete for post in router.posts] == [True, False]
        assert router.accepted == ["task-1"]


@pytest.mark.parametrize(("fault", "jobs"), [(Fault.HANG_BEFORE_READING, 0), (Fault.HANG, 1)])
async def test_hanging_router_says_nothing_until_it_exits(fault: Fault, jobs: int) -> None:
    async with MisbehavingRouter() as router:
        router.submit_fault = fault
        wire = await Wire.to(router)
        wire.post()
        with anyio.fail_after(10):
            await router.until(lambda: len(router.posts) == 1 and len(router.accepted) == jobs)
    async with wire:
        try:
            assert await wire.reader.read() == b""
        except ConnectionResetError:
            assert fault is Fault.HANG_BEFORE_READING  # unread bytes make the end a reset


@pytest.mark.parametrize(
    ("fault", "partial"),
    [(Fault.HALF_HEAD, b"HTTP/1.1 200 OK\r\nContent-Type: applica"), (Fault.CLOSE_WITHOUT_ANSWER, b"")],
)
async def test_connection_closes_before_the_head_ends(fault: Fault, partial: bytes) -> None:
    async with MisbehavingRouter() as router:
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await post_once(router, fault)
        assert caught.value.partial == partial
        assert router.accepted == ["task-1"]


@pytest.mark.parametrize(
    ("fault", "line", "body"),
    [
        (Fault.NONE, f"Content-Length: {len(RIGHT)}", RIGHT),
        (Fault.HALF_BODY, f"Content-Length: {len(RIGHT)}", RIGHT[: len(RIGHT) // 2]),
        (Fault.LENGTH_TOO_LONG, f"Content-Length: {len(RIGHT) + 100}", RIGHT),
        (Fault.LENGTH_TOO_SHORT, f"Content-Length: {len(RIGHT) // 2}", RIGHT),
        (Fault.EMPTY_BODY, "Content-Length: 0", b""),
        (Fault.INVALID_JSON, "Content-Type: application/json", b'{"task_id": "task-'),
        (Fault.INVALID_UTF8, "Content-Type: application/json", b'{"task_id": "task-\xff"}'),
        (Fault.NOT_AN_OBJECT, "Content-Type: application/json", b'["task_id"]'),
        (Fault.HTML, "Content-Type: text/html", b"<!doctype html><title>Welcome</title><p>It works!"),
        (Fault.NO_TASK_ID, "Content-Type: application/json", b'{"provider_request_id": "provider-task-1"}'),
        (Fault.WRAPPED, "Content-Type: application/json", b'{"data": %b}' % RIGHT),
        (Body(b"\0", content_type="video/mp4"), "Content-Type: video/mp4", b"\0"),
    ],
    ids=str,
)
async def test_spoiled_answer_is_200_and_the_job_exists(fault: OneFault, line: str, body: bytes) -> None:
    async with MisbehavingRouter() as router:
        head, got = await post_once(router, fault)
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert line in head.split("\r\n")
        assert got == body
        assert router.accepted == ["task-1"]


async def test_message_with_200_is_a_refusal() -> None:
    async with MisbehavingRouter() as router:
        head, body = await post_once(router, Fault.MESSAGE_ONLY)
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert list(json.loads(body)) == ["message"]
        assert router.accepted == []


@pytest.mark.parametrize("code", [408, 409, 425, 429, 500, 502, 503, 504])
async def test_status_comes_with_an_envelope_or_a_page(code: int) -> None:
    async with MisbehavingRouter() as router:
        head, body = await post_once(router, Status(code, "SERVICE_NOT_AVAILABLE", retry_after=7))
        assert head.startswith(f"HTTP/1.1 {code} ")
        assert "Retry-After: 7" in head.split("\r\n")
        assert (json.loads(body)["code"], json.loads(body)["reason"]) == (code, "SERVICE_NOT_AVAILABLE")
        assert router.accepted == []

        head, body = await post_once(router, Status(code, accepted=True))
        assert head.startswith(f"HTTP/1.1 {code} ")
        assert "Retry-After" not in head
        assert body.startswith(b"<!doctype html>")
        assert router.accepted == ["task-1"]


async def test_redirect_leads_to_another_host_which_sees_who_follows() -> None:
    async with MisbehavingRouter() as router, MisbehavingRouter() as other:
        router.submit_fault = Redirect(f"{other.url}/login")
        async with httpx2.AsyncClient(headers=KEY, follow_redirects=True) as client:
            assert (await client.post(router.url + SUBMIT, json=JOB)).status_code == 404
        assert [(stray.method, stray.path) for stray in other.strays] == [("GET", "/login")]
        assert (len(router.posts), router.accepted) == (1, [])


@pytest.mark.parametrize("fault", [Fault.HUGE_BODY, Fault.HUGE_CHUNKED])
async def test_huge_body_is_the_right_answer_and_100_mb(fault: Fault) -> None:
    async with MisbehavingRouter() as router, httpx2.AsyncClient(headers=KEY) as client:
        router.submit_fault = fault
        size = 0
        async with client.stream("POST", router.url + SUBMIT, json=JOB) as response:
            assert ("content-length" in response.headers) == (fault is Fault.HUGE_BODY)
            async for chunk in response.aiter_raw():
                assert size or chunk.startswith(RIGHT)
                size += len(chunk)
        assert size == HUGE <= router.bytes_sent


async def test_dripping_body_comes_byte_by_byte() -> None:
    async with MisbehavingRouter() as router, await Wire.to(router) as wire:
        router.submit_fault = Fault.DRIP
        wire.post()
        head = await wire.reader.readuntil(b"\r\n\r\n")
        assert f"Content-Length: {HUGE}".encode() in head
        assert [await wire.reader.read(100) for _ in range(3)] == [b"{", b'"', b"t"]


async def test_faults_come_in_turn_and_the_last_one_stays() -> None:
    async with MisbehavingRouter() as router, httpx2.AsyncClient(base_url=router.url, headers=KEY) as client:
        router.accepted.append("t")
        router.result_fault = InTurn(Status(503), Status(429), Fault.NONE)
        codes = [(await client.get(RESULT, params={"task_id": "t"})).status_code for _ in range(4)]
        assert codes == [503, 429, 200, 200]


async def test_video_has_faults_of_its_own() -> None:
    async with MisbehavingRouter() as router, httpx2.AsyncClient() as client:
        router.video_fault = InTurn(Status(403), Fault.HALF_BODY)
        assert (await client.get(router.video_url("t"))).status_code == 403
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get(router.video_url("t"))
        assert ["authorization" in download.headers for download in router.downloads] == [False, False]


async def test_video_is_cut_where_asked() -> None:
    async with MisbehavingRouter() as router:
        router.video = bytes(range(100))
        router.video_cuts = [30, 60]
        for end in (30, 60):
            async with await Wire.to(router) as wire:
                wire.writer.write(b"GET /videos/t.mp4 HTTP/1.1\r\n\r\n")
                head, content = await wire.answer()
            assert "Content-Length: 100" in head
            assert content == router.video[:end]


async def test_mistake_of_the_router_itself_is_not_silent() -> None:
    def broken(task_id: str) -> dict[str, object]:
        raise LookupError(task_id)

    router = await MisbehavingRouter().__aenter__()
    router.accepted.append("t")
    router.job_answer = broken
    async with httpx2.AsyncClient(headers=KEY) as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get(router.url + RESULT, params={"task_id": "t"})
    with pytest.raises(LookupError):
        await router.__aexit__(None, None, None)


async def test_held_post_is_accepted_and_answered_on_release() -> None:
    async with MisbehavingRouter() as router, await Wire.to(router) as wire:
        router.hold = anyio.Event()
        wire.post()
        with anyio.fail_after(10):
            await router.until(lambda: router.accepted == ["task-1"])
        assert router.bytes_sent == 0
        router.hold.set()
        assert (await wire.answer())[1] == RIGHT


async def test_router_of_its_own_process_counts_in_a_file_that_survives_it(tmp_path: Path) -> None:
    stats = tmp_path / "stats.jsonl"
    program = Path(__file__).with_name("misbehaving_router.py")
    command = [sys.executable, str(program), "--stats", str(stats), "--answer-delay", "0", "0.01"]
    async with await anyio.open_process(command, stderr=None) as process:
        try:
            assert process.stdout is not None
            url = (await process.stdout.receive()).decode().strip()
            async with httpx2.AsyncClient(headers=KEY) as client:
                task_id = (await client.post(url + SUBMIT, json=JOB)).json()["task_id"]
        finally:
            process.kill()
    common = {"complete": True, "prompt": "@1 waves", "authorization": "Bearer key"}
    assert [json.loads(line) for line in stats.read_text(encoding="utf-8").splitlines()] == [
        {"event": "post", "task_id": None, **common},
        {"event": "accepted", "task_id": task_id, **common},
    ]
