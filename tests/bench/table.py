"""Figures, each a ratio of what was measured side by side, as a table for people and as JSON for programs."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

__all__ = ["Figure", "Machine", "Run", "Sight", "as_markdown", "write"]

PAGE = """# Benchmarks

What this server adds to the bare SDK. Ours and a baseline are measured in turn, and each figure is the median of the
ratios, with the quartiles: whatever else the machine does weighs on both. The clients are lines over pipes and sockets,
without an SDK.

To repeat it, in a checkout with `pip install -e '.[dev]'`, on a machine that does nothing else:

```bash
python tests/bench --peers --to docs               # the table, in some ten minutes
python tests/bench --rows '' --soak 30 --to docs   # half an hour of mixed work with faults
```

Both write this page and [benchmarks.json](benchmarks.json), which has every single measurement, and leave there what
the other has written; `--rows submit,saving` measures some rows again. The sources are in
[tests/bench](../tests/bench).
"""


@dataclass(frozen=True)
class Figure:
    """`measured` and `baseline` were measured in turn, the n-th beside the n-th; without the second, the first counts.

    `most` and `least` limit the ratio, or what counts in its place. `reason` is said where a limit is not kept.
    """

    what: str
    against: str
    unit: str
    measured: Sequence[float]
    baseline: Sequence[float] = ()
    most: float | None = None
    least: float | None = None
    reason: str = ""

    @property
    def counted(self) -> list[float]:
        if not self.baseline:
            return list(self.measured)
        return [one / other for one, other in zip(self.measured, self.baseline, strict=True)]

    @property
    def is_kept(self) -> bool | None:
        """Whether the limit is; None where there is none."""
        if self.most is None and self.least is None:
            return None
        middle = median(self.counted)
        return (self.most is None or middle <= self.most) and (self.least is None or middle >= self.least)

    @property
    def limit(self) -> str:
        times = "" if self.baseline else f" {self.unit}"
        if self.most is not None:
            return f"≤ {self.most:g}{times}"
        return f"≥ {self.least:g}{times}" if self.least is not None else ""


@dataclass(frozen=True)
class Sight:
    """What no number tells."""

    what: str
    text: str


@dataclass(frozen=True)
class Machine:
    """Where and when a table was made."""

    date: str
    commit: str
    processor: str
    cores: int
    system: str
    python: str
    mcp: str
    load: float

    @classmethod
    def this(cls) -> "Machine":
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)
        git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
        return cls(
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            subprocess.run(git, capture_output=True, encoding="utf-8", check=False).stdout.strip(),
            model[1] if model else platform.machine(),
            os.cpu_count() or 0,
            f"{platform.system()} {platform.release()}",
            platform.python_version(),
            version("mcp"),
            round(os.getloadavg()[0], 1),
        )


@dataclass(frozen=True)
class Run:
    """What one command found, by the names of its rows."""

    command: str
    machine: Machine
    rows: dict[str, list[Figure | Sight]]


def write(folder: Path, run: Run) -> None:
    """The page and its figures; those of earlier runs stay unless `run` has the same row."""
    file = folder / "benchmarks.json"
    earlier = [
        replace(one, rows={name: found for name, found in one.rows.items() if name not in run.rows})
        for one in (_read(file) if file.exists() else [])
    ]
    runs = [run, *(one for one in earlier if one.rows)]
    file.write_text(json.dumps([_as_json(one) for one in runs], indent=1) + "\n", encoding="utf-8")
    (folder / "benchmarks.md").write_text(PAGE + "\n" + as_markdown(runs), encoding="utf-8")


def _read(file: Path) -> list[Run]:
    """What `write` has written."""
    return [
        Run(one["command"], Machine(**one["machine"]), {name: [*map(_found, row)] for name, row in one["rows"].items()})
        for one in json.loads(file.read_text(encoding="utf-8"))
    ]


def _as_json(run: Run) -> dict[str, Any]:
    rows = {
        name: [
            asdict(one) | ({"median": median(one.counted), "is_kept": one.is_kept} if isinstance(one, Figure) else {})
            for one in row
        ]
        for name, row in run.rows.items()
    }
    return {"command": run.command, "machine": asdict(run.machine), "rows": rows}


def _found(written: dict[str, Any]) -> Figure | Sight:
    kind = Sight if "text" in written else Figure
    return kind(**{f.name: written[f.name] for f in fields(kind)})


def as_markdown(runs: Sequence[Run]) -> str:
    return "\n".join(map(_section, runs))


def _section(run: Run) -> str:
    machine, found = run.machine, [one for row in run.rows.values() for one in row]
    beside = ": something else ran beside it" if machine.load > machine.cores / 4 else ""
    lines = [
        f"## {machine.date}",
        "",
        f"Made by `{run.command}` at {machine.commit}, with Python {machine.python} and mcp {machine.mcp}, on "
        f"{machine.cores} cores ({machine.processor}, {machine.system}), whose load was {machine.load} before{beside}.",
        "",
        "| what | against | measured | baseline | ratio (quartiles) | must be | kept |",
        "|---|---|---|---|---|---|---|",
        *(_line(one) for one in found),
    ]
    missed = [one for one in found if isinstance(one, Figure) and one.is_kept is False]
    if missed:
        lines += ["", "Over their limits:", ""]
        lines += [f"- {one.what}: {one.reason or 'not explained yet.'}" for one in missed]
    return "\n".join(lines) + "\n"


def _line(one: Figure | Sight) -> str:
    if isinstance(one, Sight):
        text = one.text.replace("|", "\\|").replace("\n", " ")
        return f"| {one.what} | | {text} | | | | |"
    measured, baseline = median(one.measured), median(one.baseline) if one.baseline else None
    ratio = f"{median(one.counted):.2f} " if one.baseline else ""
    cells = (
        one.what,
        one.against,
        _with_unit(measured, one.unit),
        "" if baseline is None else _with_unit(baseline, one.unit),
        f"{ratio}{_spread(one.counted)}",
        one.limit,
        {True: "yes", False: "**no**", None: ""}[one.is_kept],
    )
    return f"| {' | '.join(cells)} |"


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return ""
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"({_short(low)}-{_short(high)})"


def _with_unit(value: float, unit: str) -> str:
    return f"{_short(value)} {unit}".strip()


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
