"""What can go wrong on the way to the router and back, by name, and the hand-made HTTP that shows it on the wire."""

import json
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import anyio

HUGE = 100 * 2**20
JSON = "application/json"
LINGER_0 = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Fault(Enum):
    """A fault without parameters; for a POST the job exists unless the text says "no job"."""

    NONE = "well-behaved"

    RESET_BEFORE_READING = "RST once the request line is there, nothing read: no job"
    RESET_DURING_BODY = "RST with half of the request body read: no job"
    RESET_AFTER_BODY = "RST with the request read: no job"
    RESET_AFTER_ACCEPT = "RST with the job created"
    RESET_ON_REUSE = "RST when a second request arrives on a kept-alive connection: no job; a first request is served"
    CLOSE_IDLE = "a keep-alive answer, then FIN"
    CLOSE_WITHOUT_ANSWER = "FIN instead of an answer"
    HANG_BEFORE_READING = "accepts the connection, reads nothing, says nothing: no job"
    HANG = "reads the request, says nothing"

    HALF_HEAD = "FIN in the middle of a header"
    HALF_BODY = "FIN in the middle of the body"
    LENGTH_TOO_LONG = "Content-Length is larger than the body, which is whole, then FIN"
    LENGTH_TOO_SHORT = "Content-Length is half of the body, which follows whole; the connection stays open"
    HUGE_BODY = "the right answer, then blanks up to 100 MB"
    HUGE_CHUNKED = "the same, chunked"
    DRIP = "the right answer, then blanks up to 100 MB, byte by byte"

    EMPTY_BODY = "200, Content-Length 0"
    INVALID_JSON = "200, JSON that stops too early"
    INVALID_UTF8 = "200, JSON with a byte that is not UTF-8"
    NOT_AN_OBJECT = "200, a JSON list"
    HTML = "200, a page"
    NO_TASK_ID = "200, the right answer without its task id (for a result: without its task)"
    WRAPPED = "200, the right answer inside of {'data': …}"
    MESSAGE_ONLY = "200, {'message': …}: no job"


@dataclass(frozen=True)
class Status:
    """An HTTP error: the router's envelope if there is a reason, else a gateway's page."""

    code: int
    reason: str | None = None
    retry_after: str | int | None = None
    accepted: bool = False  # for a POST: the job was created all the same
    message: str = "it went wrong, trace_id: 0123abcd"


@dataclass(frozen=True)
class Redirect:
    """To another path of this router, or with a whole URL to another host: no job."""

    location: str = "/elsewhere"
    code: int = 302


@dataclass(frozen=True)
class Body:
    """Exactly these bytes as the answer."""

    content: bytes
    code: int = 200
    content_type: str = JSON
    headers: tuple[str, ...] = ()
    stop: int | None = None  # FIN after so many of the bytes


OneFault = Fault | Status | Redirect | Body


class InTurn:
    """One fault per request; the last one stays."""

    def __init__(self, *faults: OneFault) -> None:
        self._faults = list(faults)

    def next(self) -> OneFault:
        return self._faults.pop(0) if len(self._faults) > 1 else self._faults[0]


AnyFault = OneFault | InTurn

FIXED = {
    Fault.EMPTY_BODY: (b"", JSON),
    Fault.INVALID_JSON: (b'{"task_id": "task-', JSON),
    Fault.INVALID_UTF8: (b'{"task_id": "task-\xff"}', JSON),
    Fault.NOT_AN_OBJECT: (b'["task_id"]', JSON),
    Fault.HTML: (b"<!doctype html><title>Welcome</title><p>It works!", "text/html"),
    Fault.MESSAGE_ONLY: (b'{"message": "server overload, please try again later"}', JSON),
}


def refuses(fault: OneFault) -> bool:
    """Is there no job, although the whole POST arrived?"""
    if isinstance(fault, Status):
        return not fault.accepted
    return isinstance(fault, Redirect) or fault in (Fault.RESET_AFTER_BODY, Fault.MESSAGE_ONLY)


def closes(fault: OneFault) -> bool:
    """Does the router end the connection after what it said?"""
    if isinstance(fault, Body):
        return fault.stop is not None
    silent = (Fault.CLOSE_IDLE, Fault.CLOSE_WITHOUT_ANSWER)
    return fault in (*silent, Fault.HALF_HEAD, Fault.HALF_BODY, Fault.LENGTH_TOO_LONG)


