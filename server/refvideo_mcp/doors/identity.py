"""Who calls: the account behind a request's bearer token, found before anything of its body is read."""

import re
from collections.abc import Mapping
from typing import Any, Protocol

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from refvideo_mcp.tools import ACCOUNT

__all__ = ["Authenticated", "Denied", "Identity"]

_BEARER = re.compile(r"bearer +([\w.~+/=-]+)", re.ASCII | re.IGNORECASE)


class Denied(Exception):
    """Why nobody is let in, in a sentence for whoever sees it; `error` is RFC 6750's word, "" = no token was shown."""

    def __init__(self, status: int, sentence: str, error: str = ""):
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.error = error


class Identity(Protocol):
    """Whose tokens are whose. `challenge` is what a client is told of where to get one, as in WWW-Authenticate.

    `documents` say more of it to whoever asks: JSON, by path.
    """

    challenge: str
    documents: Mapping[str, Mapping[str, Any]]

    async def account_of(self, token: str) -> str:
        """The account that a token stands for.

        Raises:
            Denied: for none, or this cannot be found out.
        """


class Authenticated:
    """The app for those whose account is known."""

    def __init__(self, app: ASGIApp, identity: Identity):
        self._app = app
        self._inside = AuthContextMiddleware(app)  # what the SDK seals for one caller is nobody else's
        self._identity = identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        document = self._identity.documents.get(scope["path"])
        if document is not None and scope["method"] == "GET":
            await JSONResponse(document)(scope, receive, send)
            return
        try:
            account = await self._identity.account_of(_token(Headers(scope=scope)))
        except Denied as denied:
            await self._denied(denied)(scope, receive, send)
            return
        user = AuthenticatedUser(AccessToken(token="", client_id=account, scopes=[], subject=account))
        await self._inside({**scope, "user": user, ACCOUNT: account}, receive, send)

    def _denied(self, denied: Denied) -> PlainTextResponse:
        headers = {"Retry-After": "30"} if denied.status == 503 else {}
        if denied.status in (401, 403):
            said = [f'error="{denied.error}"', f'error_description="{denied.sentence}"'] if denied.error else []
            parts = [*said, *([self._identity.challenge] if self._identity.challenge else [])]
            headers["WWW-Authenticate"] = " ".join(["Bearer", ", ".join(parts)]).strip()
        return PlainTextResponse(denied.sentence, denied.status, headers)


def _token(headers: Headers) -> str:
    given = headers.getlist("authorization")
    if not given:
        raise Denied(401, "This server wants a token: the header Authorization must be Bearer and the token.")
    token = _BEARER.fullmatch(given[0].strip())
    if len(given) > 1 or token is None:
        raise Denied(401, "The header Authorization must be Bearer and one token, once.", "invalid_token")
    return token[1]
