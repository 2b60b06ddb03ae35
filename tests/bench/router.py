"""A quick router in a process of its own: `python router.py` prints its address. GET /set?… tells it how to behave."""

import asyncio
import json
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import BinaryIO
from urllib.parse import parse_qsl, urlsplit

BUFFER_BYTES = 4 * 2**20
UNKNOWN = {"code": 404, "reason": "TASK_NOT_FOUND", "message": "no such task"}
REASONS = {"500": "CREATE_TASK_FAILED", "503": "SERVICE_NOT_AVAILABLE", "429": "RATE_LIMIT_EXCEEDED"}
FAULTS = ("reset", "garbage", "slow", *REASONS)
SLOW_SECONDS = 3.0


class Router:
    """Jobs take `least` to `most` seconds; their videos have `mb` MB; `faults` is the share of answers that are wrong.

    While it is `locked`, no key is right.

    Whatever happens to a job is told by GET /events, in steady seconds, which are the same in every process.
    """

    def __init__(self) -> None:
        self.url = ""
        self.set = {"least": 0.0, "most": 0.0, "mb": 0.001, "faults": 0.0, "locked": 0.0}
        self.events: dict[str, dict[str, list[float]]] = {}
        self._video: tuple[float, BinaryIO] | None = None

    async def serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=BUFFER_BYTES, backlog=1024)
        self.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        sys.stdout.write(self.url + "\n")
        sys.stdout.flush()
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, target, *_ = head.split(" ", 2)
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                await reader.readexactly(int(headers.get("content-length", "0")))
                url = urlsplit(target)
                if not await self._answer(method, url.path, dict(parse_qsl(url.query)), writer):
                    break
                if headers.get("connection") == "close":
                    break
        writer.close()

    async def _answer(self, method: str, path: str, query: Mapping[str, str], writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        if path.startswith("/videos/"):
            self.events[path.removeprefix("/videos/")]["fetched"].append(time.monotonic())
            return await self._send_video(writer)
        if self.set["locked"] and path != "/set":
            await self._reply(writer, 401, {"code": 401, "reason": "FAILED_TO_AUTH", "message": "no such API key"})
            return True
        fault = random.choice(FAULTS) if path.startswith("/v3/") and random.random() < self.set["faults"] else ""
        if fault == "reset":
            writer.transport.abort()
            return False
        if fault == "slow":
            await asyncio.sleep(random.uniform(0.0, SLOW_SECONDS))
        reply = {"POST": self._accept, "GET": self._told}[method](path, query)
        if fault in REASONS:
            await self._reply(writer, int(fault), {"code": int(fault), "reason": REASONS[fault], "message": "no"})
        elif reply is None:
            await self._reply(writer, 404, UNKNOWN)
        else:
            await self._reply(writer, 200, "<html>" if fault == "garbage" else reply)
        return True

    async def _reply(self, writer: asyncio.StreamWriter, status: int, reply: object) -> None:
        body = json.dumps(reply).encode()
        head = f"HTTP/1.1 {status} S\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    def _accept(self, path: str, query: Mapping[str, str]) -> object:
        task, now = str(uuid.uuid4()), time.monotonic()
        takes = random.uniform(self.set["least"], self.set["most"])
        self.events[task] = {"accepted": [now], "done": [now + takes], "polls": [], "fetched": []}
        return {"task_id": task}

    def _told(self, path: str, query: Mapping[str, str]) -> object:
        if path == "/set":
            self.set |= {name: float(value) for name, value in query.items()}
            return self.set
        if path == "/events":
            return self.events
        task = query["task_id"]
        if task not in self.events:
            return None
        now, events = time.monotonic(), self.events[task]
        events["polls"].append(now)
        video = {"video_url": f"{self.url}/videos/{task}", "video_url_ttl": "3600", "video_type": "mp4"}
        is_done = now >= events["done"][0]
        status = "TASK_STATUS_SUCCEED" if is_done else "TASK_STATUS_PROCESSING"
        return {
            "task": {"task_id": task, "status": status, "reason": "", "eta": 0, "progress_percent": 0},
            "videos": [video] if is_done else None,
            "extra": {"seed": "7"},
        }

    async def _send_video(self, writer: asyncio.StreamWriter) -> bool:
        size = max(100, int(self.set["mb"] * 10**6))
        if self._video is None or self._video[0] != size:
            file = tempfile.TemporaryFile()  # noqa: SIM115  # kept for the next
            boxes = b"\0\0\0\x18ftypisom\0\0\2\0isommp41" + (size - 24).to_bytes(4, "big") + b"mdat"
            file.write(boxes)
            file.truncate(size)
            file.flush()
            self._video = size, file
        head = f"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {size}\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        await asyncio.get_running_loop().sendfile(writer.transport, self._video[1], 0, size)
        return True


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(Router().serve())
