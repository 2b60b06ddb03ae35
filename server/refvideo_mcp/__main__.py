"""`python -m refvideo_mcp` is the command `refvideo-mcp`."""

from refvideo_mcp.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
