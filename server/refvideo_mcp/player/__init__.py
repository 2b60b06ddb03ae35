"""The player: an MCP App that shows a job at work and then plays its video."""

from refvideo_mcp.player.player import by_client, for_apps_only, player

__all__ = ["by_client", "for_apps_only", "player"]
