"""Finished videos: a presigned link becomes a file that plays, and one picture that shows what is in it."""

from refvideo_mcp.videos.chunks import Chunk
from refvideo_mcp.videos.partial_file import NotReached
from refvideo_mcp.videos.previews import portrait
from refvideo_mcp.videos.saver import Videos, file_name

__all__ = ["Chunk", "NotReached", "Videos", "file_name", "portrait"]
