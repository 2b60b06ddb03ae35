"""The benchmark still runs, and says what it measured."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parent / "bench"


def test_the_page_has_a_ratio_and_a_limit_for_each_figure_and_keeps_what_another_run_measured(tmp_path: Path) -> None:
    for rows in ("start", "memory", "start"):
        options = ["--rows", rows, "--rounds", "1", "--to", str(tmp_path)]
        subprocess.run([sys.executable, BENCH, *options], check=True, capture_output=True, cwd=tmp_path, timeout=120)
    runs = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))
    assert [[*run["rows"]] for run in runs] == [["start"], ["memory"]]
    assert [figure["what"] for figure in runs[0]["rows"]["start"]] == [
        "start → tools/list, 2025-11-25",
        "its CPU, 2025-11-25",
        "start → tools/list, 2026-07-28",
        "its CPU, 2026-07-28",
    ]
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    for figure in (figure for run in runs for row in run["rows"].values() for figure in row):
        (measured,), (baseline,) = figure["measured"], figure["baseline"]
        assert figure["median"] == measured / baseline > 0
        assert f"| {figure['what']} | {figure['against']} |" in page


def test_a_row_that_breaks_off_says_so_and_leaves_the_others(tmp_path: Path) -> None:
    options = ["--rows", "start", "--rounds", "1", "--within", "0.001"]
    done = subprocess.run(
        [sys.executable, BENCH, *options], check=True, capture_output=True, cwd=tmp_path, timeout=120, encoding="utf-8"
    )
    assert "| broken off | | TimeoutError: the time is over |" in done.stdout
