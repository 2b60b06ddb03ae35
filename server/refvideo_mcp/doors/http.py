"""The HTTP door: stateless Streamable HTTP at /mcp, for programs on this machine only."""

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from sse_starlette.sse import AppStatus
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from refvideo_mcp.app import build_server
from refvideo_mcp.doors.shutdown import PATIENCE_SECONDS, Shutdown
from refvideo_mcp.logs import logging_to_stderr, say
from refvideo_mcp.settings import Settings
from refvideo_mcp.startup import hastened
from refvideo_mcp.tools import HUNG_UP

__all__ = ["serve"]

# No authentication, so nobody else may come in. The SDK lets requests in by their Host and Origin for the same reason:
# a web page that the user looks at reaches this address too.
HOST = "127.0.0.1"
# The router takes 20 MB; a call may bring somewhat more, because its pictures are scaled down.
BODY_BYTES = 32 * 1024 * 1024
RESET_SECONDS = 2.0


def serve(settings: Settings, port: int) -> None:
    """Serve until a signal; then what is under way has 30 s to end.

    Raises:
        SystemExit: with 1, after a fault that left nothing to serve with.
        OSError: the port cannot be listened on.
    """
    shutdown = Shutdown()
    with logging_to_stderr(settings), _listener(port) as listener:
        # It would end every event stream at the signal, and with it the answers that are on their way.
        AppStatus.enable_automatic_graceful_drain = False
        with hastened():
            mcp = build_server(settings, pending_posts=shutdown.pending_posts, leftovers=shutdown.leftovers)
            app = mcp.streamable_http_app(stateless_http=True, max_request_body_size=BODY_BYTES, host=HOST)
        for route in app.routes:
            if isinstance(route, Route):
                # A stateless server has nothing to say on a stream that a client opens by GET, only to wait for it.
                route.methods = {"POST"}
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
            say(f"refvideo-mcp serves MCP at http://{HOST}:{listener.getsockname()[1]}/mcp (Ctrl-C ends it)")
            server.run(sockets=[listener])
        for number in ended_by:
            with suppress(KeyboardInterrupt):  # Ctrl-C is how a person ends it
                signal.raise_signal(number)
        if server.lifespan.error_occurred:
            raise SystemExit(1)


class _Protocol(H11Protocol):
    """Tells the tools whether the answer to a request found nobody any more.

    A connection closed before the answer is one case. The other shows only after it: whoever closes a connection
    without reading all of it, or before all has come, sends a reset instead of a last word.
    """

    _is_reset = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        app = self.app

        async def attended(scope: Scope, receive: Receive, send: Send) -> None:
            cycle = self.cycle
            await app({**scope, HUNG_UP: lambda: cycle.disconnected or self._was_reset()}, receive, send)

        self.app = attended

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_reset |= exc is not None
        super().connection_lost(exc)

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


def _listener(port: int) -> socket.socket:
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it each answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener
