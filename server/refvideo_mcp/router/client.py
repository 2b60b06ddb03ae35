"""The router's two requests: submit a job, read a task."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isnan
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
from pydantic_core import to_json

from refvideo_mcp import __version__
from refvideo_mcp.errors import SubmitRejected, Unavailable, Uncertain, ask_user, clean
from refvideo_mcp.network import DIRECT, Trust
from refvideo_mcp.router.classify import Reply, failed_read, failed_submit, uncertain
from refvideo_mcp.schemas import TaskResult

if TYPE_CHECKING:
    import httpx2

__all__ = ["Router", "Timeouts"]

log = logging.getLogger(__name__)

SUBMIT_PATH = "/v3/async/vidu-q2-reference2video"
RESULT_PATH = "/v3/async/task-result"
# Two gateways of the family tell a balance there; the others answer 404.
USER_PATH = "/v3/user"
BALANCE_SECONDS = 2.0
CREDITS_PER_UNIT = 10_000
MOST_CREDIT = 1e15
MAX_ANSWER_BYTES = 2 * 1024 * 1024
LONGEST_PAUSE_SECONDS = 3600.0
PIECE_BYTES = 2**19
# Longer than the slowest pause between two looks at a job, shorter than routers keep a silent connection.
KEEP_ALIVE_SECONDS = 15.0
SETTINGS = ask_user("check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE")


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `submit` and `result` bound the whole exchange, also an answer that drips in byte by byte.

    `connect` bounds each step of connecting, `reach` all that is before a submission can leave, a proxy included.
    A process that was stopped until the time was over gets `grace`: what arrived meanwhile waits in the socket.
    """

    connect: float = 10
    reach: float = 30
    submit: float = 120
    result: float = 20
    grace: float = 1


