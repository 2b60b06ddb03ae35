"""Under which names this server is called, and from which web pages: compared whole, not by how they begin.

A web page can make a browser send requests here, under its own name or under one that it makes point here.
"""

import re
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from refvideo_mcp.errors import Refused

__all__ = ["Addresses", "KnownAddresses"]

LOCAL = ("127.0.0.1", "localhost", "[::1]")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?")
_ORIGIN = re.compile(rf"https?://{_HOST.pattern}")
LOCAL_ORIGIN = re.compile(rf"http://({'|'.join(map(re.escape, LOCAL))})(:[0-9]{{1,5}})?")


class Addresses:
    """`hosts` are names, each with a port or for all ports; `local`: the pages of this machine's own may call, too.

    Raises:
        Refused: one of them is none.
    """

    def __init__(self, hosts: Iterable[str], origins: Iterable[str], *, local: bool):
        self._hosts = {host.lower() for host in (*LOCAL, *hosts)}
        self.origins = {origin.lower() for origin in origins}
        self.local = local
        for host in self._hosts:
            if not _HOST.fullmatch(host):
                raise Refused(f"--allowed-host {host} is no name such as mcp.example.com, nor one with a port.")
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise Refused(f"--allowed-origin {origin} is no origin such as https://app.example.com.")

    def has_host(self, host: str) -> bool:
        match = _HOST.fullmatch(host.lower())
        return match is not None and (match[0] in self._hosts or match[1] in self._hosts)

    def has_origin(self, origin: str) -> bool:
        return origin.lower() in self.origins or (self.local and LOCAL_ORIGIN.fullmatch(origin) is not None)


class KnownAddresses:
    """The app for requests under a known name, from no web page or from a known one."""

    def __init__(self, app: ASGIApp, addresses: Addresses):
        self._app = app
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> PlainTextResponse | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._addresses.has_host(hosts[0]):
            said = "The Host of this request is no name of this server; its operator adds one with --allowed-host."
            return PlainTextResponse(said, 421)
        if len(origins) > 1 or not all(map(self._addresses.has_origin, origins)):
            said = "Web pages of this origin may not call this server; its operator adds one with --allowed-origin."
            return PlainTextResponse(said, 403)
        return None
