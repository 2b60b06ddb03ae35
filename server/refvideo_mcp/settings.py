"""Environment and flags, read once at the door into one frozen `Settings`."""

import ipaddress
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from refvideo_mcp.errors import Refused, clean
from refvideo_mcp.files import NoPath, parse_path
from refvideo_mcp.schemas.coercion import is_nothing, unwrapped

__all__ = ["Auth", "Settings", "is_loopback"]

DEFAULT_BASE_URL = "https://api.myrouter.ai"
SANDBOX_KEY = "sandbox"
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
_LEVELS = {"trace": "debug", "verbose": "debug", "warn": "warning", "err": "error", "fatal": "critical"}
_NO = ("off", "false", "no", "disabled")
_YES = ("on", "true", "yes", "enabled")

Auth = Literal["", "tokens", "oauth"]
Value = TypeVar("Value")
Default = TypeVar("Default")


@dataclass(frozen=True)
class Settings:
    """What one server process runs with.

    `api_key` is "" where none is set: the server still starts, lists its tools and says what to set. `output_dir` is
    None where videos are not saved. `http`: callers come over HTTP, so this machine's files mean nothing to them.
    `max_wait` is in seconds; None = by the client's name. `database` is the ledger's file or URL; a sandbox inside the
    process has a ledger of its own. `auth`: how callers show who they are, "" = all are one account; `tokens_file` says
    whose tokens are whose. `oauth_audience` is what tokens of the `oauth_issuer` are made out to, "" = this server's
    address. `public_url`: where callers reach this server, "" = not told. `secret` seals what they bring back, to this
    process or to one beside it; "" = this process has one of its own. `media_store` is s3://bucket or s3://bucket/prefix,
    where pictures are uploaded to; "" = they are sent themselves. The user is asked before a video of more than
    `confirm_above` seconds is bought; None = never. 0 = no limit. `log_json`: a log line is a JSON object.
    `fault`: sentences about settings that cannot be used; the server still starts, and its calls say them. The cast is
    kept in `data_dir`; None = it is not, as over HTTP unless somebody names a place.
    """

    api_key: str = field(default="", repr=False)
    base_url: str = DEFAULT_BASE_URL
    sandbox: bool = False
    http: bool = False
    auth: Auth = ""
    tokens_file: Path | None = None
    public_url: str = ""
    oauth_issuer: str = ""
    oauth_audience: str = ""
    oauth_scopes: tuple[str, ...] = ()
    output_dir: Path | None = None
    max_wait: int | None = None
    log_level: str = "warning"
    log_json: bool = False
    secret: str = field(default="", repr=False)
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
    data_dir: Path | None = None
    fault: str = ""

    @classmethod
    def read(
        cls, environ: Mapping[str, str], *, sandbox: bool = False, output_dir: str | None = None, http: bool = False
    ) -> "Settings":
        """Settings from the environment, overridden by flags.

        Raises:
            Refused: a setting cannot be used; the text names it.
        """
        settings = cls.to_serve(environ, sandbox=sandbox, output_dir=output_dir, http=http)
        if settings.fault:
            raise Refused(settings.fault)
        return settings

    @classmethod
    def to_serve(
        cls,
        environ: Mapping[str, str],
        *,
        sandbox: bool = False,
        output_dir: str | None = None,
        http: bool = False,
        auth: Auth = "",
    ) -> "Settings":
        """The same, for a server: what cannot be used is told in `fault`."""
        given = _Given(environ)
        key = given.read("MYROUTER_API_KEY", lambda text: text if sandbox else _key(text), "")
        on_sandbox = sandbox or key.lower() == SANDBOX_KEY
        given.add("--output-dir", output_dir or "")
        settings = cls(
            api_key=SANDBOX_KEY if on_sandbox else key,
            base_url=DEFAULT_BASE_URL if on_sandbox else given.read("MYROUTER_BASE_URL", _base_url, DEFAULT_BASE_URL),
            sandbox=on_sandbox,
            http=http,
            auth=auth,
            tokens_file=given.read("REFVIDEO_TOKENS_FILE", _path, None),
            public_url=given.read("REFVIDEO_PUBLIC_URL", _public_url, ""),
            oauth_issuer=given.read("REFVIDEO_OAUTH_ISSUER", _issuer, ""),
            oauth_audience=given.read("REFVIDEO_OAUTH_AUDIENCE", str, ""),
            oauth_scopes=given.read("REFVIDEO_OAUTH_SCOPES", _scopes, ()),
            output_dir=given.read(
                "--output-dir" if output_dir or on_sandbox else "REFVIDEO_OUTPUT_DIR",
                _folder,
                None if http else _usual_output_dir(on_sandbox),
            ),
            max_wait=given.read("REFVIDEO_MAX_WAIT", _number(least=1), None),
            database=given.read("REFVIDEO_DATABASE_URL", _database, _own("user_state_path") / "ledger.db"),
            max_seconds_per_day=given.read("REFVIDEO_MAX_SECONDS_PER_DAY", _number(), 300),
            max_open_jobs=given.read("REFVIDEO_MAX_OPEN_JOBS", _number(), 10),
            confirm_above=given.read("REFVIDEO_CONFIRM", _confirm, None),
            image_dirs=given.read("REFVIDEO_IMAGE_DIRS", _folders, ()),
            media_store="" if on_sandbox else given.read("REFVIDEO_MEDIA_STORE", _media_store, ""),
            max_video_mb=given.read("REFVIDEO_MAX_VIDEO_MB", _number(), 500),
            preview=given.read("REFVIDEO_PREVIEW", _switch, True),
            state_dir=_own("user_state_path"),
            cache_dir=_own("user_cache_path"),
            data_dir=given.read("REFVIDEO_DATA_DIR", _folder, None if http else _own("user_data_path")),
            log_json=given.read("REFVIDEO_LOG_FORMAT", _is_json, False),
            secret=given.read("REFVIDEO_SECRET", _secret, ""),
            log_level=given.read("REFVIDEO_LOG_LEVEL", _log_level, "warning"),
        )
        return replace(settings, fault=" ".join(given.faults))


