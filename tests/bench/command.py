"""The command: which rows, how often, and where the table goes."""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.peers import peers
from bench.rows import ROWS
from bench.servers import Bench
from bench.soak import soak
from bench.table import Figure, Machine, Sight, as_json, as_markdown

__all__ = ["main"]


def main() -> None:
    parser = argparse.ArgumentParser("python tests/bench", description=__doc__)
    parser.add_argument(
        "--rows", type=lambda text: text.split(",") if text else [], default=[*ROWS], help=", ".join(ROWS)
    )
    parser.add_argument("--rounds", type=int, help="how often each pair is measured; without it, as each row needs it")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="mixed work with faults for so long, besides")
    parser.add_argument("--peers", action="store_true", help="other servers too, each in an environment of its own")
    parser.add_argument("--json", type=Path, help="write the figures there, too, with all that was measured")
    parser.add_argument("--markdown", type=Path, help="write the table there, too")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on whose disk ledgers and videos are")
    options = parser.parse_args()
    found: list[Figure | Sight] = []
    with TemporaryDirectory(prefix=".bench-", dir=options.folder) as folder, ExitStack() as stack:
        bench = Bench(Path(folder), stack, options.rounds)
        rows: list[Callable[[Bench], Iterator[Figure | Sight]]] = [ROWS[name] for name in options.rows]
        rows += [partial(soak, minutes=options.soak)] if options.soak else []
        rows += [peers] if options.peers else []
        for row in rows:
            for one in row(bench):
                found.append(one)
                sys.stderr.write(f"{one}\n")
    command, machine = shlex.join(["python", "tests/bench", *sys.argv[1:]]), Machine.this()
    table = as_markdown(found, machine, command)
    sys.stdout.write(table)
    if options.markdown:
        options.markdown.write_text(table, encoding="utf-8")
    if options.json:
        options.json.write_text(as_json(found, machine, command), encoding="utf-8")
