"""Finished videos: a presigned link becomes a file that plays, and one picture that shows what is in it."""

from refvideo_mcp.videos.names import file_name
from refvideo_mcp.videos.part import NotReached
from refvideo_mcp.videos.pieces import Piece
from refvideo_mcp.videos.videos import Videos

__all__ = ["NotReached", "Piece", "Videos", "file_name"]
