"""The router's two requests: submit a job, read a task."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isnan
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio

from refvideo_mcp import __version__
from refvideo_mcp.errors import Rejected, Unavailable
from refvideo_mcp.proxies import DIRECT
from refvideo_mcp.router.verdicts import Reply, failed_read, failed_submit, uncertain
from refvideo_mcp.spec import TaskResult

if TYPE_CHECKING:
    import httpx2

__all__ = ["Router", "Timeouts"]

SUBMIT_PATH = "/v3/async/vidu-q2-reference2video"
RESULT_PATH = "/v3/async/task-result"
MAX_ANSWER_BYTES = 2 * 1024 * 1024
LONGEST_PAUSE_SECONDS = 3600.0
SETTINGS = "Ask the user to check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `submit` and `result` bound the whole exchange, also an answer that drips in byte by byte."""

    connect: float = 10
    write: float = 60
    submit: float = 120
    result: float = 20


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
    ):
        self.base_url = base_url.rstrip("/")
        self.host = urlsplit(self.base_url).netloc
        self.answered = False
        self.clock_ahead: float | None = None
        self._key = api_key
        self._timeouts = timeouts or Timeouts()
        self._transport = transport
        self._client: httpx2.AsyncClient | None = None

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def submit(self, body: dict[str, Any], seconds: float | None = None) -> str:
        """Send one job, once, and return its task id. `seconds` bounds the whole exchange.

        Raises:
            Rejected: nothing was bought.
            Uncertain: it may have been accepted and billed.
        """
        import httpx2

        limit = min(self._timeouts.submit, seconds if seconds is not None else self._timeouts.submit)
        if limit <= 0:  # this machine slept, or its clock was set
            raise Rejected(f"The time to send this to {self.host} ran out. Nothing was sent or bought.", "Call again.")
        try:
            with anyio.fail_after(limit):
                reply = await self._exchange("POST", SUBMIT_PATH, limit, json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as error:
            raise self._unreached(error) from error
        except _NoClient as error:
            raise Rejected(f"{error} Nothing was sent or bought.", f"{SETTINGS}, then call again.") from error
        except TimeoutError as error:
            raise uncertain(self.host, f"{self.host} did not answer in {limit:.3g} seconds") from error
        except httpx2.TimeoutException as error:
            raise uncertain(self.host, f"{self.host} stopped answering") from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise uncertain(self.host, f"The connection to {self.host} broke before the answer") from error
        if reply.ok and reply.task_id:
            return reply.task_id
        raise failed_submit(reply)

    async def task_result(self, task_id: str) -> TaskResult:
        """Ask once for a task. Free; safe to repeat.

        Raises:
            UnknownTask: the router does not know it.
            Rejected: the router refused the question (key, access).
            Unavailable: no usable answer this time.
        """
        import httpx2

        unavailable = f"No answer from {self.host}"
        try:
            with anyio.fail_after(self._timeouts.result):
                params = {"task_id": task_id}
                reply = await self._exchange("GET", RESULT_PATH, self._timeouts.result, params=params)
        except (TimeoutError, httpx2.TransportError, httpx2.DecodingError) as error:
            raise Unavailable(
                f"{unavailable} ({_fault(error)}).",
                "The job is not affected: ask again in a minute.",
                task_id=task_id,
            ) from error
        except _NoClient as error:
            advice = f"The job is not affected. {SETTINGS}, then ask again."
            raise Unavailable(str(error), advice, task_id=task_id) from error
        result = TaskResult.from_json(reply.json)
        if not reply.ok or not result.task.status:
            raise failed_read(reply, task_id)
        result.task.status = reply.without_secrets(result.task.status)
        result.task.reason = reply.without_secrets(result.task.reason)
        return result

    def _unreached(self, error: Exception) -> Rejected:
        return Rejected(
            f"{self.host} could not be reached ({_fault(error)}). Nothing was sent or bought.",
            "Check the network and MYROUTER_BASE_URL, then call again.",
        )

    async def _exchange(self, method: str, path: str, read_seconds: float, **content: Any) -> Reply:
        import httpx2

        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        timeout = httpx2.Timeout(self._timeouts.connect, write=self._timeouts.write, read=read_seconds)
        url = self.base_url + path
        async with self._opened().stream(method, url, headers=headers, timeout=timeout, **content) as response:
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

    def _opened(self) -> "httpx2.AsyncClient":
        import httpx2

        if self._client is None:
            try:
                self._client = httpx2.AsyncClient(
                    # A kept-alive connection that has gone stale fails in a way that looks as if the job might
                    # have been accepted; no request reuses one.
                    limits=httpx2.Limits(max_connections=100, max_keepalive_connections=0),
                    headers={"User-Agent": f"refvideo-mcp/{__version__}", "Accept": "application/json"},
                    follow_redirects=False,
                    transport=self._transport,
                    mounts=DIRECT,
                )
            except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
                raise _NoClient(f"No connection to {self.host} can be set up ({_misfit(error)}).") from error
        return self._client


class _NoClient(Exception):
    """Proxies and certificates are the environment's, and it may name some that cannot be. Nothing was sent."""


def _misfit(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "the proxy is of a kind that needs another Python package"
    return "the certificate file cannot be read" if isinstance(error, OSError) else "the proxy's address is malformed"


def _fault(error: BaseException) -> str:
    """The kind of failure in plain words; the exception's own text may carry addresses."""
    import httpx2

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
