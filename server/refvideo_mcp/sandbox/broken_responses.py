"""Misbehaviour below HTTP: answers that never come, and answers that stop half-way."""

import asyncio
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol


class HangUpProtocol(H11Protocol):
    """Shows the application its transport as `scope["state"]["transport"]`: ASGI itself cannot close a socket."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Here and not in uvicorn's configuration, which would silence the whole process's access log.
        self.access_log = False
        self.app_state = {**self.app_state, "transport": transport}


class HangUp(Response):
    """No answer: the connection closes. Without a socket below, raises ConnectionResetError."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _close(scope, receive)


class HalfFile(Response):
    """A file whose connection closes in the middle of it."""

    def __init__(self, path: Path, media_type: str) -> None:
        super().__init__(media_type=media_type)
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = self._path.read_bytes()
        self.headers["content-length"] = str(len(content))
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": content[: len(content) // 2], "more_body": True})
        await _close(scope, receive)


async def _close(scope: Scope, receive: Receive) -> None:
    transport = scope.get("state", {}).get("transport")
    if transport is None:
        raise ConnectionResetError("the sandbox hung up")
    transport.close()
    # Returning before the protocol knows that the connection is gone would make it answer 500.
    while (await receive())["type"] != "http.disconnect":
        pass
