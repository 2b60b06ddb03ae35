"""The misbehaving router really does on the wire what its faults are called, where no other test would notice."""

import asyncio
import json

import anyio
import httpx2
import pytest

from faults import OneFault
from misbehaving_router import Body, Fault, MisbehavingRouter

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
