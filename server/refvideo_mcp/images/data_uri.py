"""Data URIs, read in whatever form they come."""

import binascii
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote, unquote_to_bytes

from refvideo_mcp.errors import InvalidCall
from refvideo_mcp.files import MAX_BYTES

__all__ = ["parse_data_uri"]

_HEADER = re.compile(r"data:([^,]{0,200}),", re.IGNORECASE)
_PIECE = 2**20
_ADVICE = "Write data:image/png;base64,… or use a local path. Nothing was sent."


def parse_data_uri(uri: str, name: str) -> bytes:
    """The bytes in a data URI; its label is not believed.

    Raises:
        InvalidCall: it is malformed or too large.
    """
    header = _HEADER.match(uri)
    if header is None:
        raise InvalidCall(f"{name} is malformed.", _ADVICE)
    if len(uri) > MAX_BYTES // 3 * 4 + 1000:
        raise InvalidCall(f"{name} is larger than 50 MB.", "Use a smaller picture. Nothing was sent.")
    pieces = _pieces(uri, header.end())
    if not re.search(r";\s*base64\s*$", header[1], re.IGNORECASE):
        return b"".join(map(unquote_to_bytes, pieces))
    try:
        return b"".join(_from_base64(pieces))
    except ValueError:
        raise InvalidCall(f"{name} is not base64, or is cut off.", _ADVICE) from None


def _pieces(uri: str, place: int) -> Iterator[str]:
    """The text from there on, with no %XX cut in two. All at once would hold up everything else in this process."""
    while place < len(uri):
        end = place + _PIECE
        split = uri.rfind("%", end - 2, end) if end < len(uri) else -1
        end = split if split > place else end
        yield uri[place:end]
        place = end


def _from_base64(pieces: Iterable[str]) -> Iterator[bytes]:
    left = ""
    for piece in pieces:
        text = unquote(piece) if "%" in piece else piece
        if re.search(r"[\s_-]", text):  # broken into lines, or the alphabet for URLs
            text = re.sub(r"\s+", "", text).replace("-", "+").replace("_", "/")
        text = left + text
        # The last group may be the end.
        whole = max(0, (len(text) - 1) // 4 * 4)
        yield binascii.a2b_base64(text[:whole], strict_mode=True)
        if text[:whole].endswith("="):
            raise ValueError("there is more behind the end")
        left = text[whole:]
    yield binascii.a2b_base64(left + "=" * (-len(left) % 4), strict_mode=True)
