"""`--auth tokens`: a file says whose token is whose. It holds no token, only their SHA-256.

A line is `account = sha256:HEX`; an account may have several, one for each token. `router_key=VARIABLE` behind it names
the environment variable with a router key of the account's own. Empty lines, and what follows a `#`, are left out.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from refvideo_mcp.doors.identity import Denied
from refvideo_mcp.errors import Refused, clean

__all__ = ["ACCOUNT_NAME", "TokensFile", "digest_of", "new_token"]

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
MOST_BYTES = 1024 * 1024
# Others than those that the program itself gives out.
ACCOUNT_NAME = re.compile(r"(?!local$|oauth-)[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_LINE = re.compile(r"(\S+)\s*=\s*sha256:([0-9a-fA-F]{64})(?:\s+router_key=([A-Za-z_][A-Za-z0-9_]*))?")


def new_token() -> str:
    return f"refvideo_{secrets.token_urlsafe(32)}"


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True)
class _Read:
    """`digests` by account, as pairs, because an account may have several; `keys` are router keys by account."""

    digests: tuple[tuple[str, str], ...]
    keys: Mapping[str, str]


class TokensFile:
    """Read again when it has changed; while it cannot be used, what it said last counts.

    Raises:
        Refused: it cannot be used from the start.
    """

    challenge = ""
    documents: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    def __init__(self, path: Path, environ: Mapping[str, str], steady: Callable[[], float]):
        self._path = path
        self._environ = environ
        self._steady = steady
        self._looked_at = steady()
        self._seen = self._stamp()
        try:
            self._said = self._read()
        except (OSError, ValueError) as error:
            raise Refused(f"REFVIDEO_TOKENS_FILE ({path}) cannot be used: {_reason(error)}.") from None

    async def account_of(self, token: str) -> str:
        self._look()
        digest, found = digest_of(token), ""
        for account, known in self._said.digests:  # all of them, however early one fits
            if hmac.compare_digest(known, digest):
                found = account
        if not found:
            raise Denied(
                401, "This token is not, or no longer, one of this server's: ask its operator.", "invalid_token"
            )
        return found

    def key_of(self, account: str) -> str:
        """The router key of the account's own, "" = the server's."""
        return self._said.keys.get(account, "")

    def keys(self) -> tuple[str, ...]:
        return tuple(self._said.keys.values())

    def _look(self) -> None:
        if self._steady() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = self._steady()
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._said = self._read()
        except (OSError, ValueError) as error:
            log.error("%s cannot be used: %s. The tokens that it had before still count.", self._path, _reason(error))
        else:
            log.warning("%s was read again: %d tokens", self._path, len(self._said.digests))

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = os.stat(self._path)  # noqa: PTH116  # the same, without a path to be parsed at every request
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> _Read:
        """What the file says.

        Raises:
            OSError: it cannot be read.
            ValueError: it does not say it as it should; the text says where.
        """
        with self._path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError("it is longer than 1 MB")
        digests, keys = list[tuple[str, str]](), dict[str, str]()
        for number, line in enumerate(content.decode("utf-8-sig").splitlines(), 1):
            if not (text := line.partition("#")[0].strip()):
                continue
            match = _LINE.fullmatch(text)
            if match is None or not ACCOUNT_NAME.fullmatch(match[1]):
                raise ValueError(f"line {number} is not: account = sha256:HEX")
            if match[2].lower() in (digest for _, digest in digests):
                raise ValueError(f"line {number} has a token that an earlier line has")
            digests.append((match[1], match[2].lower()))
            if match[3]:
                if not (key := self._environ.get(match[3], "").strip()):
                    raise ValueError(f"line {number} names {match[3]}, which is not set")
                if keys.setdefault(match[1], key) != key:
                    raise ValueError(f"line {number} names another router key than an earlier line of {match[1]}")
        if not digests:
            raise ValueError("it names no account")
        return _Read(tuple(digests), keys)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return clean(str(error.strerror if isinstance(error, OSError) else error), 200)
