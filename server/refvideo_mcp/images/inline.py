"""Data URIs: read in whatever form they come, written in the one form that the router takes."""

import binascii
import re
from urllib.parse import unquote, unquote_to_bytes

from refvideo_mcp.errors import Refused
from refvideo_mcp.images.files import MAX_BYTES
from refvideo_mcp.images.picture import Picture

__all__ = ["content_of", "data_uri"]

_HEADER = re.compile(r"data:([^,]{0,200}),", re.IGNORECASE)
_ADVICE = "Write data:image/png;base64,… or use a local path. Nothing was sent."


def content_of(uri: str, name: str) -> bytes:
    """The bytes in a data URI; its label is not believed.

    Raises:
        Refused: it is malformed or too large.
    """
    header = _HEADER.match(uri)
    if header is None:
        raise Refused(f"{name} is malformed.", _ADVICE)
    if len(uri) > MAX_BYTES // 3 * 4 + 1000:
        raise Refused(f"{name} is larger than 50 MB.", "Use a smaller picture. Nothing was sent.")
    text = uri[header.end() :]
    if not re.search(r";\s*base64\s*$", header[1], re.IGNORECASE):
        return unquote_to_bytes(text)
    if "%" in text:
        text = unquote(text)
    if re.search(r"[\s_-]", text):  # broken into lines, or the alphabet for URLs
        text = re.sub(r"\s+", "", text).replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        raise Refused(f"{name} is not base64, or is cut off.", _ADVICE) from None


def data_uri(picture: Picture) -> str:
    """The picture as a data URI."""
    encoded = binascii.b2a_base64(picture.content, newline=False)
    # One copy at a time: this may be 20 MB.
    encoded = b"data:image/%b;base64,%b" % (picture.kind.encode(), encoded)
    return encoded.decode("ascii")
