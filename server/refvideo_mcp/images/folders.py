"""The folder rule: local pictures are sent only from folders that belong to the work, or that the user named."""

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

__all__ = ["Folders", "Rule", "real"]

# Never the start of anybody's pictures; programs are started in them by chance.
_SYSTEM = ["bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "usr"]
_APPLE = ["System", "Library", "Applications"]
_SHARED = ["/home", "/media", "/mnt", "/opt", "/private", "/private/var", "/srv", "/var", "/Users", "/Volumes"]
_WINDOWS = ("SystemRoot", "ProgramFiles", "ProgramFiles(x86)", "ProgramData")
_NO_FILES = [Path(folder) for folder in ("/dev", "/proc", "/sys")]

Standing = Literal["allowed", "hidden", "system", "outside"]


def real(path: Path) -> Path:
    """The path with its links resolved, as far as it exists."""
    try:
        return Path(os.path.realpath(path))
    except OSError:  # a link vanished meanwhile; opening the path as it is follows none
        return Path(os.path.normpath(path.absolute()))


@dataclass(frozen=True)
class Rule:
    """The rule for one call. `whole` are folders with all below them, `flat` those whose own files alone are meant.

    `bases` are the folders that a relative path starts from, in order.
    """

    whole: tuple[Path, ...]
    flat: frozenset[Path]
    bases: tuple[Path, ...]

    def standing(self, path: Path) -> Standing:
        """How the rule sees a path whose links are resolved."""
        if any(path.is_relative_to(folder) for folder in _NO_FILES) and not path.is_relative_to("/dev/shm"):  # noqa: S108
            return "system"
        around = [folder for folder in self.whole if path.is_relative_to(folder)]
        if path.parent in self.flat:
            around.append(path.parent)
        if any(not _is_hidden(path, folder) for folder in around):
            return "allowed"
        return "hidden" if around or _is_hidden(path, Path(path.anchor)) else "outside"

    def covers(self, path: Path) -> bool:
        """Whether an allowed folder is around the path as it is written."""
        return any(path.is_relative_to(folder) for folder in self.whole) or path.parent in self.flat


class Folders:
    """The folders of this process: those named in its settings, and those that belong to the work."""

    def __init__(self, named: Sequence[Path]):
        self._named = tuple(named)

    def rule(self, granted: Iterable[Path], roots: Sequence[Path]) -> Rule:
        """The rule, with folders that the user allowed and the client's roots."""
        work = [folder for folder in map(real, [*roots, *_working_folder()]) if not self._is_broad(folder)]
        usual = [folder for folder in map(real, [_temporary_folder(), *self._usual]) if not self._is_broad(folder)]
        allowed = [real(folder) for folder in granted]
        return Rule(
            whole=(
                *map(real, self._named),
                *work,
                *usual,
                *(folder for folder in allowed if not self._is_broad(folder)),
            ),
            # A yes to one picture in the home folder is not a yes to everything below it.
            flat=frozenset(folder for folder in allowed if self._is_broad(folder)),
            bases=tuple(dict.fromkeys(work)),
        )

    @cached_property
    def _usual(self) -> tuple[Path, ...]:
        import platformdirs

        places: tuple[Callable[[], Path], ...] = (
            platformdirs.user_pictures_path,
            platformdirs.user_downloads_path,
            platformdirs.user_desktop_path,
            platformdirs.user_documents_path,
        )
        return tuple(place() for place in places)

    def _is_broad(self, folder: Path) -> bool:
        """Whether the folder is the home folder, one around it, or the system's."""
        home = _home()
        return (
            folder.parent == folder
            or (home is not None and home.is_relative_to(folder))
            or any(folder.is_relative_to(system) for system in _system_folders())
            or folder in map(Path, _SHARED)
        )


def _system_folders() -> Iterator[Path]:
    if sys.platform == "win32":
        yield from (Path(os.environ[name]) for name in _WINDOWS if os.environ.get(name))
    else:
        yield from (Path("/", folder) for folder in [*_SYSTEM, *_APPLE])


def _home() -> Path | None:
    try:
        return real(Path.home())
    except RuntimeError:
        return None


def _working_folder() -> list[Path]:
    try:
        return [Path.cwd()]
    except OSError:  # it was deleted
        return []


def _temporary_folder() -> Path:
    return Path(tempfile.gettempdir())


def _is_hidden(path: Path, below: Path) -> bool:
    steps = [path, *path.parents][: len(path.relative_to(below).parts)]
    return any(step.name.startswith(".") or _is_marked_hidden(step) for step in steps)


def _is_marked_hidden(path: Path) -> bool:
    try:
        status = path.lstat()
    except (OSError, ValueError):
        return False
    windows, apple = getattr(status, "st_file_attributes", 0), getattr(status, "st_flags", 0)
    return bool(windows & stat.FILE_ATTRIBUTE_HIDDEN or apple & stat.UF_HIDDEN)
