"""Which hosts are public: the rule for links of pictures, which the router fetches, and of videos, which we fetch."""

import ipaddress
import re
import socket
import unicodedata

__all__ = ["is_public"]

_HERE = ("localhost", "localdomain", "local", "internal", "intranet", "private", "lan", "home", "corp", "home.arpa")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_LABEL = re.compile(r"[\w-]{1,63}")


def is_public(host: str) -> bool:
    """Whether a host, as it stands in an address, is outside of this machine and of private networks.

    Raises:
        ValueError: no resolver would know what it is.
    """
    # By its name alone: behind some proxies and VPNs every public name resolves to a private address.
    # What a resolver makes of full-width digits, of the ideographic full stop and of a trailing dot.
    name = unicodedata.normalize("NFKC", host).replace("。", ".").lower().removesuffix(".")
    address = _address(name)
    if address is not None:
        return not _is_private(address)
    if not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError("malformed name")
    return "." in name and not name.endswith(tuple(f".{suffix}" for suffix in _HERE))


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a host is, in any spelling that programs accept; None for a name."""
    if ":" in name:
        return ipaddress.IPv6Address(name)
    if not _NUMBER.fullmatch(name.rpartition(".")[2]):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))
    except OSError:
        raise ValueError("malformed address") from None


def _is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (inner := address.ipv4_mapped or address.sixtofour):
        address = inner
    not_global = not address.is_global or address.is_reserved or address.is_multicast or address.is_unspecified
    return not_global or (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)
