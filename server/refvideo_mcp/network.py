"""Which hosts are public, which are reached without the user's proxy, and which certificates are believed."""

import ipaddress
import re
import socket
import unicodedata
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    import ssl

__all__ = ["DIRECT", "Trust", "is_public", "read_proxies_as_others_do"]

# This machine's own, in the form that httpx2 takes as `mounts`: None is the client's usual transport. A proxy elsewhere
# would not find them, and pictures for the sandbox must not leave this machine.
DIRECT = {"all://localhost": None, "all://127.0.0.0/8": None, "all://[::1]": None}

_HERE = ("localhost", "localdomain", "local", "internal", "intranet", "private", "lan", "home", "corp", "home.arpa")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_LABEL = re.compile(r"[\w-]{1,63}")


class Trust:
    """The certificates that this system, or its user, trusts: read once for all clients, when the first needs them."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._reading = anyio.Lock()

    async def context(self) -> "ssl.SSLContext":
        """What an HTTP client takes as `verify`.

        Raises:
            OSError: SSL_CERT_FILE names what cannot be read.
        """
        async with self._reading:
            if self._context is None:
                import httpx2

                # In a thread: it takes as long as a hundred answers to a ping.
                self._context = await anyio.to_thread.run_sync(httpx2.create_ssl_context)
            return self._context


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


def read_proxies_as_others_do(environ: MutableMapping[str, str]) -> None:
    """Write socks:// as socks5://, which desktops mean by it and the HTTP client refuses."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        for spelled in (name, name.lower()):
            if value := environ.get(spelled):
                environ[spelled] = re.sub(r"^\s*socks://", "socks5://", value, flags=re.IGNORECASE)
