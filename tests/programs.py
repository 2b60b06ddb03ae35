"""Programs that some tests start: found on this machine, or installed once for all runs."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import platformdirs
import pytest

__all__ = ["installed", "needs"]

# Asked for before the tests get folders of their own, or each run would install everything again.
CACHE = platformdirs.user_cache_path("refvideo-mcp-tests")


def needs(*names: str, folders: Iterable[Path] = ()) -> str:
    """The path of a program, by the first of its names that is found on the PATH or in one of the folders.

    Where there is none the test is skipped.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, folders)])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    pytest.skip(f"{' or '.join(names)} is not installed")


def installed(name: str, wanted: bytes, by: Callable[[Path], None]) -> Path:
    """A folder outside the repository, filled by the first test that needs it; another one for what is wanted later."""
    folder = CACHE / f"{name}-{sha256(wanted).hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_suffix(".lock")):
        if not folder.is_dir():
            # Filled beside its place and moved there whole: this run may be killed.
            with tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True) as temporary:
                made = Path(temporary) / "made"
                made.mkdir()
                by(made)
                made.rename(folder)
    return folder


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time, where the system has such locks."""
    with lock.open("w") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
