"""What brings a server's first answer sooner: a client waits for it whenever a window is opened."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast

from pydantic import BaseModel

__all__ = ["hastened"]

# The SDK imports it for a log of its own, which ours stands in for.
UNUSED = "rich.console"


@contextmanager
def hastened() -> Iterator[None]:
    """For a block that imports the SDK, or builds a server with it, before the event loop runs."""
    known = sys.modules.get(UNUSED)
    sys.modules[UNUSED] = cast(ModuleType, None)  # to import it is an ImportError, which the SDK lives with
    # The SDK has some 400 models, of which a client makes it use a few: each is built when it is first used.
    BaseModel.model_config["defer_build"] = True
    gc.disable()  # hundreds of classes are made, and none of them is garbage
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        del BaseModel.model_config["defer_build"]
        del sys.modules[UNUSED]
        if known is not None:
            sys.modules[UNUSED] = known
