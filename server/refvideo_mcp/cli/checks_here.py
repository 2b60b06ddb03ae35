"""What the doctor looks at on this machine. Nothing is sent, and no folder or ledger is made."""

import platform
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import anyio

from refvideo_mcp import __version__
from refvideo_mcp.app import pictures_of
from refvideo_mcp.cli.check import Check
from refvideo_mcp.errors import Refused
from refvideo_mcp.extras import EXTRAS, how_to_install
from refvideo_mcp.ledger import Ledger
from refvideo_mcp.settings import Settings
from refvideo_mcp.videos import check_writable

__all__ = ["extras", "folders", "key", "ledger", "proxy", "version"]

PURPOSES = {
    "video": "picture strips, and MP4 from the sandbox",
    "heic": "pictures of phones",
    "s3": "pictures through your own bucket",
}
_EXAMPLE = re.compile(r"<.*>|\[.*\]|.*\byour\b.*|(sk-)?(x{3,}|\.{3})|change-?me|api[-_]?key", re.IGNORECASE)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def version() -> Check:
    python = f"Python {platform.python_version()} on {platform.system()}"
    return Check("version", True, f"refvideo-mcp {__version__}, {python}")


def key(environ: Mapping[str, str], settings: Settings) -> Check:
    """Whether there is a key; what it is stays here."""
    remedy = "Set it to your router's key, or to sandbox: that simulates the router."
    if settings.sandbox:
        return Check("key", True, "MYROUTER_API_KEY=sandbox: the router is simulated, nothing is paid")
    if not settings.api_key:
        given = environ.get("MYROUTER_API_KEY", "").strip()
        found = "holds a placeholder that was never filled in" if given else "is not set"
        return Check("key", False, f"MYROUTER_API_KEY {found}.", remedy)
    if _EXAMPLE.fullmatch(settings.api_key):
        return Check("key", False, "MYROUTER_API_KEY holds an example, not a key.", remedy)
    return Check("key", True, "MYROUTER_API_KEY is set")


def proxy(environ: Mapping[str, str]) -> Check:
    """Whether requests go through a proxy; its address may hold a password, and is not shown."""
    names = [name for name in environ if name.upper() in _PROXIES and environ[name]]
    for name in names:
        scheme = urlsplit(environ[name]).scheme.lower() if "://" in environ[name] else "http"
        if scheme in ("socks5", "socks5h") and find_spec("socksio") is None:
            return Check("proxy", False, f"{name} names a SOCKS proxy.", how_to_install("socksio"))
        if scheme not in ("http", "https", "socks5", "socks5h"):
            return Check("proxy", False, f"{name} names no proxy.", "It looks like http://host:port.")
    if not names:
        return Check("proxy", None, "none")
    return Check("proxy", True, f"requests go through the one of {', '.join(names)}")


def folders(settings: Settings) -> Iterator[Check]:
    """Where videos, memory and previews go, and where pictures may come from."""
    if settings.output_dir is None:
        yield Check("videos", None, "not saved (REFVIDEO_OUTPUT_DIR=off)")
    else:
        yield _writable("videos", settings.output_dir, "Set REFVIDEO_OUTPUT_DIR to another folder.")
    own = (("state", settings.state_dir), ("cache", settings.cache_dir))
    for name, folder in own if not settings.sandbox else ():
        if folder is not None:
            yield _writable(name, folder, "Mend its permissions.")
    missing = [folder for folder in settings.image_dirs if not folder.is_dir()]
    if missing:
        yield Check("pictures", False, f"{missing[0]} is no folder.", "Correct REFVIDEO_IMAGE_DIRS.")
    else:
        state = None if settings.sandbox else settings.state_dir
        whole, alone = anyio.run(pictures_of(settings, settings.base_url, state).allowed)
        named = [str(folder) for folder in whole if folder.is_dir()]
        named += [f"{folder} (that folder alone)" for folder in alone if folder.is_dir()]
        yield Check("pictures", True, f"from {', '.join(named) or 'nowhere unasked'}")


def _writable(name: str, folder: Path, remedy: str) -> Check:
    try:
        check_writable(folder)
    except Refused as error:
        return Check(name, False, error.happened, remedy)
    return Check(name, True, str(folder))


def ledger(settings: Settings) -> Check:
    """Whether the ledger opens; one that does not exist is not made."""
    where = settings.database
    if settings.sandbox:
        return Check("ledger", None, "the sandbox has one of its own")
    if isinstance(where, Path) and not where.exists():
        return Check("ledger", None, "none yet; the first job makes it")
    opened = Ledger(where)
    try:
        found = opened.version()
    except Refused as error:
        return Check("ledger", False, error.happened, error.advice.for_person)
    finally:
        opened.close()
    return Check("ledger", True, f"{where if isinstance(where, Path) else 'a database'}, version {found}")


def extras() -> Iterator[Check]:
    """The optional parts, and whether those that are there can be loaded."""
    for name, (module, package) in EXTRAS.items():
        install, purpose = how_to_install(package), PURPOSES[name]
        if find_spec(module) is None:
            yield Check(name, None, f"not installed ({purpose}): {install}")
            continue
        try:
            import_module(module)
        except (ImportError, OSError):
            yield Check(name, False, f"{module} is installed, but does not load.", f"{install} --force-reinstall")
        else:
            yield Check(name, True, f"installed ({purpose})")
