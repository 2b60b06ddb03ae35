"""Programs that some tests start: Node, a browser, PostgreSQL."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

__all__ = ["missing", "needs"]


def needs(*names: str, folders: Iterable[Path] = ()) -> str:
    """The path of a program, by the first of its names that is found on the PATH or in one of the folders.

    Where there is none the test is skipped; with REFVIDEO_NO_SKIPS=1, which says that everything should be there, it
    fails.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, folders)])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    return missing(f"{' or '.join(names)} is not installed")


def missing(what: str) -> NoReturn:
    """Skip the test for want of something; fail it where everything should be there."""
    if os.environ.get("REFVIDEO_NO_SKIPS") == "1":
        pytest.fail(what)
    pytest.skip(what)
