"""Where everything should be there, a skip fails: a check that does not run would look like one that holds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SKIPPED = {
    "test_a_program.py": """
import pytest
from programs import needs

def test_it():
    needs("no-such-program")

@pytest.mark.xfail(reason="known")
def test_known():
    raise ValueError
""",
    "test_a_system.py": """
import pytest

@pytest.mark.skipif(True, reason="not on this system")
def test_it(): pass
""",
    "test_an_extra.py": """
import pytest
pytest.importorskip("no_such_extra", reason="the extra is not installed")
""",
}


@pytest.mark.parametrize(
    ("no_skips", "outcome"), [("", "3 skipped, 1 xfailed"), ("1", "1 failed, 1 xfailed, 2 errors")]
)
def test_a_skip_fails_where_nothing_is_missing(tmp_path: Path, no_skips: str, outcome: str) -> None:
    for name, content in SKIPPED.items():
        (tmp_path / name).write_text(content)
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "reporting", "-q", "--continue-on-collection-errors"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent), "REFVIDEO_NO_SKIPS": no_skips},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert found.stdout.splitlines()[-1].startswith(outcome)
    if no_skips:
        for reason in ("no-such-program is not installed", "not on this system", "the extra is not installed"):
            assert f"REFVIDEO_NO_SKIPS is set. Skipped: {reason}" in found.stdout
