"""`python tests/bench`: measures, and prints the table."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # Python has put this folder itself there

from bench.command import main

main()
