"""The way from a link to a file: tried again from the start, and never endless."""

import logging
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from refvideo_mcp import __version__
from refvideo_mcp.errors import RefvideoError, Unavailable, clean
from refvideo_mcp.network import DIRECT, is_public
from refvideo_mcp.videos.partial_file import NotReached, PartialFile

if TYPE_CHECKING:
    import ssl

    import httpx2

__all__ = ["download", "new_client"]

log = logging.getLogger(__name__)

ATTEMPTS = 8
# At least so many at a time: each write is a way to a thread and back. More than that leaves the processor's cache.
WRITE_BYTES = 2**18


class _Cut(Exception):
    """This attempt brought no whole video; another one may. Its text ends the sentence that tells of it."""


def new_client(
    *, verify: "ssl.SSLContext | bool", any_host: bool, transport: "httpx2.AsyncBaseTransport | None" = None
) -> "httpx2.AsyncClient":
    """A client of its own, without key or cookies: nothing that is meant for the router reaches a CDN.

    Without `any_host` it goes to public hosts only.
    """
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    import httpx2

    return httpx2.AsyncClient(
        # Encoded, a file is not as long as its host says.
        headers={"User-Agent": f"refvideo-mcp/{__version__}", "Accept-Encoding": "identity"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        timeout=30,
        follow_redirects=True,
        max_redirects=3,
        event_hooks={"request": [partial(_check_address, any_host=any_host)]},
        verify=verify,
        transport=transport,
        mounts=DIRECT,
    )


async def download(client: "httpx2.AsyncClient", url: str, part: PartialFile, *, max_mb: int, within: float) -> None:
    """Fill `part` with what `url` leads to. `max_mb` 0 = no limit; `within` is in seconds, all attempts included.

    Raises:
        NotReached: it did not come; a later try or another link may bring it.
        Unavailable: it is too large, or its link leads where none may lead.
        OSError: it could not be stored.
    """
    import httpx2
    import stamina

    with anyio.move_on_after(within) as scope:
        try:
            async for attempt in stamina.retry_context(on=_may_pass, attempts=ATTEMPTS, timeout=within):
                with attempt:
                    await _attempt(client, url, part, max_mb)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise NotReached("its host cannot be reached") from error
        except httpx2.TooManyRedirects as error:
            raise NotReached("its link leads from redirect to redirect") from error
        except httpx2.TransportError as error:
            raise NotReached("the connection broke again and again") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise NotReached("its link or its host's answer is malformed") from error
        except _Cut as error:
            raise NotReached(str(error)) from error
        except Exception as error:
            if not _is_foreign(error):
                raise
            log.warning("the HTTP client raised %s.%s", type(error).__module__, type(error).__qualname__)
            raise NotReached("the connection broke again and again") from error
    if scope.cancelled_caught:
        raise NotReached("its host is too slow")


async def _check_address(request: "httpx2.Request", *, any_host: bool) -> None:
    """Called for the link and for every redirect."""
    if request.url.scheme not in ("http", "https"):
        raise Unavailable("The video could not be fetched: its link is no http or https address.")
    host = request.url.raw_host.decode("ascii", "replace")
    if not (any_host or _is_public(host)):
        raise Unavailable(f"The video was not fetched: its link leads to {clean(host, 80)}, which is no public host.")


def _is_public(host: str) -> bool:
    try:
        return is_public(host)
    except ValueError:
        return False


def _may_pass(error: Exception) -> bool:
    """Whether another attempt may bring what this one did not."""
    import httpx2

    return isinstance(error, httpx2.TransportError | _Cut) or _is_foreign(error)


def _is_foreign(error: Exception) -> bool:
    """Whether it comes from below the HTTP client, which does not translate all that its libraries raise."""
    import ssl

    import httpx2

    if isinstance(error, OSError):  # the disk's, but for these
        return isinstance(error, ssl.SSLError)
    return not isinstance(error, httpx2.HTTPError | httpx2.InvalidURL | RefvideoError | _Cut)


async def _attempt(client: "httpx2.AsyncClient", url: str, part: PartialFile, max_mb: int) -> None:
    async with client.stream("GET", url) as response:
        _check_status(response)
        await anyio.to_thread.run_sync(part.restart)
        _check_size(int(response.headers.get("content-length") or 0), max_mb)
        chunks, size = list[bytes](), 0
        async for chunk in response.aiter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            _check_size(part.size + size, max_mb)
            if size >= WRITE_BYTES:
                await anyio.to_thread.run_sync(part.write, b"".join(chunks))
                chunks, size = [], 0
        await anyio.to_thread.run_sync(part.write, b"".join(chunks))
    if not await anyio.to_thread.run_sync(part.is_whole):
        raise _Cut("only a part of it came")


def _check_status(response: "httpx2.Response") -> None:
    status = response.status_code
    if status == 200:
        return
    if status in (408, 429) or status >= 500:
        raise _Cut(f"its host answered {status}")
    # What it means, only time tells: a CDN that lags, a filter in the user's network, a link that is dead.
    raise NotReached(f"its host answered {status}", status)


def _check_size(size: int, max_mb: int) -> None:
    if max_mb and size > max_mb * 2**20:
        raise Unavailable(
            f"The video is larger than {max_mb} MB and was not saved.", "REFVIDEO_MAX_VIDEO_MB raises the limit."
        )
