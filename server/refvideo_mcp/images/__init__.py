"""Reference images: a path, URL or data URI becomes what the router takes, and nothing else leaves this machine."""

from refvideo_mcp.images.bucket import Bucket
from refvideo_mcp.images.load import Images, LoadedRequest
from refvideo_mcp.images.picture import Picture

__all__ = ["Bucket", "Images", "LoadedRequest", "Picture"]
