"""HTTP and SOCKS5 proxies that fail on command, on the way to a router that speaks TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from misbehaving_router import MisbehavingRouter

__all__ = ["BadProxy", "Break", "secured"]

ROUTER = "router.example"
CDN = "cdn.example"
Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
GARBAGE = b"\x15\x03garbage, and no protocol that anybody knows\r\n\r\n"


class Break(Enum):
    """Where it breaks. TUNNEL…: the tunnel stands by then; FORWARDED…: the router has the whole request."""

    NONE = "works"
    CLOSE_AT_ONCE = "FIN without a word"
    RESET_AT_ONCE = "RST"
    GARBAGE = "says something that is no answer"
    HALF_ANSWER = "FIN in the middle of its answer"
    REFUSES = "HTTP 407; SOCKS: no way to log in"
    NO_ROUTE = "HTTP 502; SOCKS: host unreachable"
    HANGS = "reads, and says nothing"
    DIES_LATE = "HTTP: an interim answer, then FIN; SOCKS: greets, then FIN"
    GARBAGE_LATE = "HTTP: 200 with a broken header; SOCKS: greets, then garbage"
    TUNNEL_CLOSES = "FIN instead of the router's side of TLS"
    TUNNEL_GARBAGE = "garbage instead of it"
    TUNNEL_HANGS = "nothing instead of it"
    TUNNEL_HALF = "a part of it, then FIN"
    FORWARDED_CLOSES = "FIN once the request is through"
    FORWARDED_RESETS = "RST once the request is through"
    FORWARDED_HANGS = "the answer never comes back"


class BadProxy:
    """`broken` may be changed while it runs; `asked` counts connections."""

    def __init__(self, kind: str, router: MisbehavingRouter, tls_port: int) -> None:
        self.broken = Break.NONE
        self.asked = 0
        self.url = ""
        self._kind = kind
        self._router = router
        self._tls_port = tls_port

    @classmethod
    @asynccontextmanager
    async def running(cls, kind: str, router: MisbehavingRouter, folder: Path) -> AsyncIterator["BadProxy"]:
        """A proxy of that kind, "http" or "socks5", before a TLS router whose certificate is `folder`/ca.pem."""
        async with AsyncExitStack() as stack:
            tls = await stack.enter_async_context(_serving(_to(router), secured(folder)))
            proxy = cls(kind, router, tls)
            port = await stack.enter_async_context(_serving(proxy._serve))
            proxy.url = f"{kind}://127.0.0.1:{port}"
            yield proxy

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        self.asked += 1
        broken = self.broken
        match broken:
            case Break.CLOSE_AT_ONCE:
                return
            case Break.RESET_AT_ONCE:
                writer.transport.abort()
                return
        if not await (self._connect(reader, writer) if self._kind == "http" else self._greet(reader, writer)):
            return
        match broken:
            case Break.TUNNEL_CLOSES:
                await reader.read(4096)
            case Break.TUNNEL_GARBAGE:
                await reader.read(4096)
                writer.write(GARBAGE)
            case Break.TUNNEL_HANGS:
                await asyncio.Event().wait()
            case _:
                await self._tunnel(reader, writer, broken)

    async def _connect(self, reader: Reader, writer: Writer) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"CONNECT "), head
        answers = {
            Break.GARBAGE: GARBAGE,
            Break.HALF_ANSWER: b"HTTP/1.1 200 Connection est",
            Break.REFUSES: b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            Break.NO_ROUTE: b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
            Break.DIES_LATE: b"HTTP/1.1 100 Continue\r\n\r\n",
            Break.GARBAGE_LATE: b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        }
        return await self._say(writer, answers, b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def _greet(self, reader: Reader, writer: Writer) -> bool:
        await reader.readexactly(3)
        first = {Break.GARBAGE: GARBAGE, Break.HALF_ANSWER: b"\x05", Break.REFUSES: b"\x05\xff"}
        if not await self._say(writer, first, b"\x05\x00"):
            return False
        await reader.read(4096)
        late = {
            Break.NO_ROUTE: b"\x05\x04\x00\x01\0\0\0\0\0\0",
            Break.DIES_LATE: b"",
            Break.GARBAGE_LATE: GARBAGE,
        }
        return await self._say(writer, late, b"\x05\x00\x00\x01\0\0\0\0\0\0")

    async def _say(self, writer: Writer, wrong: dict[Break, bytes], right: bytes) -> bool:
        """Whether it said what is right."""
        if self.broken is Break.HANGS:
            await asyncio.Event().wait()
        writer.write(wrong.get(self.broken, right))
        await writer.drain()
        return self.broken not in wrong

    async def _tunnel(self, reader: Reader, writer: Writer, broken: Break) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._tls_port)
        posts = len(self._router.posts)

        async def answers() -> None:
            while data := await there.read(65536):
                if broken is Break.TUNNEL_HALF:
                    writer.write(data[: len(data) // 2])
                    return
                if broken.name.startswith("FORWARDED") and any(p.complete for p in self._router.posts[posts:]):
                    if broken is Break.FORWARDED_RESETS:
                        writer.transport.abort()
                    if broken is Break.FORWARDED_HANGS:
                        await asyncio.Event().wait()
                    return
                writer.write(data)

        try:
            await _first(_pump(reader, back), answers())
        finally:
            await _closed(back)


def _to(router: MisbehavingRouter) -> Callable[[Reader, Writer], Awaitable[None]]:
    async def serve(reader: Reader, writer: Writer) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", int(router.url.rpartition(":")[2]))
        try:
            await _first(_pump(reader, back), _pump(there, writer))
        finally:
            await _closed(back)

    return serve


async def _pump(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def _first(*works: Awaitable[None]) -> None:
    """Until one of them is done, or breaks."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _closed(writer: Writer) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@asynccontextmanager
async def _serving(
    serve: Callable[[Reader, Writer], Awaitable[None]], secure: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A server on a port of this machine; what it serves ends with it."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            await _closed(writer)
            tasks.discard(task)

    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=secure)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def secured(folder: Path) -> ssl.SSLContext:
    """A server's certificate for the router and its CDN, which is its own authority: `folder`/ca.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ROUTER)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(ROUTER), x509.DNSName(CDN)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    public, private = folder / "ca.pem", folder / "router.key"
    public.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context
