"""Files that are listed here but lie in a cloud. iCloud, OneDrive fetch them when they are opened, or not."""

import errno
import re

from refvideo_mcp.errors import Refused, ask_user

__all__ = ["is_elsewhere", "meant_by_placeholder", "only_in_the_cloud", "placeholder_of"]

# What macOS answers where the file may not be fetched for this process, or cannot be.
_ERRORS = {errno.EDEADLK, errno.ETIMEDOUT, errno.ECANCELED}
_WINDOWS_ERRORS = {*range(358, 405), 426}  # ERROR_CLOUD_FILE_…
_CLOUD_FOLDER = re.compile(r"[\\/](OneDrive|Mobile Documents|CloudStorage|iCloud ?Drive|Dropbox|Google ?Drive)", re.I)
_PLACEHOLDER = re.compile(r"\.(.+)\.icloud")


def is_elsewhere(error: OSError, path: str) -> bool:
    """Whether the system could not fetch a file from its cloud."""
    unclear = error.errno in (errno.EIO, errno.EINVAL) and _CLOUD_FOLDER.search(path) is not None
    return unclear or error.errno in _ERRORS or getattr(error, "winerror", None) in _WINDOWS_ERRORS


def placeholder_of(name: str) -> str:
    """What iCloud puts in a file's place on older systems."""
    return f".{name}.icloud"


def meant_by_placeholder(name: str) -> str | None:
    """The file whose place it keeps; None if it is no placeholder."""
    found = _PLACEHOLDER.fullmatch(name)
    return found[1] if found else None


def only_in_the_cloud(shown: str) -> Refused:
    return Refused(
        f"{shown} is only in the cloud, not on this machine.",
        ask_user(
            "download it there first (iCloud: Download Now; OneDrive: Always keep on this device). Nothing was sent."
        ),
    )
