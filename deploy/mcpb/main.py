"""What the host of the bundle runs."""

from refvideo_mcp.cli import main

raise SystemExit(main(["serve"]))