class Router:
    """A client for one router and one key. Nothing is opened before the first request.

    `answered` says whether anybody ever did, in whatever words; `clock_ahead` is by how many seconds the router's clock
    was ahead of ours then, None if it did not tell the time.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeouts: Timeouts | None = None,
        transport: "httpx2.AsyncBaseTransport | None" = None,
        trust: Trust | None = None,
    ):
        self.base_url = base_url.rstrip("/")
        self.host = urlsplit(self.base_url).netloc
        self.has_key = bool(api_key)
        self.answered = False
        self.clock_ahead: float | None = None
        self._key = api_key
        self._timeouts = timeouts or Timeouts()
        self._transport = transport
        self._trust = trust or Trust()
        self._clients: dict[bool, httpx2.AsyncClient] = {}  # one keeps its connections, the other opens each anew

    async def aclose(self) -> None:
        while self._clients:
            await self._clients.popitem()[1].aclose()

    async def submit(self, body: dict[str, Any], seconds: float | None = None) -> str:
        """Send one job, once, and return its task id. `seconds` bounds the whole exchange.

        Raises:
            SubmitRejected: nothing was bought.
            Uncertain: it may have been accepted and billed.
        """
        limit = min(self._timeouts.submit, seconds if seconds is not None else self._timeouts.submit)
        if limit <= 0:  # this machine slept, or its clock was set
            raise SubmitRejected(
                f"The time to send this to {self.host} ran out. Nothing was sent or bought.", "Try again."
            )
        sent = _Content(body)
        try:
            reply = await self._submitted(sent, limit)
        except _NoClient as error:
            raise SubmitRejected(f"{error} Nothing was sent or bought.", SETTINGS + ", then try again.") from error
        except Exception as error:
            raise (self._unanswered(error, limit) if sent.has_left else self._unreached(error)) from error
        if reply.ok and reply.task_id:
            return reply.task_id
        pictures = (image for subject in body["subjects"] for image in subject["images"])
        raise failed_submit(reply, with_data_uris=any(image.startswith("data:") for image in pictures))

    async def task_result(self, task_id: str) -> TaskResult:
        """Ask once for a task. Free; safe to repeat.

        Raises:
            UnknownTask: the router does not know it.
            ReadRefused: the router refused the question (key, access).
            Unavailable: no usable answer this time.
        """
        try:
            with anyio.fail_after(self._timeouts.result):
                reply = await self._asked({"task_id": task_id})
        except _NoClient as error:
            advice = "The job is not affected. " + SETTINGS + ", then ask again."
            raise Unavailable(str(error), advice, task_id=task_id) from error
        except Exception as error:
            raise Unavailable(
                f"No answer from {self.host} ({_fault(error)}).",
                "The job is not affected: ask again in a minute.",
                task_id=task_id,
            ) from error
        result = TaskResult.from_json(reply.json)
        if not result.links and not (reply.ok and result.task.status):
            raise failed_read(reply, task_id)
        if result.task.task_id not in ("", task_id):
            other = clean(reply.without_secrets(result.task.task_id), 80)
            happened = f"{self.host} answered about another task ({other})."
            raise Unavailable(happened, "The job is not affected: ask again in a minute.", task_id=task_id)
        result.task.status = reply.without_secrets(result.task.status)
        result.task.reason = reply.without_secrets(result.task.reason)
        return result

    async def balance(self) -> float | None:
        """What is left on the key's account, in its currency; None where the gateway does not tell it at once."""
        try:
            with anyio.fail_after(BALANCE_SECONDS):
                reply = await self._exchange("GET", USER_PATH)
        except Exception:  # a courtesy: not documented, and nothing depends on it
            return None
        left = reply.json.get("credit_balance") if reply.ok else None
        is_number = isinstance(left, int | float) and not isinstance(left, bool) and abs(left) < MOST_CREDIT
        return left / CREDITS_PER_UNIT if is_number and left is not None else None

    def _unreached(self, error: Exception) -> SubmitRejected:
        """What an exception means before anything of the request has left."""
        import httpx2

        at_the_router = isinstance(error, httpx2.ConnectError | httpx2.TimeoutException | TimeoutError)
        look_at = "Check the network and MYROUTER_BASE_URL" if at_the_router else SETTINGS
        return SubmitRejected(
            f"{self.host} could not be reached ({_fault(error)}). Nothing was sent or bought.",
            f"{look_at}, then try again.",
        )

    def _unanswered(self, error: Exception, limit: float) -> Uncertain:
        """What it means afterwards."""
        if isinstance(error, TimeoutError):
            return uncertain(self.host, f"{self.host} did not answer in {limit:.3g} seconds")
        _fault(error)
        return uncertain(self.host, f"The connection to {self.host} broke before the answer")

    async def _submitted(self, content: "_Content", limit: float) -> Reply:
        """Raises whatever comes; TimeoutError once the time is over."""
        outcome: Reply | Exception = TimeoutError()

        async def give_up() -> None:
            reach = min(self._timeouts.reach, limit)
            await anyio.sleep(reach)
            if content.has_left:
                await anyio.sleep(limit - reach)
                await anyio.sleep(self._timeouts.grace)
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give_up)
            try:
                length = {"Content-Length": str(len(content.bytes))}
                outcome = await self._exchange("POST", SUBMIT_PATH, content=content, headers=length)
            except Exception as error:
                outcome = error
            tasks.cancel_scope.cancel()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _asked(self, params: dict[str, str]) -> Reply:
        """A GET over a connection that is kept; where that was closed or cut by now, over a fresh one."""
        import httpx2

        steps: list[str] = []

        async def note(step: str, _: Any) -> None:
            steps.append(step)

        try:
            return await self._exchange("GET", RESULT_PATH, keep=True, params=params, extensions={"trace": note})
        except (httpx2.NetworkError, httpx2.RemoteProtocolError):
            was_kept = bool(steps) and not any("connect" in step for step in steps)
            if not was_kept:
                raise
        return await self._exchange("GET", RESULT_PATH, params=params)

    async def _exchange(
        self, method: str, path: str, headers: dict[str, str] | None = None, *, keep: bool = False, **content: Any
    ) -> Reply:
        """The caller limits its time."""
        import httpx2

        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json", **(headers or {})}
        timeout = httpx2.Timeout(None, connect=self._timeouts.connect, pool=self._timeouts.connect)
        url = self.base_url + path
        client = await self._opened(keep)
        async with client.stream(method, url, headers=headers, timeout=timeout, **content) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:  # no answer of this API is that long: garbage
                    body.clear()
                    break
            self.answered = True
            self.clock_ahead = _ahead(response.headers.get("Date"))
            retry_after = _seconds(response.headers.get("Retry-After"))
            return Reply(self.host, response.status_code, bytes(body), retry_after, self._key)

    async def _opened(self, keep: bool) -> "httpx2.AsyncClient":
        import httpx2

        try:
            verify = await self._trust.context() if self._transport is None else True
            if keep not in self._clients:
                # A kept-alive connection that has gone stale fails in a way that looks as if the job might have been
                # accepted: no submission reuses one.
                limits = httpx2.Limits(
                    max_connections=100,
                    max_keepalive_connections=20 if keep else 0,
                    keepalive_expiry=KEEP_ALIVE_SECONDS,
                )
                self._clients[keep] = httpx2.AsyncClient(
                    limits=limits,
                    headers={"User-Agent": f"refvideo-mcp/{__version__}", "Accept": "application/json"},
                    follow_redirects=False,
                    transport=self._transport,
                    verify=verify,
                    mounts=DIRECT,
                )
        except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
            raise _NoClient(f"No connection to {self.host} can be set up ({_misfit(error)}).") from error
        return self._clients[keep]


