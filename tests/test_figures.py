"""What a test measures is printed at the end, also when it passes and in a worker process."""

import os
import subprocess
import sys
from pathlib import Path

MEASURING = """
def test_it(record_property):
    record_property("figures", "7 polls\\n2 POSTs")
"""


def test_figures_of_a_passed_test_are_in_the_summary(tmp_path: Path) -> None:
    (tmp_path / "test_measuring.py").write_text(MEASURING)
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "reporting", "-q", "-n", "1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert "\ntest_measuring.py::test_it\n  7 polls\n  2 POSTs\n" in found.stdout
