"""A router on real sockets that misbehaves on command.

Its bytes are written by hand: an HTTP framework would repair the faults. As a program of its own it behaves well and
counts: `python tests/misbehaving_router.py --port 0 --stats FILE` prints its URL on the first line.
"""

import argparse
import asyncio
import itertools
import json
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import anyio

import faults
from faults import AnyFault, Body, Fault, InTurn, OneFault, Redirect, Request, Status, nowhere

__all__ = ["AnyFault", "Body", "Fault", "InTurn", "MisbehavingRouter", "Redirect", "Request", "Status", "nowhere"]

SUBMIT = "/v3/async/vidu-q2-reference2video"
RESULT = "/v3/async/task-result"
TINY_VIDEO = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"isom", 512, b"isom", b"mp41") + struct.pack(">I4s", 8, b"mdat")


class MisbehavingRouter:
    def __init__(self, port: int = 0, stats: Path | None = None) -> None:
        self.submit_fault: AnyFault = Fault.NONE
        self.result_fault: AnyFault = Fault.NONE
        self.video_fault: AnyFault = Fault.NONE
        self.api_key: str | None = None  # None: any bearer token will do
        self.hold: anyio.Event | None = None  # keeps POSTs unanswered, their jobs accepted, until it is set
        self.answer_delay = (0.0, 0.0)  # seconds, from and to
        self.drip_interval = 0.01
        self.polls_until_done: int | None = 1  # None: jobs go on until `finish`
        self.job_answer: Callable[[str], dict[str, object]] = self.usual_answer
        self.video = TINY_VIDEO
        self.video_cuts: list[int] = []  # each next download ends where so many percent of the whole video are over
        self.task_prefix = "task-"

        self.url = ""
        self.connections = 0
        self.bytes_sent = 0
        self.posts: list[Request] = []
        self.looks: list[Request] = []
        self.downloads: list[Request] = []
        self.strays: list[Request] = []  # asked for something that does not exist here
        self.accepted: list[str] = []  # append an id to have a job without a POST
        self.polls: Counter[str] = Counter()

        self._port = port
        self._stats = stats
        self._numbers = itertools.count(1)
        self._ends: dict[str, tuple[str, str]] = {}
        self._news = anyio.Event()
        self._sockets: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        self._sockets.append(listener)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._tasks.append(asyncio.create_task(self._listen(listener)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        with anyio.CancelScope(shield=True):
            ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        for sock in self._sockets:
            sock.close()
        for end in ends:
            if isinstance(end, Exception) and error is None:
                raise end

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once the condition on what was recorded holds; put a time limit around it."""
        while not condition():
            await self._news.wait()

    def finish(self, task_id: str, status: str = "TASK_STATUS_SUCCEED", reason: str = "") -> None:
        """From now on this is how the job ended."""
        self._ends[task_id] = (status, reason)

    def video_url(self, task_id: str) -> str:
        return f"{self.url}/videos/{quote(task_id, safe='')}.mp4?signature=presigned"

    def usual_answer(self, task_id: str) -> dict[str, object]:
        looks = self.polls[task_id]
        status, reason = self._ends.get(task_id, ("TASK_STATUS_PROCESSING", ""))
        if task_id not in self._ends and self.polls_until_done is not None and looks >= self.polls_until_done:
            status = "TASK_STATUS_SUCCEED"
        done = status == "TASK_STATUS_SUCCEED"
        percent = 100 if done else min(99, 100 * looks // (self.polls_until_done or 100))
        video = {"video_url": self.video_url(task_id), "video_url_ttl": "3600", "video_type": "mp4"}
        return {
            "extra": {"seed": "42"},
            "task": {"task_id": task_id, "status": status, "reason": reason, "eta": 0, "progress_percent": percent},
            "images": None,
            "audios": None,
            "videos": [video] if done else None,
        }

    async def _listen(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        while True:
            await anyio.wait_readable(listener)
            with suppress(BlockingIOError):
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._sockets.append(sock)
                self._tasks.append(asyncio.create_task(self._serve(sock)))

    async def _serve(self, sock: socket.socket) -> None:
        with sock, suppress(ConnectionError):  # a client may go away whenever it likes
            reused = False
            while await self._exchange(sock, reused):
                reused = True

    async def _exchange(self, sock: socket.socket, reused: bool) -> bool:
        """One request and its answer; True if the connection can take another."""
        words = (await faults.request_line(sock)).split()
        if len(words) < 3:
            return False
        request = Request(words[0], words[1])
        fault = self._record(request)
        if fault is Fault.HANG_BEFORE_READING:
            await anyio.sleep_forever()
        if fault is Fault.RESET_BEFORE_READING or (fault is Fault.RESET_ON_REUSE and reused):
            faults.reset(sock)
            return False

        try:
            await faults.read(sock, request, fault)
        finally:
            if request in self.posts:
                self._count("post", request)
        if fault is Fault.RESET_DURING_BODY:
            faults.reset(sock)
            return False
        if not request.complete:
            return False

        fault, body, content_type = self._decide(request, fault)
        if self.hold is not None and request in self.posts:
            await self.hold.wait()
        if fault in (Fault.RESET_AFTER_BODY, Fault.RESET_AFTER_ACCEPT):
            faults.reset(sock)
            return False
        if fault is Fault.HANG:
            await anyio.sleep_forever()
        await anyio.sleep(random.uniform(*self.answer_delay))
        for piece in faults.pieces(fault, body, content_type):
            await asyncio.get_running_loop().sock_sendall(sock, piece)
            self.bytes_sent += len(piece)
            if fault is Fault.DRIP:
                await anyio.sleep(self.drip_interval)
        return not faults.closes(fault) and request.headers.get("connection", "").lower() != "close"

    def _record(self, request: Request) -> OneFault:
        fault: AnyFault
        if request.method == "POST" and request.path.endswith(SUBMIT):
            records, fault = self.posts, self.submit_fault
        elif request.method == "GET" and request.path.endswith(RESULT):
            records, fault = self.looks, self.result_fault
            self.polls[request.task_id] += 1
        elif request.method == "GET" and request.path.startswith("/videos/"):
            records, fault = self.downloads, self.video_fault
        else:
            records, fault = self.strays, Fault.NONE
        records.append(request)
        self._tell()
        return fault.next() if isinstance(fault, InTurn) else fault

    def _decide(self, request: Request, fault: OneFault) -> tuple[OneFault, bytes, str]:
        """The fault (a refusal of the router's own is one too) and the answer that would be right."""
        if request in self.strays:
            return Status(404, "API_NOT_FOUND"), b"", ""
        if request in self.downloads:
            if fault is Fault.NONE:
                cut = self.video_cuts.pop(0) if self.video_cuts else None
                fault = faults.cut_at(self.video, cut)
            return fault, self.video, "video/mp4"
        scheme, _, key = (request.authorization or "").partition(" ")
        if scheme != "Bearer" or not key or (self.api_key is not None and key != self.api_key):
            return Status(401, "FAILED_TO_AUTH", message="failed to authenticate API key"), b"", ""
        answer: dict[str, object] = {}
        if request in self.posts:
            if not faults.refuses(fault):
                task_id = f"{self.task_prefix}{next(self._numbers)}"
                self.accepted.append(task_id)
                self._count("accepted", request, task_id)
                answer = {"task_id": task_id, "provider_request_id": f"provider-{task_id}"}
        elif request.task_id in self.accepted:
            answer = self.job_answer(request.task_id)
        elif fault is Fault.NONE:
            fault = Status(404, "TASK_NOT_FOUND")
        return fault, json.dumps(answer).encode(), "application/json"

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    def _count(self, event: str, request: Request, task_id: str | None = None) -> None:
        self._tell()
        if self._stats is None:
            return
        prompt = None
        with suppress(ValueError, AttributeError):
            prompt = json.loads(request.body).get("prompt")
        line = {"event": event, "task_id": task_id, "complete": request.complete, "prompt": prompt}
        with self._stats.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "authorization": request.authorization}) + "\n")


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A well-behaved router that counts.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--stats", type=Path, required=True, help="one JSON line per POST and per accepted job")
    parser.add_argument("--answer-delay", type=float, nargs=2, default=(0.0, 0.0), metavar=("MIN", "MAX"))
    parser.add_argument("--polls-until-done", type=int, default=1)
    options = parser.parse_args()
    async with MisbehavingRouter(options.port, options.stats) as router:
        router.answer_delay = tuple(options.answer_delay)
        router.polls_until_done = options.polls_until_done
        sys.stdout.write(router.url + "\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_main())