class _Content:
    """The body of a request. While none of it `has_left`, the router cannot have the request.

    Whatever a proxy wants before the way is open, a CONNECT or a greeting, is not this request: its body is asked for
    only once its own head was written to the router.
    """

    def __init__(self, body: dict[str, Any]):
        # Python's own json takes five times as long for 20 MB of pictures, and holds up every ping meanwhile.
        self.bytes = to_json(body)
        self.has_left = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.has_left = True
        for place in range(0, len(self.bytes), PIECE_BYTES):  # others have their turn in between
            yield self.bytes[place : place + PIECE_BYTES]


class _NoClient(Exception):
    """Proxies and certificates are the environment's, and it may name some that cannot be. Nothing was sent."""


def _misfit(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "the proxy is of a kind that needs another Python package"
    return "the certificate file cannot be read" if isinstance(error, OSError) else "the proxy's address is malformed"


def _fault(error: Exception) -> str:
    """The kind of failure in plain words; the exception's own text may carry addresses."""
    import httpx2

    if not isinstance(error, httpx2.HTTPError | TimeoutError):
        # The HTTP client does not translate all that its own libraries raise.
        log.warning("the HTTP client raised %s.%s", type(error).__module__, type(error).__qualname__)
    kinds: list[tuple[type[BaseException], str]] = [
        (httpx2.ConnectTimeout, "connecting took too long"),
        (httpx2.PoolTimeout, "too many requests at once"),
        (httpx2.ProxyError, "the proxy refused"),
        (httpx2.ConnectError, "connection refused, unknown host or bad certificate"),
        (httpx2.TimeoutException, "it took too long"),
        (TimeoutError, "it took too long"),
    ]
    return next((words for kind, words in kinds if isinstance(error, kind)), "the connection broke")


def _seconds(retry_after: str | None) -> float | None:
    """`Retry-After` in seconds, whether it came as a number or as a date."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        ahead = _ahead(retry_after)
        if ahead is None:
            return None
        seconds = ahead
    return max(0.0, min(seconds, LONGEST_PAUSE_SECONDS)) if not isnan(seconds) else None


def _ahead(date: str | None) -> float | None:
    """How many seconds from now an HTTP date is; negative in the past."""
    try:
        time = parsedate_to_datetime(date or "")
        return (time.replace(tzinfo=time.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
