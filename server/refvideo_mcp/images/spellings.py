"""What the text of a reference image means: an address, a data URI or a path, in all their spellings."""

import ntpath
import re
import sys
import unicodedata
from typing import Literal
from urllib.parse import unquote

from refvideo_mcp.errors import Refused, clean
from refvideo_mcp.paths import is_reserved

__all__ = ["kind_of", "path_text"]

LONGEST_PATH = 4096
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: `C:` is a drive
_DRIVE = re.compile(r"[A-Za-z]:")


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
    raise Refused(
        f"Pictures cannot be read from {clean(scheme, 20)}: addresses.",
        "Use a local path, an https URL or a data URI. Nothing was sent.",
    )


def path_text(source: str, where: str, *, windows: bool = sys.platform == "win32") -> str:
    """The path that a path or file: URI spells, as this system writes it; it may be relative or begin with ~.

    Raises:
        Refused: no file here can be meant by it.
    """
    text = _from_uri(source, windows) if source[:5].lower() == "file:" else source
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
    return _windows_path(text, where) if windows else _posix_path(text)


def _from_uri(uri: str, windows: bool) -> str:
    rest = re.split("[?#]", uri[5:], maxsplit=1)[0]
    host = ""
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        rest = slash + rest
    # Names on POSIX are bytes, not always UTF-8.
    path = unquote(rest, errors="surrogateescape")
    if host == "~" or _DRIVE.fullmatch(host):  # file://~/hero.png, file://C:/hero.png: common mistakes
        return host + path
    if host.lower() not in ("", "localhost"):
        if not windows:
            raise Refused(
                f"{clean(uri, 100)} names a file on another machine, {clean(host, 60)}.",
                "A file of this machine is written file:///folder/picture.png. Nothing was sent.",
            )
        return f"//{host}{path}"
    return path[1:] if re.match(r"/[A-Za-z]:", path) else path


def _posix_path(text: str) -> str:
    if _DRIVE.match(text) or text.startswith("\\\\"):
        raise Refused(
            f"{clean(text, 200)} is a Windows path, but this server does not run on Windows.",
            "Give the path as this machine spells it, such as /mnt/c/… under WSL. Nothing was sent.",
        )
    return text


def _windows_path(text: str, where: str) -> str:
    drive, rest = ntpath.splitdrive(text)
    parts = re.split(r"[\\/]", rest)
    if re.match(r"[\\/]{2}[.?]([\\/]|$)", text) or any(":" in part or is_reserved(part) for part in parts):
        raise Refused(
            f"The path in {where} names a device or a stream, not a picture file.",
            "Use the path of an ordinary file. Nothing was sent.",
        )
    return drive + rest
