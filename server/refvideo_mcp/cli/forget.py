"""`refvideo-mcp forget`: old jobs leave the ledger."""

import argparse
import os
import time

from refvideo_mcp.cli.options import number
from refvideo_mcp.errors import InvalidCall
from refvideo_mcp.ledger import Ledger
from refvideo_mcp.settings import Settings

__all__ = ["add_options", "run"]

DAY_SECONDS = 24 * 3600.0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--older-than", metavar="DAYS", type=number(0), required=True, help="age in days, at least 1")


def run(options: argparse.Namespace) -> None:
    """Remove ended jobs older than `--older-than` days. What was saved on disk stays."""
    days: float = options.older_than
    if days < 1:
        raise InvalidCall("--older-than must be at least 1: the last day counts for the allowance.")
    ledger = Ledger(Settings.read(os.environ).database)
    try:
        count = ledger.forget(time.time() - days * DAY_SECONDS)
    finally:
        ledger.close()
    print(f"Forgot {count} job{'' if count == 1 else 's'}. Saved videos stay where they are.")
