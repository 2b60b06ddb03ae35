"""People and things that users asked to keep, so that a later call needs only a name."""

from refvideo_mcp.cast.cast import Cast, CastError, listed
from refvideo_mcp.cast.guests import Guests
from refvideo_mcp.cast.member import Member, SavedPicture

__all__ = ["Cast", "CastError", "Guests", "Member", "SavedPicture", "listed"]
