"""The only room that knows the router's HTTP."""

from refvideo_mcp.router.client import Router, Timeouts

__all__ = ["Router", "Timeouts"]
