"""The routes: submit, result, file, statistics, page."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from . import rehearsals
from .clip import Clip
from .jobs import Job, Jobs, result_body, status_of
from .links import Links, xml_error
from .page import page
from .reasons import Refusal
from .renders import Renders
from .rules import MAX_BODY_BYTES, check_body
from .wire import HalfFile, HangUp

SUBMIT_PATH = "/v3/async/vidu-q2-reference2video"
RESULT_PATH = "/v3/async/task-result"

_BAD_GATEWAY = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_MOST_REMEMBERED = 1000


class Router:
    """The simulated router. All its state is in memory, and bounded."""

    def __init__(self, seconds: float, folder: Path | None, link_seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._link_seconds = link_seconds
        self._clock = clock
        self._jobs = Jobs()
        self._links = Links()
        self._limited: OrderedDict[str, None] = OrderedDict()
        self._stats = {"submits": 0, "accepted": 0, "polls": 0, "downloads": 0}
        self.renders = Renders(folder)

    async def submit(self, request: Request) -> Response:
        self._stats["submits"] += 1
        try:
            body = await _read(request)
            _check_headers(request)
            order = await anyio.to_thread.run_sync(check_body, body)
            rehearsal = rehearsals.find(order["prompt"])
        except Refusal as refusal:
            return refusal.response()
        except ClientDisconnect:
            return Response(status_code=499)
        if rehearsal.name in rehearsals.REASONS:
            return Refusal(rehearsal.name).response()
        if rehearsal.name == "drop-before":
            return HangUp()
        if rehearsal.name == "rate-limited-once" and self._is_first(body):
            return Refusal("RATE_LIMIT_EXCEEDED", "RPM limit exceeded").response({"Retry-After": "1"})
        return await self._accepted(request, await self._accept(order, rehearsal))

    def _is_first(self, body: bytes) -> bool:
        digest = hashlib.sha256(body).hexdigest()
        if digest in self._limited:
            del self._limited[digest]
            return False
        self._limited[digest] = None
        while len(self._limited) > _MOST_REMEMBERED:
            self._limited.popitem(last=False)
        return True

    async def _accept(self, order: dict[str, Any], rehearsal: rehearsals.Rehearsal) -> Job:
        self._stats["accepted"] += 1
        accepted_at, number = self._clock(), self._stats["accepted"]
        # In a thread, because an order with its pictures in it is up to 20 MB to hash and to write.
        seed = await anyio.to_thread.run_sync(_seed, order, number)
        clip_key = await anyio.to_thread.run_sync(self._want, order, seed) if rehearsal.renders else ""
        job = Job(rehearsal, seed, accepted_at, clip_key)
        self._jobs.add(job)
        return job

    def _want(self, order: dict[str, Any], seed: int) -> str:
        return self.renders.want(Clip.from_request(order, seed))

    async def _accepted(self, request: Request, job: Job) -> Response:
        if job.rehearsal.name == "drop-after":
            return HangUp()
        if job.rehearsal.name == "html":
            return HTMLResponse(_BAD_GATEWAY, status_code=502)
        with anyio.move_on_after(job.rehearsal.answer_seconds):
            while job.rehearsal.name == "slow-answer" and (await request.receive())["type"] != "http.disconnect":
                pass
        return JSONResponse({"task_id": job.task_id, "provider_request_id": f"sandbox-{job.task_id}"})

    async def result(self, request: Request) -> Response:
        self._stats["polls"] += 1
        try:
            _check_headers(request)
            job = self._find(request.query_params.get("task_id", ""))
        except Refusal as refusal:
            return refusal.response()
        now = self._clock()
        path = self.renders.path(job.clip_key)
        status = status_of(
            job,
            now - job.accepted_at,
            self._seconds,
            rendered=path is not None,
            failure=self.renders.failure(job.clip_key),
        )
        succeeded = status["status"] == "TASK_STATUS_SUCCEED"
        videos = self._videos(request, job, now) if succeeded and path else None if succeeded else []
        return JSONResponse(result_body(job, status, now, self._seconds, videos))

    def _find(self, task_id: str) -> Job:
        if not task_id:
            raise Refusal("INVALID_REQUEST_BODY", "task_id: is required")
        job = self._jobs.get(task_id)
        if job is None or job.rehearsal.name == "task-lost" or self._is_forgotten(job):
            raise Refusal("TASK_NOT_FOUND", "task not found")
        job.polls += 1
        if job.rehearsal.name == "result-unavailable-once" and job.polls == 1:
            raise Refusal("SERVICE_NOT_AVAILABLE", "server overload")
        return job

    def _is_forgotten(self, job: Job) -> bool:
        key, renders = job.clip_key, self.renders
        return bool(key) and not (renders.is_pending(key) or renders.path(key) or renders.failure(key))

    def _videos(self, request: Request, job: Job, now: float) -> list[dict[str, str]]:
        job.links += 1
        name = job.rehearsal.name
        is_dead = name == "expired-link" or (name == "expired-link-once" and job.links == 1)
        expires = int(now) if is_dead else int(now + self._link_seconds)
        base = request.base_url
        link = self._links.sign(f"{base.path}files/{job.task_id}{self.renders.suffix}", expires)
        return [
            {
                "video_url": f"{base.scheme}://{base.netloc}{link}",
                "video_url_ttl": "0" if name == "ttl-zero" else str(int(self._link_seconds)),
                "video_type": self.renders.suffix.removeprefix("."),
            }
        ]

    async def file(self, request: Request) -> Response:
        refusal = self._links.refusal(request, self._clock())
        if refusal:
            return refusal
        job = self._jobs.get(request.path_params["name"].rpartition(".")[0])
        path = self.renders.path(job.clip_key) if job else None
        if job is None or path is None:
            return xml_error(404, "NoSuchKey", "The file is gone")
        if request.method == "GET":
            self._stats["downloads"] += 1
        media_type = "video/mp4" if path.suffix == ".mp4" else "image/gif"
        if job.rehearsal.name == "cut-link" and request.method == "GET":
            return HalfFile(path, media_type)
        return FileResponse(path, media_type=media_type)

    async def stats(self, request: Request) -> Response:
        return JSONResponse(self._stats)

    async def page(self, request: Request) -> Response:
        return HTMLResponse(page(str(request.base_url).rstrip("/"), SUBMIT_PATH, RESULT_PATH))


def build_app(*, seconds: float, folder: Path | None, link_seconds: float, clock: Callable[[], float]) -> Starlette:
    """See the package's function of the same name."""
    router = Router(seconds, folder, link_seconds, clock)
    app = Starlette(
        routes=[
            Route(SUBMIT_PATH, router.submit, methods=["POST"]),
            Route(RESULT_PATH, router.result, methods=["GET"]),
            Route("/files/{name}", router.file, methods=["GET", "HEAD"]),
            Route("/sandbox/stats", router.stats, methods=["GET"]),
            Route("/", router.page, methods=["GET"]),
        ],
        exception_handlers={404: _no_such_route, 405: _no_such_route},
    )
    app.state.renders = router.renders
    return app


async def _no_such_route(request: Request, error: Exception) -> Response:
    return Refusal("API_NOT_FOUND", f"{request.method} {request.url.path} is not an endpoint").response()


async def _read(request: Request) -> bytes:
    body = bytearray()
    # A body that is too long is read to its end all the same: a client that is still sending would not see the answer.
    async for chunk in request.stream():
        if len(body) <= MAX_BODY_BYTES:
            body += chunk
    return bytes(body)


def _check_headers(request: Request) -> None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if not scheme or (scheme == "Bearer" and not key.strip()):
        raise Refusal("MISSING_API_KEY")
    if scheme != "Bearer":
        raise Refusal("FAILED_TO_AUTH", "failed to authenticate API key")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal("INVALID_REQUEST_BODY", "Content-Type: must be application/json")


def _seed(order: dict[str, Any], number: int) -> int:
    if seed := order.get("seed"):
        return int(seed)
    # Not from a clock: the same jobs in the same order find their clips in the cache of an earlier run.
    digest = hashlib.sha256(f"{number}:{sorted(order.items())!r}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 2147483647 + 1
