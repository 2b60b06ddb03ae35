"""Programs that some tests start: Node, a browser, PostgreSQL; and where those that tests install are kept."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import platformdirs
import pytest

__all__ = ["CACHE", "needs"]

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
