"""Figures, each a ratio of what was measured side by side, as a table for people and as JSON for programs."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

__all__ = ["Figure", "Machine", "Sight", "as_json", "as_markdown"]


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
    load: str

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
            f"{os.getloadavg()[2]:.1f}",
        )


def as_markdown(found: Sequence[Figure | Sight], machine: Machine, command: str) -> str:
    lines = [
        f"Made by `{command}` on {machine.date}, at {machine.commit}, with Python {machine.python} and "
        f"mcp {machine.mcp}, on {machine.cores} cores ({machine.processor}, {machine.system}); "
        f"the load over 15 minutes was {machine.load}.",
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


def as_json(found: Sequence[Figure | Sight], machine: Machine, command: str) -> str:
    rows: list[dict[str, Any]] = []
    for one in found:
        more = (
            {"median": median(one.counted), "limit": one.limit, "kept": one.is_kept} if isinstance(one, Figure) else {}
        )
        rows.append(asdict(one) | more)
    return json.dumps({"command": command, "machine": asdict(machine), "figures": rows}, indent=1) + "\n"


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
