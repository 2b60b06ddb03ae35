"""`--auth oauth`: callers show a JWT of an OAuth issuer, for this server; an account is the issuer's word for a person.

Only signatures that are made with a private key count, by the keys that the issuer publishes. What a token itself says
of where its key is does not.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import httpx2
import jwt

from refvideo_mcp.doors.identity import Denied
from refvideo_mcp.errors import clean
from refvideo_mcp.network import DIRECT, Trust

__all__ = ["OAuth"]

log = logging.getLogger(__name__)

METADATA_PATH = "/.well-known/oauth-protected-resource/mcp"
ALGORITHMS: dict[str, tuple[str, ...]] = {"RSA": ("RS256", "RS384", "RS512"), "EC": ("ES256", "ES384", "ES512")}
REQUIRED = ["exp", "iss", "sub", "aud"]
CLOCKS_DIFFER_SECONDS = 30.0
# How long the issuer's keys count before they are asked for again, and for how long at most if it does not answer.
FRESH_SECONDS = 300.0
STALE_SECONDS = 3600.0
# A key that is not among them may be new; who makes up names of keys is not to make us ask for each.
AGAIN_SECONDS = 30.0
ANSWER_SECONDS = 10.0
MOST_BYTES = 1024 * 1024


class OAuth:
    """`resource` is this server's address, `audience` what its tokens are made out to."""

    def __init__(self, issuer: str, resource: str, audience: str, scopes: tuple[str, ...], steady: Callable[[], float]):
        self._issuer = issuer
        self._audience = audience
        self._scopes = scopes
        self._keys = _Keys(issuer, steady)
        metadata = {"resource": resource, "authorization_servers": [issuer], "bearer_methods_supported": ["header"]}
        self.documents: Mapping[str, Mapping[str, Any]] = {
            METADATA_PATH: metadata | ({"scopes_supported": list(scopes)} if scopes else {})
        }
        at = resource.removesuffix("/mcp") + METADATA_PATH
        self.challenge = f'resource_metadata="{at}"' + (f', scope="{" ".join(scopes)}"' if scopes else "")

    async def account_of(self, token: str) -> str:
        claims = await self._claims(token)
        subject = claims["sub"]
        if not subject:
            raise Denied(401, "The token does not say whose it is (sub).", "invalid_token")
        if missing := set(self._scopes) - _scopes_of(claims):
            raise Denied(403, f"The token lacks the scope {' '.join(sorted(missing))}.", "insufficient_scope")
        return f"oauth-{hashlib.sha256(f'{self._issuer} {subject}'.encode()).hexdigest()[:40]}"

    async def _claims(self, token: str) -> dict[str, Any]:
        """What the issuer says in a token.

        Raises:
            Denied: it says nothing that counts here, or cannot be asked for its keys.
        """
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            said = "The token is no JWT, and this server cannot look others up: its issuer must give out JWTs."
            raise Denied(401, said, "invalid_token") from None
        key, algorithm = await self._keys.named(header.get("kid")), header.get("alg")
        if key is None or algorithm not in ALGORITHMS.get(key.key_type or "", ()):
            raise Denied(401, "The token is not signed with a key of this server's issuer.", "invalid_token")
        try:
            return jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=CLOCKS_DIFFER_SECONDS,
                options={"require": REQUIRED},
            )
        except jwt.ExpiredSignatureError:
            raise Denied(401, "The token has expired: log in again.", "invalid_token") from None
        except jwt.InvalidTokenError as error:
            log.info("a token was refused: %s", type(error).__name__)
            raise Denied(
                401, "The token is not one of this server's issuer for this server.", "invalid_token"
            ) from None


class _Keys:
    """The keys that an issuer publishes, by their ids."""

    def __init__(self, issuer: str, steady: Callable[[], float]):
        self._issuer = issuer
        self._steady = steady
        self._trust = Trust()
        self._asking = anyio.Lock()
        self._asked_at = -STALE_SECONDS
        self._heard_at = -STALE_SECONDS
        self._known: dict[str | None, jwt.PyJWK] = {}

    async def named(self, name: Any) -> jwt.PyJWK | None:
        """The key of that id, None = there is none. A token may leave the id out where there is one key only.

        Raises:
            Denied: the issuer does not answer.
        """
        async with self._asking:  # all who come meanwhile want the same answer
            now = self._steady()
            age, pause = now - self._heard_at, now - self._asked_at
            is_unknown = self._found(name) is None
            if age >= STALE_SECONDS or (pause >= AGAIN_SECONDS and (is_unknown or age >= FRESH_SECONDS)):
                self._asked_at = now
                try:
                    self._known = await self._published()
                    self._heard_at = now
                except (OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
                    log.warning("the keys of %s could not be read: %s", self._issuer, clean(repr(error), 200))
                    if is_unknown or age >= STALE_SECONDS:
                        host = clean(self._issuer, 100)
                        said = f"{host} does not answer, so nobody can be let in: try again in a minute."
                        raise Denied(503, said) from None
            return self._found(name)

    def _found(self, name: Any) -> jwt.PyJWK | None:
        if name is None and len(self._known) == 1:
            return next(iter(self._known.values()))
        return self._known.get(name) if isinstance(name, str) else None

    async def _published(self) -> dict[str | None, jwt.PyJWK]:
        """What the issuer publishes now.

        Raises:
            OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL, TimeoutError: no usable answer.
        """
        async with httpx2.AsyncClient(verify=await self._trust.context(), mounts=DIRECT) as http:
            with anyio.fail_after(ANSWER_SECONDS):
                address = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
                described = await _document(http, address)
                if described.get("issuer") != self._issuer:
                    raise ValueError("its configuration names another issuer")
                published = await _document(http, str(described.get("jwks_uri")))
        keys: dict[str | None, jwt.PyJWK] = {}
        for entry in published.get("keys", []):
            if entry.get("kty") in ALGORITHMS and entry.get("use", "sig") == "sig":
                try:
                    keys[entry.get("kid")] = jwt.PyJWK(entry)
                except jwt.PyJWTError:  # of a kind that is not known here
                    log.info("a key of %s is left out", self._issuer)
        return keys


async def _document(http: httpx2.AsyncClient, address: str) -> Mapping[str, Any]:
    async with http.stream("GET", address) as response:
        content = b""
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > MOST_BYTES:
                raise ValueError("the answer is too long")
        if response.status_code != 200:
            raise ValueError(f"the answer is HTTP {response.status_code}")
    found = httpx2.Response(200, content=content).json()
    if not isinstance(found, dict):
        raise ValueError("the answer is no JSON object")
    return found


def _scopes_of(claims: Mapping[str, Any]) -> set[str]:
    """As most issuers write them, and as Entra and Okta do."""
    scopes = set[str]()
    for name in ("scope", "scp"):
        given = claims.get(name, ())
        scopes |= set(given.split() if isinstance(given, str) else (each for each in given if isinstance(each, str)))
    return scopes
