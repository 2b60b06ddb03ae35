"""The only room that knows the router's HTTP, and what its answers mean."""

from refvideo_mcp.router.client import Router, Timeouts
from refvideo_mcp.router.reasons import FINDABLE_ADVICE, UNCERTAIN_ADVICE, remedy

__all__ = ["FINDABLE_ADVICE", "UNCERTAIN_ADVICE", "Router", "Timeouts", "remedy"]
