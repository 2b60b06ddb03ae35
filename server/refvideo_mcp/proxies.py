"""The user's proxy: how its address is read, and which hosts are never reached through it."""

import re
from collections.abc import MutableMapping

__all__ = ["DIRECT", "read_as_others_do"]

# This machine's own, in the form that httpx2 takes as `mounts`: None is the client's usual transport. A proxy elsewhere
# would not find them, and pictures for the sandbox must not leave this machine.
DIRECT = {"all://localhost": None, "all://127.0.0.0/8": None, "all://[::1]": None}


def read_as_others_do(environ: MutableMapping[str, str]) -> None:
    """Write socks:// as socks5://, which desktops mean by it and the HTTP client refuses."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        for spelled in (name, name.lower()):
            if value := environ.get(spelled):
                environ[spelled] = re.sub(r"^\s*socks://", "socks5://", value, flags=re.IGNORECASE)
