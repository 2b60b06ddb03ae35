"""Addresses that the router fetches itself: passed on unfetched, unless it could not or should not fetch them."""

import re
from urllib.parse import urlsplit

from refvideo_mcp.errors import InvalidCall, clean
from refvideo_mcp.images.pages import page_at
from refvideo_mcp.network import is_public

__all__ = ["checked_link"]

_ADVICE = "Use a public https URL or a local path. Nothing was sent."


def checked_link(url: str, where: str, *, any_host: bool) -> str:
    """`url`, if it is an http(s) address that the router can fetch. `any_host`: the router is on this machine itself.

    Raises:
        InvalidCall: malformed, with a password, into a private network, or to something that is no picture.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise _malformed(where) from None
    # "[v1.x]" is an address of a kind that does not exist yet, "%eth0" one of this machine's network cards;
    # urlsplit drops line breaks and tabs silently; the router may not.
    if not host or "%" in host or ("[" in parts.netloc and ":" not in host) or re.search(r"[\s\x00-\x20\x7f\\]", url):
        raise _malformed(where)
    if "@" in parts.netloc:
        raise InvalidCall(f"The address in {where} carries a user name or password.", _ADVICE)
    try:
        can_fetch = is_public(host) or any_host
    except ValueError:
        raise _malformed(where) from None
    if not can_fetch:
        raise InvalidCall(
            f"The address in {where} leads to {clean(host, 80)}, which is no public host: nobody else can fetch it.",
            _ADVICE,
        )
    if page := page_at(parts):
        instead = f"Use {clean(page.instead)}" if page.instead else "Use the address of the picture itself"
        raise InvalidCall(
            f"The address in {where} leads to {page.what}, not to a picture.",
            f"{instead}, or a local path. Nothing was sent.",
        )
    return url


def _malformed(where: str) -> InvalidCall:
    return InvalidCall(f"The address in {where} is malformed.", _ADVICE)