class _Given:
    """The settings that were given, and `faults`: sentences about those that cannot be used."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._texts = dict(environ)
        self.faults: list[str] = []

    def add(self, name: str, text: str) -> None:
        self._texts[name] = text

    def read(self, name: str, reader: Callable[[str], Value], default: Default) -> Value | Default:
        """What the setting's text means; `default` where nothing was given, or nothing that can be read."""
        text = unwrapped(self._texts.get(name, ""))
        text = unwrapped(re.sub(rf"^(export\s+)?{name}\s*=", "", text))  # the whole line was copied
        if is_nothing(text):
            return default
        try:
            return reader(text)
        except ValueError as error:
            self.faults.append(f"{name} {error}.")
            return default


def _key(text: str) -> str:
    key = re.sub(r"^(Authorization:\s*)?Bearer\s+", "", text, flags=re.IGNORECASE)
    key = "".join(c for c in key if unicodedata.category(c) != "Cf")
    if key.casefold() in _NO:
        return ""
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        raise ValueError("holds spaces or characters that no key has: copy it again")
    return key


def _base_url(text: str) -> str:
    text = "".join(c for c in text if unicodedata.category(c) != "Cf").strip("<>")
    if re.fullmatch(r"([\w-]+(\.[\w-]+)+|localhost|\[[\da-f:]+\])(:\d+)?(/\S*)?", text, re.ASCII):
        host = urlsplit(f"//{text}").hostname or ""
        text = f"{'http' if is_loopback(host) else 'https'}://{text}"
    try:
        url = urlsplit(text)
        host, _ = url.hostname or "", url.port
    except ValueError:
        url, host = urlsplit(""), ""
    if not host or url.username or url.query or url.fragment or re.search(r"\s", text):
        raise ValueError(f"is not an address such as {DEFAULT_BASE_URL}")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise ValueError("must be https (http only for this machine), or the key could be read")
    return re.sub(r"/v3/async(/.*)?$", "", text).rstrip("/")  # of an endpoint, the gateway is meant


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _public_url(text: str) -> str:
    url = _base_url(text)
    if urlsplit(url).path:
        raise ValueError("must end with the host, or its port: /mcp follows by itself")
    return url