def pieces(fault: OneFault, body: bytes, content_type: str = JSON) -> Iterator[bytes]:
    """The bytes that answer a request whose right answer is 200 with this body."""
    match fault:
        case Fault.CLOSE_WITHOUT_ANSWER:
            return
        case Fault.HALF_HEAD:
            yield b"HTTP/1.1 200 OK\r\nContent-Type: applica"
        case Fault.HALF_BODY:
            yield _head(200, content_type, len(body)) + body[: len(body) // 2]
        case Fault.LENGTH_TOO_LONG:
            yield _head(200, content_type, len(body) + 100) + body
        case Fault.LENGTH_TOO_SHORT:
            yield _head(200, content_type, len(body) // 2) + body
        case Fault.HUGE_BODY:
            yield _head(200, content_type, HUGE)
            yield from _padded(body)
        case Fault.HUGE_CHUNKED:
            yield _head(200, content_type, None, "Transfer-Encoding: chunked")
            for piece in _padded(body):
                yield b"%x\r\n%b\r\n" % (len(piece), piece)
            yield b"0\r\n\r\n"
        case Fault.DRIP:
            yield _head(200, content_type, HUGE)
            for piece in _padded(body):
                yield from (bytes([byte]) for byte in piece)
        case Fault.NO_TASK_ID:
            fields = {name: value for name, value in json.loads(body).items() if name not in ("task_id", "task")}
            yield _answer(200, json.dumps(fields).encode())
        case Fault.WRAPPED:
            yield _answer(200, b'{"data": %b}' % body)
        case Fault():
            yield _answer(200, *FIXED.get(fault, (body, content_type)))
        case Body():
            yield _head(fault.code, fault.content_type, len(fault.content), *fault.headers)
            yield fault.content[: fault.stop]
        case Redirect():
            yield _answer(fault.code, b"", JSON, f"Location: {fault.location}")
        case Status():
            headers = [] if fault.retry_after is None else [f"Retry-After: {fault.retry_after}"]
            if fault.reason is None:
                page = f"<!doctype html><title>{fault.code}</title><h1>{_phrase(fault.code)}</h1>"
                yield _answer(fault.code, page.encode(), "text/html", *headers)
            else:
                envelope = {"code": fault.code, "reason": fault.reason, "message": fault.message, "metadata": {}}
                yield _answer(fault.code, json.dumps(envelope).encode(), JSON, *headers)


def cut_at(video: bytes, percent: int | None) -> Body:
    """The video; FIN where so many percent of it are over."""
    return Body(video, 200, "video/mp4", stop=None if percent is None else len(video) * percent // 100)


def _padded(body: bytes) -> Iterator[bytes]:
    """Blanks at the end spoil neither JSON nor the first box of an MP4: only the size is wrong."""
    yield body
    left = HUGE - len(body)
    blanks = b" " * 65536
    while left > 0:
        yield blanks[:left]
        left -= len(blanks)


def _answer(code: int, body: bytes, content_type: str = JSON, *headers: str) -> bytes:
    return _head(code, content_type, len(body), *headers) + body


def _head(code: int, content_type: str, length: int | None, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {code} {_phrase(code)}", f"Content-Type: {content_type}", "Connection: keep-alive", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def _phrase(code: int) -> str:
    return HTTPStatus(code).phrase if code in list(HTTPStatus) else "Unknown"


@dataclass(eq=False)
class Request:
    """What arrived, as far as it was read: listed from its request line on, filled in as it comes."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""
    complete: bool = False

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def task_id(self) -> str:
        return parse_qs(urlsplit(self.target).query).get("task_id", [""])[0]

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


@contextmanager
def nowhere() -> Iterator[str]:
    """A URL that refuses connections: its port is taken, so nobody else can begin to listen there, but is closed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


async def request_line(sock: socket.socket) -> str:
    """Looked at, not read: a reset now leaves every byte unread."""
    for _ in range(1000):
        await anyio.wait_readable(sock)
        seen = sock.recv(65536, socket.MSG_PEEK)
        if not seen or b"\r\n" in seen:
            return seen.partition(b"\r\n")[0].decode("latin-1")
        await anyio.sleep(0.001)  # a line in two segments: the first keeps the socket readable
    return ""


async def read(sock: socket.socket, request: Request, fault: OneFault) -> None:
    """Takes this request from the socket and no byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        await anyio.wait_readable(sock)
        seen = sock.recv(65536, socket.MSG_PEEK)
        if not seen:
            return
        end = (head + seen).find(b"\r\n\r\n")
        head += sock.recv(len(seen) if end < 0 else end + 4 - len(head))
    for line in head.decode("latin-1").split("\r\n")[1:-2]:
        name, _, value = line.partition(":")
        request.headers[name.lower()] = value.strip()
    if "transfer-encoding" in request.headers:
        raise NotImplementedError("the client chunked its body; this router wants a Content-Length")
    length = int(request.headers.get("content-length", 0))
    stop = length // 2 if fault is Fault.RESET_DURING_BODY else length
    body = bytearray()
    try:
        while len(body) < stop:
            await anyio.wait_readable(sock)
            piece = sock.recv(min(stop - len(body), 2**20))
            if not piece:
                return
            body += piece
        request.complete = fault is not Fault.RESET_DURING_BODY
    finally:
        request.body = bytes(body)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    sock.close()
