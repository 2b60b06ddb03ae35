"""A few rounds of what `crash_run.py` does hundreds of times."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_no_job_is_lost_or_paid_for_twice_when_the_server_is_killed_around_its_post(
    record_property: Callable[[str, object], None],
) -> None:
    program = Path(__file__).with_name("crash_run.py")
    found = subprocess.run(
        [sys.executable, str(program), "--rounds", "5", "--users", "4"],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    record_property("figures", found.stdout)
    assert (found.returncode, found.stderr) == (0, ""), found.stdout
    assert re.search(r"^5 rounds, .* seed \d+", found.stdout)
    assert found.stdout.endswith("nothing lost, nothing paid twice\n")
