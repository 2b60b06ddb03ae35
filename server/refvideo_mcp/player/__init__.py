"""The player: an MCP App that shows a job at work and then plays its video."""

from refvideo_mcp.player.player import for_apps_only, hide_from_others, player

__all__ = ["for_apps_only", "hide_from_others", "player"]
