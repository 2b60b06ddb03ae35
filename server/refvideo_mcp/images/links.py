"""Addresses that the router fetches itself: passed on unfetched, unless it could not or should not fetch them."""

import ipaddress
import re
import unicodedata
from urllib.parse import urlsplit

from refvideo_mcp.errors import Refused, clean

__all__ = ["checked_link"]

_HERE = ("localhost", "localdomain", "local", "internal", "intranet", "private", "lan", "home", "corp", "home.arpa")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_LABEL = re.compile(r"[\w-]{1,63}")
_ADVICE = "Use a public https URL or a local path. Nothing was sent."


def checked_link(url: str, where: str, *, any_host: bool) -> str:
    """`url`, if it is an http(s) address that the router can fetch. `any_host`: the router is on this machine itself.

    Raises:
        Refused: it is malformed, carries a password, or leads into a private network.
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
        raise Refused(f"The address in {where} carries a user name or password.", _ADVICE)
    # What a resolver makes of full-width digits, of the ideographic full stop and of a trailing dot.
    name = unicodedata.normalize("NFKC", host).replace("。", ".").lower().removesuffix(".")
    address = _address(name, where)
    if address is None and not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise _malformed(where)
    if not any_host and (_is_private(address) if address else _is_local(name)):
        raise Refused(
            f"The address in {where} leads to {clean(host, 80)}, which the router cannot fetch: it is no public host.",
            _ADVICE,
        )
    return url


def _malformed(where: str) -> Refused:
    return Refused(f"The address in {where} is malformed.", _ADVICE)


def _is_local(name: str) -> bool:
    return "." not in name or name.endswith(tuple(f".{suffix}" for suffix in _HERE))


def _address(name: str, where: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a host is, in any spelling that programs accept; None for a name."""
    if ":" in name:
        try:
            return ipaddress.IPv6Address(name)
        except ValueError:
            raise _malformed(where) from None
    parts = name.split(".")
    if not _NUMBER.fullmatch(parts[-1]):
        return None
    # As inet_aton reads it: 1 to 4 decimal, octal or hexadecimal numbers, the last one filling what is left.
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise _malformed(where)
    numbers = [_number(part, where) for part in parts]
    value = numbers[-1]
    if value >= 256 ** (5 - len(parts)) or any(number > 255 for number in numbers[:-1]):
        raise _malformed(where)
    for place, number in enumerate(numbers[:-1]):
        value += number << (24 - 8 * place)
    return ipaddress.IPv4Address(value)


def _number(text: str, where: str) -> int:
    try:
        if text.startswith("0x"):
            return int(text[2:] or "0", 16)
        return int(text, 8 if text.startswith("0") else 10)
    except ValueError:
        raise _malformed(where) from None


def _is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (inner := address.ipv4_mapped or address.sixtofour):
        address = inner
    not_global = not address.is_global or address.is_reserved or address.is_multicast or address.is_unspecified
    return not_global or (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)
