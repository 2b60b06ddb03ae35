"""Reference images: a path, URL or data URI becomes what the router takes, and nothing else leaves this machine."""

from refvideo_mcp.images.bucket import Bucket
from refvideo_mcp.images.load import DATA_URI, Images, LoadedRequest
from refvideo_mcp.images.picture import Kind, Picture
from refvideo_mcp.images.uploads import Uploads
from refvideo_mcp.images.url_check import WITHOUT_QUERY

__all__ = ["DATA_URI", "WITHOUT_QUERY", "Bucket", "Images", "Kind", "LoadedRequest", "Picture", "Uploads"]