def _is_json(text: str) -> bool:
    if text.casefold() not in ("text", "json"):
        raise ValueError("must be text or json")
    return text.casefold() == "json"


def _secret(text: str) -> str:
    if len(text) < 32:
        raise ValueError("must have 32 characters or more, such as openssl rand -hex 32 makes")
    return text


def _issuer(text: str) -> str:
    _base_url(text)
    if not text.startswith(("https://", "http://")):
        raise ValueError("must begin with https://, as in the tokens")
    return text  # compared with what tokens say, to the last slash


def _scopes(text: str) -> tuple[str, ...]:
    if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e ]*", text):
        raise ValueError("must be words with spaces between them")
    return tuple(text.replace(",", " ").split())


def _folder(text: str) -> Path | None:
    if text.casefold() in _NO:
        return None
    return _path(text)


def _usual_output_dir(sandbox: bool) -> Path:
    if sandbox:
        return Path(tempfile.gettempdir()) / "refvideo-sandbox"
    import platformdirs

    return platformdirs.user_videos_path() / "refvideo"


def _path(text: str) -> Path:
    if text.casefold() in (*_NO, *_YES):
        raise ValueError(f"must be a folder, not {text}")
    try:
        return Path(parse_path(text)).expanduser().absolute()
    except NoPath as error:
        raise ValueError(f"({clean(text, 100)}) {clean(str(error), 100)}") from None
    except RuntimeError:
        raise ValueError(f"({clean(text, 100)}) is in a home folder that this machine does not have") from None


def _own(kind: str) -> Path:
    """Our own folder among the user's, by platformdirs' name for its kind."""
    import platformdirs

    path: Path = getattr(platformdirs, kind)("refvideo-mcp", appauthor=False)
    return path


def _folders(text: str) -> tuple[Path, ...]:
    if text.casefold() in _NO:
        return ()
    if os.pathsep == ":" and re.search(r"(^|[:;])[A-Za-z]:[\\/]", text):
        _path(text)  # which refuses it: a Windows path, whose colon separates nothing
    if text.startswith("["):
        text = os.pathsep.join(re.findall(r'"([^"]+)"', text))
    between = r":(?!//)|[;,](?=\s*[/~])" if os.pathsep == ":" else ";"
    return tuple(_path(folder) for folder in re.split(between, text) if not is_nothing(folder))


def _database(text: str) -> Path | str:
    if re.match(r"[/~\\$]|[A-Za-z]:[\\/]", text):
        return _path(text)
    return re.sub("^postgres://", "postgresql://", text)  # what is no URL is refused by the ledger


def _media_store(text: str) -> str:
    if text.casefold() in _NO:
        return ""
    if not re.fullmatch(r"s3://[\w.-]{3,63}(/\w[\w.-]*)*/?", text, re.ASCII):
        raise ValueError("must be s3://bucket or s3://bucket/prefix")
    return text


def _number(least: int = 0) -> Callable[[str], int]:
    def read(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,7})(\.0+)?\s*(s|sec|seconds|mb)?", text, re.IGNORECASE)
        if match is None or int(match[1]) < least:
            raise ValueError(f"must be a whole number, from {least}")
        return int(match[1])

    return read


def _confirm(text: str) -> int | None:
    """Seconds of video above which the user is asked; None = never."""
    if text.casefold() in ("never", *_NO):
        return None
    if text.casefold() in ("always", *_YES):
        return 0
    match = re.fullmatch(r"above[:=\s]\s*([0-9]{1,2})\s*s?", text, re.IGNORECASE)
    if match is None:
        raise ValueError("must be never, always or above:SECONDS, such as above:5")
    return int(match[1])


def _switch(text: str) -> bool:
    if text.casefold() not in (*_NO, *_YES, "0", "1"):
        raise ValueError("must be on or off")
    return text.casefold() not in (*_NO, "0")


def _log_level(text: str) -> str:
    level = _LEVELS.get(text.lower(), text.lower())
    if level not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
    return level
