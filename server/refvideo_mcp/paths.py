"""Folders and names as this machine's system sees them; what pictures and videos have in common on disk."""

import os
import re
import sys
from pathlib import Path

__all__ = ["is_broad", "is_drive", "is_reserved", "real", "working_folder"]

# Never the start of anybody's work; programs are started in them by chance.
_SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "usr")
_APPLE = ("System", "Library", "Applications")
_SHARED = ("/media", "/mnt", "/opt", "/private", "/private/var", "/srv", "/var", "/Volumes")
# A home folder is one whoever runs this: the superuser, or a Linux inside of Windows, which has the drives in /mnt.
_HOMES = re.compile(r"/mnt/[a-z]|(/home|(/mnt/[a-z]|[a-z]:)?/Users)(/[^/]+)?", re.IGNORECASE)
_WINDOWS = ("SystemRoot", "ProgramFiles", "ProgramFiles(x86)", "ProgramData")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)\s*(\..*)?", re.IGNORECASE)


def real(path: Path) -> Path:
    """The path with its links resolved, as far as it exists."""
    try:
        return Path(os.path.realpath(path))
    except OSError:  # a link vanished meanwhile; opening the path as it is follows none
        return Path(os.path.normpath(path.absolute()))


def is_broad(folder: Path) -> bool:
    """Whether a folder is a home folder, one around it, or the system's: permission for it is none for all below."""
    home = _home()
    return (
        folder.parent == folder
        or (home is not None and home.is_relative_to(folder))
        or any(folder.is_relative_to(system) for system in _system_folders())
        or folder in map(Path, _SHARED)
        or _HOMES.fullmatch(folder.as_posix()) is not None
    )


def is_drive(folder: Path) -> bool:
    """Whether a folder is the top of a disk. Another machine's is not asked."""
    return folder.drive.startswith("\\\\") or os.path.ismount(folder)  # pathlib's says False on Windows


def working_folder() -> Path | None:
    """The folder that this process was started in; None where that was by chance, or it was deleted."""
    try:
        folder = real(Path.cwd())
    except OSError:
        return None
    return None if is_broad(folder) else folder


def is_reserved(name: str) -> bool:
    """Whether Windows takes a file of this name for a device."""
    return bool(_RESERVED.fullmatch(name))


def _home() -> Path | None:
    try:
        return real(Path.home())
    except RuntimeError:
        return None


def _system_folders() -> list[Path]:
    if sys.platform == "win32":
        return [Path(os.environ[name]) for name in _WINDOWS if os.environ.get(name)]
    return [Path("/", name) for name in (*_SYSTEM, *_APPLE)]
