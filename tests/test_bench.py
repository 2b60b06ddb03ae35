"""The benchmark still runs, and says what it measured."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parent / "bench"


def test_the_table_has_a_ratio_and_a_limit_for_each_figure(tmp_path: Path) -> None:
    figures, table = tmp_path / "figures.json", tmp_path / "table.md"
    options = ["--rows", "start", "--rounds", "1", "--json", str(figures), "--markdown", str(table)]
    subprocess.run([sys.executable, BENCH, *options], check=True, capture_output=True, cwd=tmp_path, timeout=120)
    found = json.loads(figures.read_text(encoding="utf-8"))["figures"]
    assert [figure["what"] for figure in found] == [
        "start → tools/list, 2025-11-25",
        "its CPU, 2025-11-25",
        "start → tools/list, 2026-07-28",
        "its CPU, 2026-07-28",
    ]
    for figure in found:
        (measured,), (baseline,) = figure["measured"], figure["baseline"]
        assert figure["median"] == measured / baseline > 0
        assert f"| {figure['what']} | {figure['against']} |" in table.read_text(encoding="utf-8")
