"""The HTTP door: stateless Streamable HTTP at /mcp, for programs on this machine only."""

import os
import socket
import sys
import threading
from contextlib import suppress
from types import FrameType

import anyio.lowlevel
import uvicorn
from sse_starlette.sse import AppStatus
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


def serve(settings: Settings, port: int) -> None:
    """Serve until SIGINT or SIGTERM; then what is under way has 30 s to end. A second Ctrl-C ends at once.

    Raises:
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
            _Attentive(app),
            ws="none",
            lifespan="on",
            log_config=None,
            log_level=None,
            access_log=False,
        )
        say(f"refvideo-mcp serves MCP at http://{HOST}:{listener.getsockname()[1]}/mcp (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            _Server(config, in_flight).run(sockets=[listener])


class _Attentive:
    """Tells the tools whether the connection that would carry their answer was closed before it was sent."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hung_up = answered = False

        async def hear() -> Message:
            nonlocal hung_up
            message = await receive()
            hung_up |= message["type"] == "http.disconnect" and not answered
            return message

        async def answer(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await anyio.lowlevel.checkpoint()  # a connection closed by now is heard of first
                answered = True
            await send(message)

        if scope["type"] == "http":
            await self._app({**scope, HUNG_UP: lambda: hung_up}, hear, answer)
        else:
            await self._app(scope, receive, send)


class _Server(uvicorn.Server):
    """Ends 30 s after the first signal, whatever is still under way."""

    def __init__(self, config: uvicorn.Config, in_flight: InFlight):
        super().__init__(config)
        self._in_flight = in_flight

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
