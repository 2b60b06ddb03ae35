"""The command: which rows, how often, and where the table goes."""

import argparse
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.rows import ROWS
from bench.servers import Bench
from bench.table import Figure, Machine, as_json, as_markdown

__all__ = ["main"]


def main() -> None:
    parser = argparse.ArgumentParser("python tests/bench", description=__doc__)
    parser.add_argument("--rows", type=lambda text: text.split(","), default=[*ROWS], help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, help="how often each pair is measured; without it, as each row needs it")
    parser.add_argument("--json", type=Path, help="write the figures there, too, with all that was measured")
    parser.add_argument("--markdown", type=Path, help="write the table there, too")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on whose disk ledgers and videos are")
    options = parser.parse_args()
    figures: list[Figure] = []
    with TemporaryDirectory(prefix=".bench-", dir=options.folder) as folder, ExitStack() as stack:
        bench = Bench(Path(folder), stack, options.rounds)
        for name in options.rows:
            for figure in ROWS[name](bench):
                figures.append(figure)
                sys.stderr.write(f"{figure.what}: {figure.counted}\n")
    command, machine = shlex.join(["python", "tests/bench", *sys.argv[1:]]), Machine.this()
    table = as_markdown(figures, machine, command)
    sys.stdout.write(table)
    if options.markdown:
        options.markdown.write_text(table, encoding="utf-8")
    if options.json:
        options.json.write_text(as_json(figures, machine, command), encoding="utf-8")
