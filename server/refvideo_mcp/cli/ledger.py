"""`refvideo-mcp release` and `forget`: what only people do with the ledger."""

import argparse
import os
import sys
import time
from datetime import datetime

from refvideo_mcp.cli.options import number
from refvideo_mcp.errors import InvalidCall, Refused, clean
from refvideo_mcp.ledger import Job, Ledger
from refvideo_mcp.settings import Settings

__all__ = ["add_forget", "add_release"]

DAY_SECONDS = 24 * 3600.0


def add_release(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="the job, as the error or the list names it")
    parser.set_defaults(run=_release)


def _release(options: argparse.Namespace) -> None:
    """Let an uncertain job be sent again, if the person at the terminal says so.

    Raises:
        Refused: there is no terminal to ask on, or no such job.
    """
    key: str = options.key
    ledger = Ledger(Settings.read(os.environ).database)
    try:
        now = time.time()
        known = [job.at(now) for job in ledger.by_key_or_id(key)]
        uncertain = [job for job in known if job.state == "uncertain" and not job.released]
        if not uncertain:
            raise InvalidCall(f"No uncertain job is called {clean(key, 140)}: there is nothing to release.")
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Refused("Only a person at a terminal can release a job.", "Run this command in a terminal.")
        for job in uncertain:
            if _confirmed(job):
                ledger.release(job.id)
                print("Released. The same request is sent when it is made again.")
            else:
                print("Left as it is.")
    finally:
        ledger.close()


def _confirmed(job: Job) -> bool:
    sent = datetime.fromtimestamp(job.opened_at).astimezone()
    print(
        f"Sent {sent:%Y-%m-%d %H:%M} to {job.gateway}, {job.seconds} s of video:\n"
        f'  "{clean(job.prompt or "", 160)}"\n'
        "The router's answer was lost, so the job may exist and be billed. Look for it in the router's console first.\n"
        "Released, the same request may be paid for twice.",
        file=sys.stderr,
    )
    try:
        return input("Type yes to release it: ").strip().lower() == "yes"
    except (EOFError, KeyboardInterrupt):
        print()
        return False


def add_forget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--older-than", metavar="DAYS", type=number(0), required=True, help="age in days, at least 1")
    parser.set_defaults(run=_forget)


def _forget(options: argparse.Namespace) -> None:
    """Remove ended jobs older than `--older-than` days. What was saved on disk stays."""
    days: float = options.older_than
    if days < 1:
        raise InvalidCall("--older-than must be at least 1: the last day counts for the allowance.")
    ledger = Ledger(Settings.read(os.environ).database)
    try:
        count = ledger.delete_ended(time.time() - days * DAY_SECONDS)
    finally:
        ledger.close()
    print(f"Forgot {count} job{'' if count == 1 else 's'}. Saved videos stay where they are.")
