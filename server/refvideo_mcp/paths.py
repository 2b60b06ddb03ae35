"""Paths as they are written, and as this machine's system sees them."""

import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote

__all__ = [
    "NoPath",
    "is_broad",
    "is_drive",
    "is_nothing",
    "is_reserved",
    "meant",
    "real",
    "unwrapped",
    "working_folder",
]

# Never the start of anybody's work; programs are started in them by chance.
_SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "usr")
_APPLE = ("System", "Library", "Applications")
_SHARED = ("/media", "/mnt", "/opt", "/private", "/private/var", "/srv", "/var", "/Volumes")
# A home folder is one whoever runs this: the superuser, or a Linux inside of Windows, which has the drives in /mnt.
_HOMES = re.compile(r"/mnt/[a-z]|(/home|(/mnt/[a-z]|[a-z]:)?/Users)(/[^/]+)?", re.IGNORECASE)
_WINDOWS = ("SystemRoot", "ProgramFiles", "ProgramFiles(x86)", "ProgramData")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)\s*(\..*)?", re.IGNORECASE)

_QUOTES = ('""', "''", "``", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb")
# What programs write where they have nothing, and what stands where they filled nothing in.
_NOTHING = re.compile(r"|null|none|nil|undefined|\(null\)|\$\{[^}]*\}|\{\{[^}]*\}\}|%\w+%", re.IGNORECASE)
_UNFILLED = re.compile(r"\$\{[^}]*\}|\{\{[^}]*\}\}|^%\w+%(?=[\\/]|$)|^\$[A-Za-z_]\w*(?=/|$)")
_HOME = re.compile(r"(\$HOME|\$\{(env:)?HOME\}|\$\{userHome\}|\$\{(env:)?USERPROFILE\})(?=[\\/]|$)")
_HOME_ON_WINDOWS = re.compile(r"(%USERPROFILE%|%HOMEDRIVE%%HOMEPATH%|\$env:USERPROFILE)(?=[\\/]|$)", re.IGNORECASE)
# Marks that copying puts around a path. Those that turn a text around are none.
_MARKS = "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u2060\u2066\u2067\u2068\u2069\ufeff"
_DRIVE = re.compile(r"[A-Za-z]:")


class NoPath(ValueError):
    """Nothing on this machine can be meant. Its text is the end of a sentence that begins with the path."""

    def __init__(self, trouble: str, advice: str):
        super().__init__(trouble)
        self.advice = advice


def unwrapped(text: str) -> str:
    """What is written, without the quotes, spaces and invisible marks that copying has put around it."""
    while True:
        before, text = text, text.strip().strip(_MARKS)
        if len(text) > 1 and text[0] + text[-1] in _QUOTES:
            text = text[1:-1]
        if text == before:
            return text


def is_nothing(text: str) -> bool:
    """Whether it is no value, but a word for none, or a placeholder that nobody has filled in."""
    text = unwrapped(text)
    return _NOTHING.fullmatch(text) is not None and not _HOME.fullmatch(text)


def meant(text: str, *, windows: bool = sys.platform == "win32") -> str:
    """The path that is meant by `text`, as this system writes it; it may be relative or begin with ~.

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


def real(path: Path) -> Path:
    """The path with its links resolved, as far as it exists."""
    try:
        return Path(os.path.realpath(path))
    except OSError:  # a link vanished meanwhile; opening the path as it is follows none
        return Path(os.path.normpath(path.absolute()))


def is_broad(folder: Path) -> bool:
    """Whether a folder is a home folder, one around it, or the system's: permission for it is none for all below."""
    home = _home()
    return (
        folder.parent == folder
        or (home is not None and home.is_relative_to(folder))
        or any(folder.is_relative_to(system) for system in _system_folders())
        or folder in map(Path, _SHARED)
        or _HOMES.fullmatch(folder.as_posix()) is not None
    )


def is_drive(folder: Path) -> bool:
    """Whether a folder is the top of a disk. Another machine's is not asked."""
    return folder.drive.startswith("\\\\") or os.path.ismount(folder)  # pathlib's says False on Windows


def working_folder() -> Path | None:
    """The folder that this process was started in; None where that was by chance, or it was deleted."""
    try:
        folder = real(Path.cwd())
    except OSError:
        return None
    return None if is_broad(folder) else folder


def is_reserved(name: str) -> bool:
    """Whether Windows takes a file of this name for a device."""
    return bool(_RESERVED.fullmatch(name))


def _home() -> Path | None:
    try:
        return real(Path.home())
    except RuntimeError:
        return None


def _system_folders() -> list[Path]:
    if sys.platform == "win32":
        return [Path(os.environ[name]) for name in _WINDOWS if os.environ.get(name)]
    return [Path("/", name) for name in (*_SYSTEM, *_APPLE)]
