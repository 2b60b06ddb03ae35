"""`refvideo-mcp doctor`: what is set up, what is not, and what to do about it."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial

import anyio

from refvideo_mcp.cli import checks_here as here
from refvideo_mcp.cli.check import Check
from refvideo_mcp.cli.checks_router import ask_router, gateway, not_asked
from refvideo_mcp.cli.exit_codes import DONE, FAILED
from refvideo_mcp.cli.options import add_json_option
from refvideo_mcp.cli.screen import Screen
from refvideo_mcp.errors import Refused
from refvideo_mcp.settings import Settings

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Look at everything, and print a line about each."""
    screen = Screen(sys.stdout, len("pictures"))
    told = {True: screen.done, False: screen.failed, None: screen.noted}
    checks: list[Check] = []
    for check in _checks(os.environ):
        checks.append(check)
        if not options.json:
            told[check.ok](check.name, f"{check.found} {check.remedy}".rstrip())
    all_fine = all(check.ok is not False for check in checks)
    if options.json:
        print(json.dumps({"ok": all_fine, "checks": [_as_json(check) for check in checks]}, indent=2))
    return DONE if all_fine else FAILED


def _checks(environ: Mapping[str, str]) -> Iterator[Check]:
    yield here.version()
    try:
        settings = Settings.read(environ)
    except Refused as error:
        yield Check("settings", False, error.happened, error.advice.for_person)
        yield here.proxy(environ)
    else:
        yield from _checks_of(settings, environ)
    yield from here.extras()


def _checks_of(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    key, proxy = here.key(environ, settings), here.proxy(environ)
    yield key
    yield gateway(settings)
    yield proxy
    if settings.sandbox:
        yield from not_asked("it is simulated")
    elif not settings.api_key:
        yield from not_asked("there is no key")
    elif proxy.ok is False:
        yield from not_asked("the proxy comes first")
    else:
        yield from anyio.run(partial(ask_router, settings))
    yield from here.folders(settings)
    yield here.ledger(settings)


def _as_json(check: Check) -> dict[str, object]:
    answer: dict[str, object] = {"name": check.name, "ok": check.ok, "found": check.found}
    return answer | ({"remedy": check.remedy} if check.remedy else {})
