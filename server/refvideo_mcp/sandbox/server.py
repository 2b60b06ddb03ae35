"""The sandbox on a socket: in the background of a process, or as a command."""

import asyncio
import contextlib
import socket
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn

    from .renders import Renders

_STOP_SECONDS = 5.0


class Sandbox:
    """A sandbox in a background thread; use it in a `with` block, then `url` says where it is.

    `seconds` is the least time a job takes, `link_seconds` the life of a link; port 0 takes a free one. Entering
    raises OSError if the port is taken.
    """

    def __init__(
        self,
        *,
        seconds: float = 8.0,
        folder: Path | None = None,
        link_seconds: float = 3600,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.url = ""
        self._seconds = seconds
        self._folder = folder
        self._link_seconds = link_seconds
        self._address = (host, port)

    def __enter__(self) -> "Sandbox":
        import uvicorn

        from .app import build_app
        from .broken_responses import HangUpProtocol

        listener = _listen(*self._address)
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"
        app = build_app(seconds=self._seconds, folder=self._folder, link_seconds=self._link_seconds)
        self._renders: Renders = app.state.renders
        # The process's logging is not ours to configure.
        config = uvicorn.Config(app, http=HangUpProtocol, ws="none", lifespan="off", log_config=None, log_level=None)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(_run(self._server, listener)), name="sandbox", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._renders.close()
        self._thread.join(_STOP_SECONDS)

    def is_running(self, wait: float = 0.0) -> bool:
        """Whether it still serves, after at most `wait` seconds."""
        self._thread.join(wait)
        return self._thread.is_alive()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it each answer takes 40 ms.
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


async def _run(server: "uvicorn.Server", listener: socket.socket) -> None:
    await server.serve(sockets=[listener])
    # Hang up on those who still wait, so that the loop has no task to cancel: uvicorn logs a cancelled one as a crash.
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    if server.server_state.tasks:
        await asyncio.wait(server.server_state.tasks, timeout=1)


def serve(host: str = "127.0.0.1", port: int = 8765, seconds: float = 8.0, folder: Path | None = None) -> None:
    """Serves until Ctrl-C. Raises OSError if the port is taken."""
    with contextlib.suppress(KeyboardInterrupt), Sandbox(seconds=seconds, folder=folder, host=host, port=port) as box:
        sys.stderr.write(f"Sandbox at {box.url} — use MYROUTER_BASE_URL={box.url} MYROUTER_API_KEY=local\n")
        sys.stderr.flush()
        # With a time-out, because on Windows a wait without one does not hear Ctrl-C.
        while box.is_running(0.5):
            pass
