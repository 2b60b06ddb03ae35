"""The folder rule: local pictures are sent only from folders that belong to the work, or that the user named."""

import stat
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from refvideo_mcp.errors import clean
from refvideo_mcp.paths import is_broad, real, working_folder

__all__ = ["Folders", "Rule", "Standing"]

_NO_FILES = [Path(folder) for folder in ("/dev", "/proc", "/sys")]

Standing = Literal["allowed", "hidden", "system", "outside"]


@dataclass(frozen=True)
class Rule:
    """The rule for one call. `whole` are folders with all below them, `flat` those whose own files alone are meant.

    `bases` are the folders that a relative path starts from, in order; `usual` are the user's own, from Pictures on.
    """

    whole: tuple[Path, ...]
    flat: frozenset[Path]
    bases: tuple[Path, ...]
    usual: tuple[Path, ...]

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

    def places(self) -> str:
        """The first folders that a picture could be put into, to be sent from there."""
        there = [folder for folder in (*self.bases, *self.usual) if folder.is_dir()][:3] or list(self.usual[:1])
        return " or ".join(clean(str(folder), 200) for folder in dict.fromkeys(there)) or "a folder of the project"

    def covers(self, path: Path) -> bool:
        """Whether an allowed folder is around the path as it is written."""
        return any(path.is_relative_to(folder) for folder in self.whole) or path.parent in self.flat


class Folders:
    """The folders of this process: those named in its settings, and those that belong to the work."""

    def __init__(self, named: Sequence[Path]):
        self._named = tuple(named)

    def rule(self, granted: Iterable[Path], roots: Sequence[Path]) -> Rule:
        """The rule, with folders that the user allowed and the client's roots."""
        here = working_folder()
        work = tuple(
            dict.fromkeys([*(folder for folder in map(real, roots) if not is_broad(folder)), *([here] if here else [])])
        )
        usual = tuple(folder for folder in map(real, self._usual) if not is_broad(folder))
        temporary = real(_temporary_folder())
        # Naming the home folder, or a yes to one picture in it, is no permission for everything below it.
        said = [real(folder) for folder in (*self._named, *granted)]
        return Rule(
            whole=(
                *(folder for folder in said if not is_broad(folder)),
                *work,
                *usual,
                *([] if is_broad(temporary) else [temporary]),
            ),
            flat=frozenset(folder for folder in said if is_broad(folder)),
            bases=work,
            usual=usual,
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
