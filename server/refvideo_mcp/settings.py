"""Environment and flags, read once at the door into one frozen `Settings`."""

import ipaddress
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from refvideo_mcp.errors import Refused

__all__ = ["Settings", "is_loopback"]

DEFAULT_BASE_URL = "https://api.myrouter.ai"
SANDBOX_KEY = "sandbox"
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True)
class Settings:
    """What one server process runs with.

    `api_key` is "" where none is set: the server still starts, lists its tools and says what to set. `output_dir` is
    None where videos are not saved. `http`: callers come over HTTP, so this machine's files mean nothing to them.
    `max_wait` is in seconds; None = by the client's name. `database` is the ledger's file or URL; a sandbox inside the
    process has a ledger of its own. `media_store` is s3://bucket or s3://bucket/prefix, where pictures are uploaded to;
    "" = they are sent themselves. The user is asked before a
    video of more than `confirm_above` seconds is bought; None = never. 0 = no limit.
    """

    api_key: str = field(default="", repr=False)
    base_url: str = DEFAULT_BASE_URL
    sandbox: bool = False
    http: bool = False
    output_dir: Path | None = None
    max_wait: int | None = None
    log_level: str = "warning"
    database: Path | str = Path()
    max_seconds_per_day: int = 300
    max_open_jobs: int = 10
    confirm_above: int | None = None
    image_dirs: tuple[Path, ...] = ()
    media_store: str = ""
    max_video_mb: int = 500
    preview: bool = True
    state_dir: Path | None = None
    cache_dir: Path | None = None

    @classmethod
    def read(
        cls, environ: Mapping[str, str], *, sandbox: bool = False, output_dir: str | None = None, http: bool = False
    ) -> "Settings":
        """Settings from the environment, overridden by flags.

        Raises:
            Refused: a setting cannot be used; the text names it.
        """
        env = {name: value.strip() for name, value in environ.items() if _is_set(value)}
        key = env.get("MYROUTER_API_KEY", "")
        on_sandbox = sandbox or key.lower() == SANDBOX_KEY
        if not on_sandbox and not re.fullmatch(r"[\x21-\x7e]*", key):
            raise Refused("MYROUTER_API_KEY holds spaces or characters that no key has.", "Copy it again.")
        return cls(
            api_key=SANDBOX_KEY if on_sandbox else key,
            base_url=DEFAULT_BASE_URL if on_sandbox else _base_url(env.get("MYROUTER_BASE_URL", DEFAULT_BASE_URL)),
            sandbox=on_sandbox,
            http=http,
            output_dir=_output_dir(
                output_dir or ("" if on_sandbox else env.get("REFVIDEO_OUTPUT_DIR", "")) or ("off" if http else ""),
                on_sandbox,
            ),
            max_wait=_number(env, "REFVIDEO_MAX_WAIT", None, least=1),
            database=env.get("REFVIDEO_DATABASE_URL") or _own("user_state_path") / "ledger.db",
            max_seconds_per_day=_number(env, "REFVIDEO_MAX_SECONDS_PER_DAY", 300),
            max_open_jobs=_number(env, "REFVIDEO_MAX_OPEN_JOBS", 10),
            confirm_above=_confirm(env.get("REFVIDEO_CONFIRM", "never")),
            image_dirs=_folders(env.get("REFVIDEO_IMAGE_DIRS", "")),
            media_store="" if on_sandbox else _media_store(env.get("REFVIDEO_MEDIA_STORE", "")),
            max_video_mb=_number(env, "REFVIDEO_MAX_VIDEO_MB", 500),
            preview=env.get("REFVIDEO_PREVIEW", "").lower() != "off",
            state_dir=_own("user_state_path"),
            cache_dir=_own("user_cache_path"),
            log_level=_log_level(env.get("REFVIDEO_LOG_LEVEL", "warning")),
        )


def _is_set(value: str) -> bool:
    """A client that does not fill in its own placeholder hands over a literal `${…}`."""
    return bool(value.strip()) and not re.fullmatch(r"\$\{.*\}", value.strip())


def _base_url(text: str) -> str:
    url = urlsplit(text)
    try:
        host, _ = url.hostname or "", url.port
    except ValueError:
        host = ""
    if not host or url.username or url.query or url.fragment:
        raise Refused(f"MYROUTER_BASE_URL is not an address such as {DEFAULT_BASE_URL}.")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise Refused("MYROUTER_BASE_URL must be https (http only for this machine), or the key could be read.")
    return text.rstrip("/")


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _output_dir(text: str, sandbox: bool) -> Path | None:
    if text.lower() == "off":
        return None
    if text:
        return Path(text).expanduser().absolute()
    if sandbox:
        return Path(tempfile.gettempdir()) / "refvideo-sandbox"
    import platformdirs

    return platformdirs.user_videos_path() / "refvideo"


def _own(kind: str) -> Path:
    """Our own folder among the user's, by platformdirs' name for its kind."""
    import platformdirs

    path: Path = getattr(platformdirs, kind)("refvideo-mcp", appauthor=False)
    return path


def _folders(text: str) -> tuple[Path, ...]:
    return tuple(Path(folder).expanduser().absolute() for folder in text.split(os.pathsep) if folder.strip())


def _media_store(text: str) -> str:
    if text and not re.fullmatch(r"s3://[\w.-]{3,63}(/\w[\w.-]*)*/?", text, re.ASCII):
        raise Refused("REFVIDEO_MEDIA_STORE must be s3://bucket or s3://bucket/prefix.")
    return text


Default = TypeVar("Default", int, None)


def _number(env: Mapping[str, str], name: str, default: Default, least: int = 0) -> int | Default:
    text = env.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,7}", text) or int(text) < least:
        raise Refused(f"{name} must be a whole number, from {least}.")
    return int(text)


def _confirm(text: str) -> int | None:
    """Seconds of video above which the user is asked; None = never."""
    match = re.fullmatch(r"(never)|(always)|above:([0-9]{1,2})", text.lower())
    if match is None:
        raise Refused("REFVIDEO_CONFIRM must be never, always or above:SECONDS, such as above:5.")
    return None if match[1] else int(match[3] or 0)


def _log_level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise Refused(f"REFVIDEO_LOG_LEVEL must be one of {', '.join(LOG_LEVELS)}.")
    return text.lower()
