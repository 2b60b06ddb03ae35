"""The routes: submit, result, file, statistics, page."""

import hashlib
import html
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from . import scenarios
from .broken_responses import HalfFile, HangUp
from .contract import MAX_BODY_BYTES, check_body
from .film import Film
from .jobs import FakeJob, Newest, result_body, status_of
from .reasons import STATUS_OF, Refusal
from .renders import Renders

SUBMIT_PATH = "/v3/async/vidu-q2-reference2video"
RESULT_PATH = "/v3/async/task-result"

_BAD_GATEWAY = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


class FakeRouter:
    """The simulated router. All its state is in memory, and bounded."""

    def __init__(self, seconds: float, folder: Path | None, link_seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._link_seconds = link_seconds
        self._clock = clock
        self._jobs: Newest[FakeJob] = Newest()
        self._limited: Newest[None] = Newest()
        self._stats = {"submits": 0, "accepted": 0, "polls": 0, "downloads": 0}
        self.renders = Renders(folder)

    async def submit(self, request: Request) -> Response:
        self._stats["submits"] += 1
        try:
            body = await _read(request)
            _check_headers(request)
            order = await anyio.to_thread.run_sync(check_body, body)
            scenario = scenarios.find(order["prompt"])
        except ClientDisconnect:
            return Response(status_code=499)
        if scenario.name in STATUS_OF:
            raise Refusal(scenario.name)
        if scenario.name == "drop-before":
            return HangUp()
        if scenario.name == "rate-limited-once" and self._is_first(body):
            return Refusal("RATE_LIMIT_EXCEEDED", "RPM limit exceeded").response({"Retry-After": "1"})
        job = await self._accept(order, scenario)
        if scenario.name == "drop-after":
            return HangUp()
        if scenario.name == "html":
            return HTMLResponse(_BAD_GATEWAY, status_code=502)
        with anyio.move_on_after(scenario.answer_seconds):
            while scenario.name == "slow-answer" and (await request.receive())["type"] != "http.disconnect":
                pass
        return JSONResponse({"task_id": job.task_id, "provider_request_id": f"sandbox-{job.task_id}"})

    def _is_first(self, body: bytes) -> bool:
        digest = hashlib.sha256(body).hexdigest()
        if digest in self._limited:
            del self._limited[digest]
            return False
        self._limited[digest] = None
        return True

    async def _accept(self, order: dict[str, Any], scenario: scenarios.Scenario) -> FakeJob:
        self._stats["accepted"] += 1
        accepted_at, number = self._clock(), self._stats["accepted"]
        # In a thread, because an order with its pictures in it is up to 20 MB to hash and to write.
        seed = await anyio.to_thread.run_sync(_seed, order, number)
        film_key = await anyio.to_thread.run_sync(self._want, order, seed) if scenario.renders else ""
        job = FakeJob(scenario, seed, accepted_at, film_key)
        self._jobs[job.task_id] = job
        return job

    def _want(self, order: dict[str, Any], seed: int) -> str:
        return self.renders.want(Film.from_request(order, seed))

    async def result(self, request: Request) -> Response:
        self._stats["polls"] += 1
        _check_headers(request)
        job, now = self._find(request.query_params.get("task_id", "")), self._clock()
        path, failure = self.renders.path(job.film_key), self.renders.failure(job.film_key)
        status = status_of(job, now - job.accepted_at, self._seconds, rendered=path is not None, failure=failure)
        succeeded = status["status"] == "TASK_STATUS_SUCCEED"
        videos = [self._video(request, job, now)] if succeeded and path else None if succeeded else []
        return JSONResponse(result_body(job, status, now, self._seconds, videos))

    def _find(self, task_id: str) -> FakeJob:
        if not task_id:
            raise Refusal("INVALID_REQUEST_BODY", "task_id: is required")
        job = self._jobs.get(task_id)
        if job is None or job.scenario.name == "task-lost" or (job.film_key and not self.renders.knows(job.film_key)):
            raise Refusal("TASK_NOT_FOUND", "task not found")
        job.polls += 1
        if job.scenario.name == "result-unavailable-once" and job.polls == 1:
            raise Refusal("SERVICE_NOT_AVAILABLE", "server overload")
        return job

    def _video(self, request: Request, job: FakeJob, now: float) -> dict[str, str]:
        name, suffix = job.scenario.name, self.renders.suffix
        is_dead = name == "expired-link" or (name == "expired-link-once" and not job.links)
        expires = int(now) if is_dead else int(now + self._link_seconds)
        query = f"expires={expires}&signature={uuid.uuid4().hex}"
        job.links[query] = expires
        return {
            "video_url": f"{request.base_url}files/{job.task_id}{suffix}?{query}",
            "video_url_ttl": "0" if name == "ttl-zero" else str(int(self._link_seconds)),
            "video_type": suffix.removeprefix("."),
        }

    async def file(self, request: Request) -> Response:
        """A file behind a link that looks presigned, with the refusals of a storage service."""
        job = self._jobs.get(request.path_params["name"].rpartition(".")[0])
        expires = job.links.get(request.url.query) if job else None
        if "authorization" in request.headers:
            return _xml_error(403, "AccessDenied", "A presigned link takes no Authorization header")
        if job is None or expires is None:
            return _xml_error(403, "SignatureDoesNotMatch", "The signature does not match the link")
        if self._clock() >= expires:
            return _xml_error(403, "AccessDenied", "Request has expired")
        path = self.renders.path(job.film_key)
        if path is None:
            return _xml_error(404, "NoSuchKey", "The file is gone")
        media_type = "video/mp4" if path.suffix == ".mp4" else "image/gif"
        if request.method == "GET":
            self._stats["downloads"] += 1
            if job.scenario.name == "cut-link":
                return HalfFile(path, media_type)
        return FileResponse(path, media_type=media_type)

    async def stats(self, request: Request) -> Response:
        return JSONResponse(self._stats)


def build_app(
    *,
    seconds: float = 8.0,
    folder: Path | None = None,
    link_seconds: float = 3600,
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """The sandbox as an ASGI application.

    `seconds` is the least time a job takes, `folder` keeps rendered films (default: one in the system's temporary
    folder), `link_seconds` is the life of a link, `clock` gives seconds since the epoch.
    """
    router = FakeRouter(seconds, folder, link_seconds, clock)
    app = Starlette(
        routes=[
            Route(SUBMIT_PATH, router.submit, methods=["POST"]),
            Route(RESULT_PATH, router.result, methods=["GET"]),
            Route("/files/{name}", router.file, methods=["GET", "HEAD"]),
            Route("/sandbox/stats", router.stats, methods=["GET"]),
            Route("/", _page, methods=["GET"]),
        ],
        exception_handlers={404: _no_such_route, 405: _no_such_route, Refusal: _refused},
    )
    app.state.renders = router.renders
    return app


async def _refused(request: Request, refusal: Any) -> Response:
    return refusal.response()  # type: ignore[no-any-return]


async def _no_such_route(request: Request, error: Exception) -> Response:
    return Refusal("API_NOT_FOUND", f"{request.method} {request.url.path} is not an endpoint").response()


async def _page(request: Request) -> Response:
    """How to point a server here, and what can be rehearsed."""
    values = {
        "base_url": html.escape(str(request.base_url).rstrip("/")),
        "submit_path": SUBMIT_PATH,
        "result_path": RESULT_PATH,
        "endings": "".join(_row(name, says) for name, says in scenarios.ENDINGS.items()),
        "reasons": "".join(_row(name, f"HTTP {status}") for name, status in STATUS_OF.items()),
    }
    text = await anyio.Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return HTMLResponse(re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], text))


def _row(name: str, says: str) -> str:
    words = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(says))
    return f"<tr><td><code>[rehearse:{name}]</code></td><td>{words}</td></tr>"


def _xml_error(status: int, code: str, message: str) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(body, status_code=status, media_type="application/xml")


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
