"""What the text of a reference image means: an address, a data URI or a path, in all their spellings."""

import ntpath
import re
import sys
import unicodedata
from typing import Literal

from refvideo_mcp.errors import Refused, ask_user_for, clean
from refvideo_mcp.paths import NoPath, is_reserved, meant

__all__ = ["in_the_chat", "kind_of", "path_text"]

LONGEST_PATH = 4096
# Where chats keep what was pasted into them; of no use outside.
_CHAT = ("sandbox", "attachment", "blob", "cid", "file-service")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: `C:` is a drive


def kind_of(source: str) -> Literal["link", "inline", "path"]:
    """Whether a reference image is a URL, a data URI or a path.

    Raises:
        Refused: it is an address of another kind.
    """
    match = _SCHEME.match(source)
    scheme = match[1].lower() if match else ""
    if scheme in ("http", "https"):
        return "link"
    if scheme == "data":
        return "inline"
    if scheme in ("", "file"):
        return "path"
    if scheme in _CHAT:
        raise in_the_chat(source)
    raise Refused(
        f"Pictures cannot be read from {clean(scheme, 20)}: addresses.",
        "Use a local path, an https URL or a data URI. Nothing was sent.",
    )


def in_the_chat(source: str) -> Refused:
    """What to say of a picture that its chat alone knows."""
    return Refused(
        f"{clean(source, 200)} is in the chat, not on this machine.",
        ask_user_for("the picture's path or URL. Nothing was sent."),
    )


def path_text(source: str, where: str, *, windows: bool = sys.platform == "win32") -> str:
    """The path that a path or file: URI spells, as this system writes it; it may be relative or begin with ~.

    Raises:
        Refused: no file here can be meant by it.
    """
    try:
        text = meant(source, windows=windows)
    except NoPath as error:
        raise Refused(f"{clean(source, 200)} {clean(str(error), 120)}.", f"{error.advice} Nothing was sent.") from None
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text):
        raise Refused(
            f"The path in {where} holds a line break or another control character.",
            "Rename the file, or correct the path. Nothing was sent.",
        )
    if len(text) > LONGEST_PATH:
        raise Refused(
            f"The path in {where} is {len(text)} characters long: no file has such a name.",
            "A picture's own content must be a data URI, data:image/png;base64,… Nothing was sent.",
        )
    if windows:
        _check_names(text, where)
    return text


def _check_names(text: str, where: str) -> None:
    _, rest = ntpath.splitdrive(text)
    parts = re.split(r"[\\/]", rest)
    if re.match(r"[\\/]{2}[.?]([\\/]|$)", text) or any(":" in part or is_reserved(part) for part in parts):
        raise Refused(
            f"The path in {where} names a device or a stream, not a picture file.",
            "Use the path of an ordinary file. Nothing was sent.",
        )
