"""`refvideo-mcp token`."""

import argparse
import sys

from refvideo_mcp.errors import InvalidCall

__all__ = ["add_token"]


def add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("account", metavar="ACCOUNT", help="whose token it is: letters, digits and . _ @ + -")
    parser.set_defaults(run=_token)


def _token(options: argparse.Namespace) -> None:
    from refvideo_mcp.doors.tokens import ACCOUNT_NAME, digest_of, new_token

    if not ACCOUNT_NAME.fullmatch(options.account):
        raise InvalidCall(
            f"{options.account} cannot name an account.",
            "Use 64 letters, digits and . _ @ + - at most; local, and what begins with oauth-, is taken.",
        )
    token = new_token()
    print(f"The token of {options.account}, which is shown only now: {token}", file=sys.stderr)
    print(f"{options.account} = sha256:{digest_of(token)}")
