"""The way from a link to a file: resumed where the server can, from the start where it cannot, and never endless."""

import logging
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from refvideo_mcp import __version__
from refvideo_mcp.errors import RefvideoError, Unavailable, clean
from refvideo_mcp.hosts import is_public
from refvideo_mcp.proxies import DIRECT
from refvideo_mcp.videos.part import NotReached, Part

if TYPE_CHECKING:
    import ssl

    import httpx2

__all__ = ["download", "new_client"]

log = logging.getLogger(__name__)

ATTEMPTS = 8


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
        # Encoded, a file could not be resumed: the bytes we count are not those that were sent.
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


async def download(client: "httpx2.AsyncClient", url: str, part: Part, *, max_mb: int, within: float) -> None:
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


async def _attempt(client: "httpx2.AsyncClient", url: str, part: Part, max_mb: int) -> None:
    headers = {"Range": f"bytes={part.size}-", "If-Range": part.version} if part.size and part.version else {}
    async with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 416:
            part.version = None  # what we have is no beginning of what it has
        _check_status(response)
        if response.status_code != 206 or not part.size:
            await anyio.to_thread.run_sync(part.restart)
            part.version = _version(response)
        elif not response.headers.get("content-range", "").startswith(f"bytes {part.size}-"):
            part.version = None  # it answers with another range than asked for: no more ranges
            raise _Cut("its host sent another part of it than asked for")
        _check_size(part.size + int(response.headers.get("content-length") or 0), max_mb)
        async for chunk in response.aiter_bytes():
            _check_size(part.size + len(chunk), max_mb)
            await anyio.to_thread.run_sync(part.write, chunk)
    if not await anyio.to_thread.run_sync(part.is_whole):
        part.version = None
        raise _Cut("only a part of it came")


def _check_status(response: "httpx2.Response") -> None:
    status = response.status_code
    if status in (200, 206):
        return
    if status in (408, 416, 429) or status >= 500:
        raise _Cut(f"its host answered {status}")
    # What it means, only time tells: a CDN that lags, a filter in the user's network, a link that is dead.
    raise NotReached(f"its host answered {status}", status)


def _version(response: "httpx2.Response") -> str | None:
    """What tells a server which file we have the beginning of; None if it cannot go on from there."""
    if "content-encoding" in response.headers or response.headers.get("accept-ranges") == "none":
        return None
    tag: str | None = response.headers.get("etag")
    return tag if tag and not tag.startswith("W/") else None  # a weak one means "as good as", not "the same bytes"


def _check_size(size: int, max_mb: int) -> None:
    if max_mb and size > max_mb * 2**20:
        raise Unavailable(
            f"The video is larger than {max_mb} MB and was not saved.", "REFVIDEO_MAX_VIDEO_MB raises the limit."
        )
