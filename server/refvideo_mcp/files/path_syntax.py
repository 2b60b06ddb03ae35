"""What a text that names a file means: paths as people and programs write them, in this machine's own spelling."""

import ntpath
import re
import sys
from typing import Literal
from urllib.parse import unquote

from refvideo_mcp.errors import InvalidCall, ask_user_for, clean
from refvideo_mcp.schemas.coercion import unwrapped

__all__ = ["NoPath", "in_the_chat", "is_device", "is_link", "is_reserved", "kind_of", "parse_path", "scheme_of"]

# Where chats keep what was pasted into them; of no use outside.
_CHAT = ("sandbox", "attachment", "blob", "cid", "file-service")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: `C:` is a drive
_UNFILLED = re.compile(r"\$\{[^}]*\}|\{\{[^}]*\}\}|^%\w+%(?=[\\/]|$)|^\$[A-Za-z_]\w*(?=/|$)")
_HOME = re.compile(r"(\$HOME|\$\{(env:)?HOME\}|\$\{userHome\}|\$\{(env:)?USERPROFILE\})(?=[\\/]|$)")
_HOME_ON_WINDOWS = re.compile(r"(%USERPROFILE%|%HOMEDRIVE%%HOMEPATH%|\$env:USERPROFILE)(?=[\\/]|$)", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)\s*(\..*)?", re.IGNORECASE)
_WINDOWS = sys.platform == "win32"


class NoPath(ValueError):
    """Nothing on this machine can be meant. Its text is the end of a sentence that begins with the path."""

    def __init__(self, trouble: str, advice: str):
        super().__init__(trouble)
        self.advice = advice


def kind_of(source: str) -> Literal["url", "data URI", "path"]:
    """What a reference image is.

    Raises:
        InvalidCall: it is an address of another kind.
    """
    scheme = scheme_of(source)
    if scheme in ("http", "https"):
        return "url"
    if scheme == "data":
        return "data URI"
    if scheme in ("", "file"):
        return "path"
    if scheme in _CHAT:
        raise in_the_chat(source)
    raise InvalidCall(
        f"Pictures cannot be read from {clean(scheme, 20)}: addresses.",
        "Use a local path, an https URL or a data URI. Nothing was sent.",
    )


def is_link(source: str) -> bool:
    """Whether it is plainly a link: no file has to be looked for."""
    return source.startswith(("https://", "http://"))


def scheme_of(text: str) -> str:
    """Of an address; "" where the text is none."""
    match = _SCHEME.match(text)
    return match[1].lower() if match else ""


def in_the_chat(source: str) -> InvalidCall:
    """What to say of a picture that its chat alone knows."""
    return InvalidCall(
        f"{clean(source, 200)} is in the chat, not on this machine.",
        ask_user_for("the picture's path or URL. Nothing was sent."),
    )


def parse_path(text: str, *, windows: bool = _WINDOWS) -> str:
    """The path that a path or file: URI spells, as this system writes it; it may be relative or begin with ~.

    Raises:
        NoPath: no path can be.
    """
    # Some clients mention files as @path and @"path".
    text = unwrapped(re.sub(r"^@(?=[~\"'`]|\.{0,2}[\\/]|[A-Za-z]:)", "", unwrapped(text)))
    text = _from_uri(text, windows) if text[:5].lower() == "file:" else text
    text = _HOME.sub("~", text, count=1)
    text = _HOME_ON_WINDOWS.sub("~", text, count=1) if windows else text
    if unfilled := _UNFILLED.search(text):
        raise NoPath(f"holds {unfilled[0]}, which nobody has filled in", "Give the whole path.")
    return _on_windows(text) if windows else _elsewhere(text)


def is_reserved(name: str) -> bool:
    """Whether Windows takes a file of this name for a device."""
    return bool(_RESERVED.fullmatch(name))


def is_device(path: str) -> bool:
    """Whether Windows takes a path for a device or a stream."""
    _, rest = ntpath.splitdrive(path)
    parts = re.split(r"[\\/]", rest)
    is_named = re.match(r"[\\/]{2}[.?]([\\/]|$)", path) is not None
    return is_named or any(":" in part or is_reserved(part) for part in parts)


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
            raise NoPath(
                f"names a file on another machine, {host}",
                "A file of this machine is written file:///folder/picture.png.",
            )
        return f"//{host}{path}"
    return path[1:] if re.match(r"/[A-Za-z]:", path) else path


def _elsewhere(text: str) -> str:
    if _DRIVE.match(text) or text.startswith("\\\\"):
        raise NoPath(
            "is a Windows path, but this server does not run on Windows",
            "Give the path as this machine spells it, such as /mnt/c/… under WSL.",
        )
    return re.sub(r"\\([^\w\\/])", r"\1", text)  # as a shell would have read it


def _on_windows(text: str) -> str:
    text = re.sub(r"^[\\/]{2}\?[\\/](?=[A-Za-z]:)", "", text)
    text = re.sub(r"^[\\/]{2}\?[\\/]UNC[\\/]", lambda _: "\\\\", text, flags=re.IGNORECASE)
    return re.sub(r"^/(?:mnt/)?([A-Za-z])/(?=.)", r"\1:/", text)  # as Git's shell and WSL write them
