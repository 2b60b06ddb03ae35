"""The HTTP door: stateless Streamable HTTP at /mcp, for programs on this machine only."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import uvicorn
from sse_starlette.sse import AppStatus
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from refvideo_mcp.app import build_server
from refvideo_mcp.jobs import InFlight
from refvideo_mcp.logs import configure_logging, say
from refvideo_mcp.settings import Settings
from refvideo_mcp.tools import HUNG_UP

__all__ = ["serve"]

# No authentication, so nobody else may come in. The SDK lets requests in by their Host and Origin for the same reason:
# a web page that the user looks at reaches this address too.
HOST = "127.0.0.1"
# The router takes 20 MB; a call may bring somewhat more, because its pictures are scaled down.
BODY_BYTES = 32 * 1024 * 1024
PATIENCE_SECONDS = 30.0
RESET_SECONDS = 2.0


def serve(settings: Settings, port: int) -> None:
    """Serve until SIGINT or SIGTERM; then what is under way has 30 s to end. A second Ctrl-C ends at once.

    Raises:
        SystemExit: with 1, after a fault that left nothing to serve with.
        OSError: the port cannot be listened on.
    """
    configure_logging(settings)
    with _listener(port) as listener:
        in_flight = InFlight()
        # It would end every event stream at the signal, and with it the answers that are on their way.
        AppStatus.enable_automatic_graceful_drain = False
        app = build_server(settings, in_flight=in_flight).streamable_http_app(
            stateless_http=True, max_request_body_size=BODY_BYTES, host=HOST
        )
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
        say(f"refvideo-mcp serves MCP at http://{HOST}:{listener.getsockname()[1]}/mcp (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            server = _Server(config, in_flight)
            server.run(sockets=[listener])
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
    """Ends 30 s after the first signal, whatever is still under way."""

    def __init__(self, config: uvicorn.Config, in_flight: InFlight):
        super().__init__(config)
        self._in_flight = in_flight

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGHUP too: a closed terminal is no reason to lose a job; nohup has its way."""
        hangup = getattr(signal, "SIGHUP", None)  # Windows has none
        with super().capture_signals():
            if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
                yield
                return
            before = signal.signal(hangup, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(hangup, before)

    async def on_tick(self, counter: int) -> bool:
        """With the lifespan everything behind the tools is gone: whoever started this can start it again."""
        if self.lifespan.error_occurred:
            self.should_exit = self.force_exit = True
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            self._in_flight.ending = True
            if self._in_flight.count:
                say("refvideo-mcp: a job is being submitted; ending when the router has answered.")
            timer = threading.Timer(PATIENCE_SECONDS, os._exit, [128 + sig])
            timer.daemon = True
            timer.start()
        super().handle_exit(sig, frame)


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
