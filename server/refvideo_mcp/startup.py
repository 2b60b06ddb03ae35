"""What brings a server's first answer sooner: a client waits for it whenever a window is opened."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import cast

from pydantic import BaseModel

__all__ = ["deferred", "hastened", "import_all"]

# The SDK imports it for a log of its own, which ours stands in for.
UNUSED = "rich.console"


# What is imported late, so that a first answer comes soon, and the libraries that these import late themselves.
LATE = (
    *("anyio._backends._asyncio", "encodings.idna", "platformdirs", "stamina", "ssl", "http.cookiejar"),
    *("httpx2", "httpcore2._async.connection", "httpcore2._async.connection_pool", "truststore"),
    *("sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg", "sqlite3", "psycopg"),
    *("PIL.ImageCms", "PIL.ImageChops", "PIL.ImageMath", "PIL.ImageOps", "PIL.features", "pillow_heif"),
    *("av", "av.video.frame", "obstore", "obstore.store", "obstore.exceptions"),
)
# Rooms of ours with modules that are imported late.
ROOMS = ("files", "images", "jobs", "ledger", "router", "videos")


def import_all() -> None:
    """Import what calls may need: with all of a process's files in use, an import fails, and does not recover."""
    ours = [
        f"{room.__name__}.{module.name}"
        for room in (import_module(f"{__package__}.{name}") for name in ROOMS)
        for module in iter_modules(room.__path__)
    ]
    for name in (*LATE, *ours):
        with suppress(ImportError):  # not installed: an extra
            import_module(name)
    image = import_module("PIL.Image")
    image.init()  # its plugins, one for each kind of picture


@contextmanager
def deferred() -> Iterator[None]:
    """For a block that imports the SDK: it has some 400 models, of which each is built when it is first used."""
    BaseModel.model_config["defer_build"] = True
    gc.disable()  # hundreds of classes are made, and none of them is garbage
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        del BaseModel.model_config["defer_build"]


@contextmanager
def hastened() -> Iterator[None]:
    """The same for a server, which is built in the block, too, before the event loop runs."""
    known = sys.modules.get(UNUSED)
    sys.modules[UNUSED] = cast(ModuleType, None)  # to import it is an ImportError, which the SDK lives with
    try:
        with deferred():
            yield
    finally:
        del sys.modules[UNUSED]
        if known is not None:
            sys.modules[UNUSED] = known
