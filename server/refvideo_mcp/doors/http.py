"""The HTTP door: stateless Streamable HTTP at /mcp, for programs on this machine or, with authentication, for many."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any, ClassVar
from urllib.parse import urlsplit

import h11
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from sse_starlette.sse import AppStatus
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from refvideo_mcp.app import build_server
from refvideo_mcp.doors.addresses import LOCAL_ORIGIN, Addresses, KnownAddresses
from refvideo_mcp.doors.bounds import BODY_BYTES, Bodies, Paced, raise_file_limit
from refvideo_mcp.doors.identity import Authenticated, Identity
from refvideo_mcp.doors.oauth import OAuth
from refvideo_mcp.doors.shutdown import PATIENCE_SECONDS, Shutdown
from refvideo_mcp.doors.tokens import TokensFile
from refvideo_mcp.errors import Refused
from refvideo_mcp.logs import logging_to_stderr, say
from refvideo_mcp.settings import Settings, is_loopback
from refvideo_mcp.startup import hastened, import_all
from refvideo_mcp.tools import HUNG_UP, ServerState

__all__ = ["serve"]

RESET_SECONDS = 2.0
# For a request's head, after it or the connection has begun.
HEAD_SECONDS = 15.0
# For the whole of it, though it be answered meanwhile: somewhat longer than `Bodies`, which can say so.
ARRIVAL_SECONDS = 75.0
MOST_CONNECTIONS = 2048
# Files that others than connections need: ledger, router, videos.
OTHER_FILES = 256
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 30\r\nConnection: close\r\n\r\n"
    b"This server has as many connections as it can hold: try again in a minute."
)


def serve(
    settings: Settings,
    host: str,
    port: int,
    environ: Mapping[str, str],
    *,
    allowed_hosts: Sequence[str] = (),
    allowed_origins: Sequence[str] = (),
) -> None:
    """Serve until a signal; then what is under way has 30 s to end.

    Raises:
        SystemExit: with 1, after a fault that left nothing to serve with.
        Refused: what was given for it cannot be used.
        OSError: the address cannot be listened on.
    """
    identity = _identity(settings, host, environ)
    tokens = identity if isinstance(identity, TokensFile) else None
    addresses = Addresses(
        [*_own_names(host, settings.public_url), *allowed_hosts],
        [*([settings.public_url] if settings.public_url else []), *allowed_origins],
        local=is_loopback(host),
    )
    shutdown, states = Shutdown(), list[ServerState]()
    with logging_to_stderr(settings, tokens.keys if tokens else tuple), _listener(host, port) as listener:
        # It would end every event stream at the signal, and with it the answers that are on their way.
        AppStatus.enable_automatic_graceful_drain = False
        with hastened():
            mcp = build_server(
                settings,
                pending_posts=shutdown.pending_posts,
                leftovers=shutdown.leftovers,
                key_of=tokens.key_of if tokens else None,
                on_start=states.append,
            )
            app = _Health(_behind_the_gate(_endpoint(mcp), addresses, identity), states)
        if identity is not None:
            import_all()  # nothing is to be found missing when all files are in use
        _Protocol.most = max(16, min(MOST_CONNECTIONS, raise_file_limit() - OTHER_FILES))
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level=None,
            access_log=False,
        )
        server, ended_by = _Server(config), list[int]()

        def end(number: int) -> None:
            ended_by.append(number)
            shutdown.begin()
            shutdown.leave_in(PATIENCE_SECONDS, 128 + number)
            server.should_exit = True

        with shutdown.on_signal(end):
            at = f"http://{_in_url(host)}:{listener.getsockname()[1]}/mcp"
            say(f"refvideo-mcp serves MCP at {at} (Ctrl-C ends it)")
            server.run(sockets=[listener])
        for number in ended_by:
            with suppress(KeyboardInterrupt):  # Ctrl-C is how a person ends it
                signal.raise_signal(number)
        if server.lifespan.error_occurred:
            raise SystemExit(1)


def _identity(settings: Settings, host: str, environ: Mapping[str, str]) -> TokensFile | OAuth | None:
    """Who says who calls; None: everybody who comes is let in.

    Raises:
        Refused: these would be too many, or a setting is missing or cannot be used.
    """
    if settings.auth == "tokens":
        if settings.tokens_file is None:
            raise Refused(settings.fault or "--auth tokens needs REFVIDEO_TOKENS_FILE.")
        return TokensFile(settings.tokens_file, environ, time.monotonic)
    if settings.auth == "oauth":
        if not (settings.oauth_issuer and settings.public_url):
            raise Refused(settings.fault or "--auth oauth needs REFVIDEO_OAUTH_ISSUER and REFVIDEO_PUBLIC_URL.")
        resource = f"{settings.public_url}/mcp"
        audience = settings.oauth_audience or resource
        return OAuth(settings.oauth_issuer, resource, audience, settings.oauth_scopes, time.monotonic)
    if not is_loopback(host):
        raise Refused(
            f"Whoever reaches {host} would be let in.",
            "Add --auth tokens or --auth oauth, or leave --host out: then programs on this machine are served.",
        )
    return None


def _own_names(host: str, public_url: str) -> list[str]:
    """What callers send as their Host."""
    names = [urlsplit(public_url).netloc] if public_url else []
    with suppress(ValueError):
        if ip_address(host).is_unspecified:
            return names
    return [*names, _in_url(host)]


def _endpoint(mcp: MCPServer[ServerState]) -> ASGIApp:
    app = mcp.streamable_http_app(
        stateless_http=True,
        max_request_body_size=BODY_BYTES,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # ours is stricter
    )
    for route in app.routes:
        if isinstance(route, Route):
            # A stateless server has nothing to say on a stream that a client opens by GET, only to wait for it.
            route.methods = {"POST"}
    return app


def _behind_the_gate(app: ASGIApp, addresses: Addresses, identity: Identity | None) -> ASGIApp:
    """The app, for requests that have come through all of this, from below upwards."""
    app = Bodies(app)
    if identity is not None:
        app = Authenticated(Paced(app, time.monotonic), identity)
    app = CORSMiddleware(
        app,
        allow_origins=sorted(addresses.origins),
        allow_origin_regex=LOCAL_ORIGIN.pattern if addresses.local else None,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["WWW-Authenticate"],
    )
    return KnownAddresses(app, addresses)


class _Health:
    """`/healthz` and `/readyz`, for whoever watches over the process and asks under any name."""

    def __init__(self, app: ASGIApp, states: Sequence[ServerState]):
        self._app = app
        self._states = states

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path")
        if path == "/healthz":
            await _said(bool(self._states))(scope, receive, send)
        elif path == "/readyz":
            accounts = self._states[0].accounts if self._states else None
            await _said(accounts is not None and await accounts.are_served())(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _said(well: bool) -> PlainTextResponse:
    return PlainTextResponse("ok" if well else "not now", 200 if well else 503, {"Cache-Control": "no-store"})


class _Protocol(H11Protocol):
    """Tells the tools whether the answer to a request found nobody any more, and waits for no request for ever.

    A connection closed before the answer is one case. The other shows only after it: whoever closes a connection
    without reading all of it, or before all has come, sends a reset instead of a last word.
    """

    most: ClassVar[int] = MOST_CONNECTIONS
    idle: ClassVar[dict["_Protocol", None]] = {}  # without a request; the one that was so longest is the first

    _is_reset = False
    _patience = 0.0
    _late: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        app = self.app

        async def attended(scope: Scope, receive: Receive, send: Send) -> None:
            cycle = self.cycle
            await app({**scope, HUNG_UP: lambda: cycle.disconnected or self._was_reset()}, receive, send)

        self.app = attended

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as theirs
        super().connection_made(transport)
        if len(self.connections) > self.most:
            if not self.idle:
                transport.write(BUSY)
                transport.close()
                return
            longest = next(iter(self.idle))
            del self.idle[longest]
            longest.transport.abort()
        self._watch(is_fresh=True)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def _watch(self, *, is_fresh: bool = False) -> None:
        """Note what is being waited for from now on: a request's head, its body, or nothing."""
        state, seconds = self.conn.their_state, 0.0
        if state is h11.IDLE:
            self.idle.setdefault(self)
            seconds = HEAD_SECONDS if is_fresh or self.conn.trailing_data[0] else 0.0  # else theirs closes it soon
        else:
            self.idle.pop(self, None)
            seconds = ARRIVAL_SECONDS if state is h11.SEND_BODY else 0.0
        if seconds != self._patience:
            self._patience = seconds
            if self._late is not None:
                self._late.cancel()
            self._late = self.loop.call_later(seconds, self.transport.abort) if seconds else None

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_reset |= exc is not None
        super().connection_lost(exc)
        self.idle.pop(self, None)
        if self._late is not None:
            self._late.cancel()

    def eof_received(self) -> bool:  # type: ignore[override]  # theirs returns None, which asyncio takes for False
        """Whether the connection stays open: once it is answered, as long as a reset may follow."""
        if self.cycle is None or not self.cycle.response_complete:
            return False
        self.loop.call_later(RESET_SECONDS, self.transport.close)
        return True

    def _was_reset(self) -> bool:
        with suppress(OSError):  # it is closed by now
            self._is_reset |= bool(
                self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            )
        return self._is_reset


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own way hears neither SIGHUP nor a second SIGTERM."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """With the lifespan everything behind the tools is gone: whoever started this can start it again."""
        if self.lifespan.error_occurred:
            self.should_exit = self.force_exit = True
        return await super().on_tick(counter)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listener(host: str, port: int) -> socket.socket:
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it each answer takes 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener
