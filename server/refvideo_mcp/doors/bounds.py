"""How much is taken in at once, of everybody and of one account, so that nobody can fill the process."""

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refvideo_mcp.tools import ACCOUNT

__all__ = ["BODY_BYTES", "Bodies", "Paced", "raise_file_limit"]

# The router takes 20 MB; a call may bring somewhat more, because its pictures are scaled down.
BODY_BYTES = 32 * 1024 * 1024
# Of all bodies together. While a call lasts its pictures take up to four times as much memory, in one form or another.
TOTAL_BYTES = 6 * BODY_BYTES
# Of them, one account's; it is not to wait for its own last call if that was large.
SHARE_BYTES = 3 * BODY_BYTES
# What is smaller is bounded by the number of connections.
SMALL_BYTES = 64 * 1024
BODY_SECONDS = 60.0
ROOM_SECONDS = 10.0

# More than any agent calls; one in a loop is told so before it costs anything.
REQUESTS_PER_SECOND = 20.0
REQUESTS_AT_ONCE = 200.0

DESCRIPTORS = 16384


class Bodies:
    """The app gets a request when its body has arrived, and while there is room for what it holds."""

    def __init__(self, app: ASGIApp):
        self._app = app
        self._free = TOTAL_BYTES
        self._held: dict[str, int] = {}
        self._freed = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # One that does not say how long it is may become as long as any.
        size = BODY_BYTES if "transfer-encoding" in headers else int(headers.get("content-length", "0"))
        if size > BODY_BYTES:
            await _too_large(scope, receive, send)
            return
        owner = scope.get(ACCOUNT, "")
        if not await self._taken(owner, size):
            said = "The pictures of other calls fill this server just now: try again in a minute."
            await PlainTextResponse(said, 503, {"Retry-After": "30"})(scope, receive, send)
            return
        try:
            messages = deque[Message]()
            with anyio.move_on_after(BODY_SECONDS) as arriving:
                arrived = await _read(receive, messages)
            if arriving.cancelled_caught:
                said = f"The request did not arrive within {BODY_SECONDS:.0f} s: send smaller pictures, or links."
                # What may still come is not waited for.
                await PlainTextResponse(said, 408, {"Connection": "close"})(scope, receive, send)
                return
            if arrived > BODY_BYTES:
                await _too_large(scope, receive, send)
                return
            self._give_back(owner, size - arrived)
            size = arrived

            async def replay() -> Message:
                return messages.popleft() if messages else await receive()

            await self._app(scope, replay, send)
        finally:
            self._give_back(owner, size)

    async def _taken(self, owner: str, size: int) -> bool:
        """Whether there was room within seconds, which is taken now."""
        with anyio.move_on_after(ROOM_SECONDS):
            while size > SMALL_BYTES and not self._has_room(owner, size):
                await self._freed.wait()
            self._free -= size
            self._held[owner] = self._held.get(owner, 0) + size
            return True
        return False

    def _has_room(self, owner: str, size: int) -> bool:
        share = SHARE_BYTES if owner else TOTAL_BYTES
        return size <= self._free and self._held.get(owner, 0) + size <= share

    def _give_back(self, owner: str, size: int) -> None:
        self._free += size
        if left := self._held.get(owner, 0) - size:
            self._held[owner] = left
        else:
            self._held.pop(owner, None)
        freed, self._freed = self._freed, anyio.Event()
        freed.set()


async def _read(receive: Receive, messages: deque[Message]) -> int:
    """How many bytes the body has; one that is too long is not read to its end."""
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False) or size > BODY_BYTES:
            return size


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    said = "The request is larger than 32 MB: send fewer or smaller pictures, or links to them."
    await PlainTextResponse(said, 413)(scope, receive, send)


@dataclass
class _Bucket:
    tokens: float
    at: float


class Paced:
    """The app, unless an account calls it without a pause."""

    def __init__(self, app: ASGIApp, steady: Callable[[], float]):
        self._app = app
        self._steady = steady
        self._buckets: dict[str, _Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (owner := scope.get(ACCOUNT)) and not self._may_call(owner):
            said = "This account sends requests faster than any work needs: wait some seconds, then try again."
            await PlainTextResponse(said, 429, {"Retry-After": "5"})(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _may_call(self, owner: str) -> bool:
        now = self._steady()
        bucket = self._buckets.pop(owner, _Bucket(REQUESTS_AT_ONCE, now))
        self._buckets[owner] = bucket  # the last of them is always the one that called last
        bucket.tokens = min(REQUESTS_AT_ONCE, bucket.tokens + (now - bucket.at) * REQUESTS_PER_SECOND)
        bucket.at = now
        while (oldest := next(iter(self._buckets.items())))[1].at < now - REQUESTS_AT_ONCE / REQUESTS_PER_SECOND:
            del self._buckets[oldest[0]]  # it would be full again
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def raise_file_limit() -> int:
    """How many files and connections this process may have open, which is raised as far as it may."""
    if sys.platform == "win32":
        return DESCRIPTORS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return wanted if soft == resource.RLIM_INFINITY else soft
