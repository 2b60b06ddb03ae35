"""What may be read and written: nothing hidden, and only in folders that belong to the work or that the user named.

Reading and writing differ in the folders alone.
"""

import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from refvideo_mcp.errors import clean

__all__ = ["Policy", "Standing", "is_broad", "is_drive", "real", "working_folder"]

# Never the start of anybody's work; programs are started in them by chance.
_SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "usr")
_APPLE = ("System", "Library", "Applications")
_SHARED = ("/media", "/mnt", "/opt", "/private", "/private/var", "/srv", "/var", "/Volumes")
# A home folder is one whoever runs this: the superuser, or a Linux inside of Windows, which has the drives in /mnt.
_HOMES = re.compile(r"/mnt/[a-z]|(/home|(/mnt/[a-z]|[a-z]:)?/Users)(/[^/]+)?", re.IGNORECASE)
_WINDOWS = ("SystemRoot", "ProgramFiles", "ProgramFiles(x86)", "ProgramData")
_NO_FILES = [Path(folder) for folder in ("/dev", "/proc", "/sys")]

Standing = Literal["allowed", "hidden", "system", "outside"]


@dataclass(frozen=True)
class Policy:
    """The rule for one call. `whole` are folders with all below them, `flat` those whose own files alone are meant.

    `bases` are the folders that a relative path starts from, in order; `usual` are the user's own, from Pictures on.
    """

    whole: tuple[Path, ...]
    flat: frozenset[Path]
    bases: tuple[Path, ...]
    usual: tuple[Path, ...] = ()

    def standing(self, path: Path) -> Standing:
        """How the rule sees the path of a file, its links resolved."""
        if any(path.is_relative_to(folder) for folder in _NO_FILES) and not path.is_relative_to("/dev/shm"):  # noqa: S108
            return "system"
        around = [folder for folder in self.whole if path.is_relative_to(folder)]
        if path.parent in self.flat:
            around.append(path.parent)
        if any(not _is_hidden(path, folder) for folder in around):
            return "allowed"
        is_hidden = around or _is_hidden(path, Path(path.anchor), by_name_only=not self.knows_host_of(path))
        return "hidden" if is_hidden else "outside"

    def knows_host_of(self, path: Path) -> bool:
        """Whether anything may be asked about a path: a Windows share's host hears from that who the user is."""
        is_share = path.drive.startswith("\\\\")
        return not is_share or path.parent in self.flat or any(path.is_relative_to(folder) for folder in self.whole)

    def places(self) -> str:
        """The first folders that a picture could be put into, to be sent from there."""
        there = [folder for folder in (*self.bases, *self.usual) if folder.is_dir()][:3] or list(self.usual[:1])
        return " or ".join(clean(str(folder), 200) for folder in dict.fromkeys(there)) or "a folder of the project"


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


def _home() -> Path | None:
    try:
        return real(Path.home())
    except RuntimeError:
        return None


def _system_folders() -> list[Path]:
    if sys.platform == "win32":
        return [Path(os.environ[name]) for name in _WINDOWS if os.environ.get(name)]
    return [Path("/", name) for name in (*_SYSTEM, *_APPLE)]


def _is_hidden(path: Path, below: Path, *, by_name_only: bool = False) -> bool:
    steps = [path, *path.parents][: len(path.relative_to(below).parts)]
    if any(step.name.startswith(".") for step in steps):
        return True
    # At the top, macOS marks what it has mounted, too.
    return not by_name_only and any(_is_marked_hidden(step) for step in steps if len(step.parts) > 2)


def _is_marked_hidden(path: Path) -> bool:
    try:
        status = path.lstat()
    except (OSError, ValueError):
        return False
    windows, apple = getattr(status, "st_file_attributes", 0), getattr(status, "st_flags", 0)
    return bool(windows & stat.FILE_ATTRIBUTE_HIDDEN or apple & stat.UF_HIDDEN)
