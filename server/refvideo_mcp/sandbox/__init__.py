"""A simulated router that renders real video, for people who have no wish to pay for every try.

It imports nothing else of this package: its rules are written from the router's documents, so that a mistake
elsewhere shows.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .serve import Sandbox, serve

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["Sandbox", "build_app", "serve"]


def build_app(
    *,
    seconds: float = 8.0,
    folder: Path | None = None,
    link_seconds: float = 3600,
    clock: Callable[[], float] = time.time,
) -> "Starlette":
    """The sandbox as an ASGI application.

    `seconds` is the least time a job takes, `folder` keeps rendered clips (default: one in the system's temporary
    folder), `link_seconds` is the life of a link, `clock` gives seconds since the epoch.
    """
    from .app import build_app as build

    return build(seconds=seconds, folder=folder, link_seconds=link_seconds, clock=clock)
