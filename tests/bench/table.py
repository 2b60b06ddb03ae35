"""Figures, each a ratio of what was measured side by side, as a table for people and as JSON for programs."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

__all__ = ["Figure", "Machine", "as_json", "as_markdown"]


@dataclass(frozen=True)
class Figure:
    """`ours` and `theirs` were measured in turn, the n-th beside the n-th; without `theirs`, `ours` is what counts.

    `most` and `least` limit the ratio, or what counts in its place. `reason` is said where a limit is not kept.
    """

    what: str
    against: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    most: float | None = None
    least: float | None = None
    reason: str = ""

    @property
    def counted(self) -> list[float]:
        if not self.theirs:
            return list(self.ours)
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    @property
    def is_kept(self) -> bool | None:
        """Whether the limit is; None where there is none."""
        if self.most is None and self.least is None:
            return None
        middle = median(self.counted)
        return (self.most is None or middle <= self.most) and (self.least is None or middle >= self.least)

    @property
    def limit(self) -> str:
        times = "" if self.theirs else f" {self.unit}"
        if self.most is not None:
            return f"≤ {self.most:g}{times}"
        return f"≥ {self.least:g}{times}" if self.least is not None else ""


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


def as_markdown(figures: Sequence[Figure], machine: Machine, command: str) -> str:
    kept = {True: "yes", False: "**no**", None: ""}
    lines = [
        f"Made by `{command}` on {machine.date}, at {machine.commit}, with Python {machine.python} and "
        f"mcp {machine.mcp}, on {machine.cores} cores ({machine.processor}, {machine.system}); "
        f"the load over 15 minutes was {machine.load}.",
        "",
        "| what | against | ours | theirs | ratio (quartiles) | must be | kept |",
        "|---|---|---|---|---|---|---|",
    ]
    for f in figures:
        ours, theirs = _with_unit(median(f.ours), f.unit), _with_unit(median(f.theirs), f.unit) if f.theirs else ""
        ratio = f"{median(f.counted):.2f} ({_spread(f.counted)})" if f.theirs else f"({_spread(f.counted)})"
        lines.append(f"| {f.what} | {f.against} | {ours} | {theirs} | {ratio} | {f.limit} | {kept[f.is_kept]} |")
    missed = [f for f in figures if f.is_kept is False]
    if missed:
        lines += ["", "Over their limits:", ""]
        lines += [f"- {f.what}: {f.reason or 'not explained yet.'}" for f in missed]
    return "\n".join(lines) + "\n"


def as_json(figures: Sequence[Figure], machine: Machine, command: str) -> str:
    rows: list[dict[str, Any]] = [
        {
            "what": f.what,
            "against": f.against,
            "unit": f.unit,
            "ours": list(f.ours),
            "theirs": list(f.theirs),
            "median": median(f.counted),
            "limit": f.limit,
            "kept": f.is_kept,
        }
        for f in figures
    ]
    return json.dumps({"command": command, "machine": vars(machine), "figures": rows}, indent=1) + "\n"


def _spread(values: Sequence[float]) -> str:
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return f"{low:.3g}-{high:.3g}"


def _with_unit(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"
