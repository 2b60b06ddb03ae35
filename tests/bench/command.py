"""The command: which rows, how often, and where the table goes."""

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.peers import peers
from bench.rows import ROWS
from bench.servers import Bench
from bench.soak import soak
from bench.table import Figure, Machine, Run, Sight, as_markdown, write

__all__ = ["main"]

SOAK_ENDS_MINUTES = 5.0

Row = Callable[[Bench], Iterator[Figure | Sight]]


def main() -> None:
    parser = argparse.ArgumentParser("python tests/bench", description=__doc__)
    parser.add_argument(
        "--rows", type=lambda text: text.split(",") if text else [], default=[*ROWS], help=", ".join(ROWS)
    )
    parser.add_argument("--rounds", type=int, help="how often each pair is measured; without it, as each row needs it")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="mixed work with faults for so long, besides")
    parser.add_argument("--peers", action="store_true", help="other servers too, each in an environment of its own")
    parser.add_argument(
        "--to", type=Path, help="a folder for benchmarks.md and .json; what they have of other rows stays there"
    )
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on whose disk ledgers and videos are")
    parser.add_argument(
        "--within", type=float, default=12.0, metavar="MINUTES", help="what is not measured by then is left out; 12"
    )
    options = parser.parse_args()
    rows: dict[str, Row] = {name: ROWS[name] for name in options.rows} | ({"peers": peers} if options.peers else {})
    run = Run(shlex.join(["python", "tests/bench", *sys.argv[1:]]), Machine.this(), {})
    end = time.monotonic() + options.within * 60
    for name, row in rows.items():
        run.rows[name] = _measured(row, end - time.monotonic(), options.folder, options.rounds)
    if options.soak:
        seconds = (options.soak + SOAK_ENDS_MINUTES) * 60
        run.rows["soak"] = _measured(partial(soak, minutes=options.soak), seconds, options.folder, options.rounds)
    if options.to:
        write(options.to, run)
    sys.stdout.write(as_markdown([run]))


def _measured(row: Row, seconds: float, folder: Path, rounds: int | None) -> list[Figure | Sight]:
    """What a row says within so many seconds; a row that breaks off does not take the others with it."""
    found: list[Figure | Sight] = []
    with TemporaryDirectory(prefix=".bench-", dir=folder, ignore_cleanup_errors=True) as home, ExitStack() as stack:
        try:
            with _limited(seconds):
                for one in row(Bench(Path(home), stack, rounds)):
                    found.append(one)
                    sys.stderr.write(f"{one}\n")
        except Exception as error:
            found.append(Sight("broken off", f"{type(error).__name__}: {error}"))
            sys.stderr.write(f"{found[-1]}\n")
    return found


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise TimeoutError("the time is over")

    earlier = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
