"""`refvideo-mcp doctor`: what is set up, what is not, and what to do about it.

No folder or ledger is made, and one free question sent: about a task that does not exist.
"""

import argparse
import json
import os
import platform
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import anyio

from refvideo_mcp import __version__
from refvideo_mcp.app import consent_of
from refvideo_mcp.cli import DONE, FAILED
from refvideo_mcp.cli.console import Console
from refvideo_mcp.cli.options import add_json_option
from refvideo_mcp.errors import ReadRefused, Refused, RefvideoError, UnknownTask
from refvideo_mcp.extras import EXTRAS, how_to_install
from refvideo_mcp.files import check_writable
from refvideo_mcp.ledger import Ledger
from refvideo_mcp.router import Router
from refvideo_mcp.settings import Settings, is_loopback

__all__ = ["add_doctor"]

PURPOSES = {
    "video": "picture strips, and MP4 from the sandbox",
    "heic": "pictures of phones",
    "s3": "pictures through your own bucket",
}
_EXAMPLE = re.compile(r"<.*>|\[.*\]|.*\byour\b.*|(sk-)?(x{3,}|\.{3})|change-?me|api[-_]?key", re.IGNORECASE)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
MOST_SECONDS_APART = 120.0
# All serve the same paths; a key belongs to one of them.
GATEWAYS = {
    "api.myrouter.ai": "MyRouter",
    "api.novita.ai": "Novita",
    "api.ppio.com": "PPIO",
    "api.jiekou.ai": "Jiekou",
}


@dataclass(frozen=True)
class Check:
    """`ok` is None for what is not set up, which is fine, or could not be looked at."""

    name: str
    ok: bool | None
    found: str
    remedy: str = ""


def add_doctor(parser: argparse.ArgumentParser) -> None:
    add_json_option(parser)
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    """Look at everything, and print a line about each."""
    console = Console(sys.stdout, len("pictures"))
    told = {True: console.done, False: console.failed, None: console.noted}
    checks: list[Check] = []
    for check in _checks(os.environ):
        checks.append(check)
        if not options.json:
            told[check.ok](check.name, f"{check.found} {check.remedy}".rstrip())
    all_fine = all(check.ok is not False for check in checks)
    if options.json:
        print(json.dumps({"ok": all_fine, "checks": [_as_json(check) for check in checks]}, indent=2))
    return DONE if all_fine else FAILED


def _checks(environ: Mapping[str, str]) -> Iterator[Check]:
    yield _version()
    try:
        settings = Settings.read(environ)
    except Refused as error:
        yield Check("settings", False, error.happened, error.advice.for_person)
        yield _proxy(environ)
    else:
        yield from _checks_of(settings, environ)
    yield from _extras()


def _checks_of(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    key, proxy = _key(environ, settings), _proxy(environ)
    yield key
    yield _gateway(settings)
    yield proxy
    if settings.sandbox:
        yield from _not_asked("it is simulated")
    elif not settings.api_key:
        yield from _not_asked("there is no key")
    elif proxy.ok is False:
        yield from _not_asked("the proxy comes first")
    else:
        yield from anyio.run(partial(_ask_router, settings))
    yield from _folders(settings)
    yield _ledger(settings)


def _as_json(check: Check) -> dict[str, object]:
    answer: dict[str, object] = {"name": check.name, "ok": check.ok, "found": check.found}
    return answer | ({"remedy": check.remedy} if check.remedy else {})


def _version() -> Check:
    python = f"Python {platform.python_version()} on {platform.system()}"
    return Check("version", True, f"refvideo-mcp {__version__}, {python}")


def _key(environ: Mapping[str, str], settings: Settings) -> Check:
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


def _proxy(environ: Mapping[str, str]) -> Check:
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


def _folders(settings: Settings) -> Iterator[Check]:
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
        policy = consent_of(settings, state).reading.policy()
        named = [str(folder) for folder in dict.fromkeys(policy.whole) if folder.is_dir()]
        named += [f"{folder} (that folder alone)" for folder in sorted(policy.flat) if folder.is_dir()]
        yield Check("pictures", True, f"from {', '.join(named) or 'nowhere unasked'}")


def _writable(name: str, folder: Path, remedy: str) -> Check:
    try:
        check_writable(folder)
    except Refused as error:
        return Check(name, False, error.happened, remedy)
    return Check(name, True, str(folder))


def _ledger(settings: Settings) -> Check:
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


def _extras() -> Iterator[Check]:
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


def _gateway(settings: Settings) -> Check:
    """Whose host it is."""
    host = urlsplit(settings.base_url).hostname or ""
    if settings.sandbox:
        return Check("gateway", None, "a sandbox in each process")
    if is_loopback(host):
        return Check("gateway", True, f"{settings.base_url}, this machine: a sandbox, or a proxy of yours")
    if host in GATEWAYS:
        return Check("gateway", True, f"{settings.base_url} ({GATEWAYS[host]})")
    return Check("gateway", None, f"{settings.base_url} is none that is known here; fine if you know it")


async def _ask_router(settings: Settings) -> list[Check]:
    """Whether anybody answers, whether the key is taken, and whether the clocks agree."""
    router = Router(settings.base_url, settings.api_key)
    trouble: RefvideoError | None = None
    try:
        await router.task_result(f"refvideo-doctor-{uuid.uuid4().hex}")
    except RefvideoError as error:
        trouble = error
    ahead = router.clock_ahead
    balance = await router.balance() if router.answered else None
    await router.aclose()
    if trouble is not None and not router.answered:
        remedy = "Check the network, the proxy and MYROUTER_BASE_URL."
        return [
            Check("router", False, trouble.happened, remedy),
            *_not_asked("nobody answered", ("accepted", "clock")),
        ]
    told = [] if balance is None else [Check("balance", True, f"{balance:.2f}, says {router.host}")]
    answers = Check("router", True, f"{router.host} answers")
    return [answers, _accepted(router, trouble), *told, _clock(ahead)]


def _not_asked(why: str, names: tuple[str, ...] = ("router", "accepted", "clock")) -> list[Check]:
    return [Check(name, None, f"not asked: {why}") for name in names]


def _accepted(router: Router, trouble: RefvideoError | None) -> Check:
    match trouble:
        case None:
            return Check("accepted", True, f"{router.host} takes the key")
        case UnknownTask() if trouble.reason == "TASK_NOT_FOUND":
            return Check("accepted", True, f"{router.host} takes the key")
        case UnknownTask():  # any web server says 404
            return Check("accepted", False, f"{router.host} is no such router.", "Check MYROUTER_BASE_URL.")
        case ReadRefused():
            return Check("accepted", False, trouble.happened, trouble.advice.for_person)
        case _:
            return Check("accepted", False, f"{trouble.happened} So nobody knows.", "Try again in a minute.")


def _clock(ahead: float | None) -> Check:
    if ahead is None:
        return Check("clock", None, "the router tells no time")
    if abs(ahead) <= MOST_SECONDS_APART:
        return Check("clock", True, "as the router's")
    apart = f"{abs(ahead) / 60:.0f} minutes {'behind' if ahead > 0 else 'ahead of'} the router's"
    return Check("clock", False, f"This machine's is {apart}.", "Set it: links and the allowance go by it.")
