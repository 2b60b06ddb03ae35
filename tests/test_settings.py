"""Settings: what the environment and the flags of a server mean. How they are refused is in `test_cli.py`."""

import sys
import tempfile
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from command_line import COMMAND
from fake_router import said
from marker import KEY
from refvideo_mcp.errors import Refused
from refvideo_mcp.settings import Settings

PLACEHOLDERS = [
    *("${input:myrouter-key}", "${MYROUTER_API_KEY}", " ${user_config.key} ", "{{key}}", "%MYROUTER_KEY%", "", "   "),
    *("null", "None", "undefined", '"null"', '""', "\u200b"),
]


def test_the_environment_is_read() -> None:
    settings = Settings.read(
        {
            "MYROUTER_API_KEY": f" {KEY}\n",
            "MYROUTER_BASE_URL": "https://router.example",
            "REFVIDEO_OUTPUT_DIR": "/srv/videos",
            "REFVIDEO_DATABASE_URL": "sqlite:////srv/ledger.db",
            "REFVIDEO_MAX_SECONDS_PER_DAY": "0",
            "REFVIDEO_PREVIEW": "Off",
        }
    )
    assert (settings.api_key, settings.base_url, settings.sandbox) == (KEY, "https://router.example", False)
    assert (settings.output_dir, settings.database) == (Path("/srv/videos"), "sqlite:////srv/ledger.db")
    assert (settings.max_seconds_per_day, settings.preview) == (0, False)
    assert KEY not in repr(settings)


@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_a_placeholder_that_a_client_did_not_fill_in_counts_as_missing(text: str) -> None:
    settings = Settings.read(
        dict.fromkeys(
            [
                *("MYROUTER_API_KEY", "MYROUTER_BASE_URL", "REFVIDEO_MAX_WAIT", "REFVIDEO_LOG_LEVEL"),
                *("REFVIDEO_OUTPUT_DIR", "REFVIDEO_IMAGE_DIRS", "REFVIDEO_DATABASE_URL", "REFVIDEO_MEDIA_STORE"),
                *("REFVIDEO_CONFIRM", "REFVIDEO_MAX_SECONDS_PER_DAY", "REFVIDEO_PREVIEW"),
            ],
            text,
        )
    )
    assert settings == Settings.read({})
    assert (settings.api_key, settings.base_url) == ("", "https://api.myrouter.ai")


def test_flags_override_the_environment() -> None:
    environment = {"MYROUTER_API_KEY": KEY, "REFVIDEO_OUTPUT_DIR": "/srv/videos"}
    assert Settings.read(environment, output_dir="/srv/elsewhere").output_dir == Path("/srv/elsewhere")
    assert Settings.read(environment, output_dir="off").output_dir is None
    settings = Settings.read(environment, sandbox=True)
    assert (settings.sandbox, settings.api_key) == (True, "sandbox")


@pytest.mark.parametrize(
    ("key", "flag"), [("sandbox", False), ("Sandbox", False), (KEY, True), ("two words", True), ("", True)]
)
def test_a_sandbox_runs_on_things_of_its_own_whatever_else_is_set(key: str, flag: bool) -> None:
    settings = Settings.read(
        {
            "MYROUTER_API_KEY": key,
            "MYROUTER_BASE_URL": "http://router.example",
            "REFVIDEO_OUTPUT_DIR": "/srv/videos",
            "REFVIDEO_MEDIA_STORE": "no address",
        },
        sandbox=flag,
    )
    assert (settings.sandbox, settings.api_key, settings.base_url) == (True, "sandbox", "https://api.myrouter.ai")
    assert settings.output_dir == Path(tempfile.gettempdir()) / "refvideo-sandbox"
    assert settings.media_store == ""


def test_a_sandbox_saves_where_its_flag_says() -> None:
    assert Settings.read({}, sandbox=True, output_dir="/srv/videos").output_dir == Path("/srv/videos")


@pytest.mark.anyio
async def test_a_server_on_the_sandbox_has_a_ledger_of_its_own() -> None:
    settings = {
        "MYROUTER_API_KEY": "sandbox",
        "MYROUTER_BASE_URL": "http://router.example",
        "REFVIDEO_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing",
    }
    server = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=settings)
    async with Client(server) as client:
        assert said(await client.call_tool("list_reference_videos")).startswith("[sandbox] No jobs")


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("https://gateway.example/vidu/", "https://gateway.example/vidu"),
        ("https://gateway.example:8443", "https://gateway.example:8443"),
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("http://localhost:8765/prefix", "http://localhost:8765/prefix"),
        ("http://[::1]:8765", "http://[::1]:8765"),
    ],
)
def test_the_router_s_address_keeps_its_port_and_prefix(text: str, used: str) -> None:
    assert Settings.read({"MYROUTER_BASE_URL": text}).base_url == used


@pytest.mark.parametrize(
    "text",
    [
        f"Bearer {KEY}",
        f"Authorization: Bearer {KEY}",
        f'"{KEY}"',
        f" {KEY}\r\n",
        f"\ufeff{KEY[:5]}\u200b{KEY[5:]}\u200b",
        f"MYROUTER_API_KEY={KEY}",
        f"export MYROUTER_API_KEY='{KEY}'",
        f"\u201cbearer {KEY}\u201d",
    ],
)
def test_a_key_may_come_as_it_was_copied(text: str) -> None:
    assert Settings.read({"MYROUTER_API_KEY": text}).api_key == KEY


@pytest.mark.parametrize(
    ("name", "text", "field", "used"),
    [
        ("MYROUTER_BASE_URL", "api.myrouter.ai", "base_url", "https://api.myrouter.ai"),
        ("MYROUTER_BASE_URL", '"https://api.novita.ai/"', "base_url", "https://api.novita.ai"),
        ("MYROUTER_BASE_URL", "<https://api.novita.ai>", "base_url", "https://api.novita.ai"),
        ("MYROUTER_BASE_URL", "https://api.novita.ai\u200b", "base_url", "https://api.novita.ai"),
        ("MYROUTER_BASE_URL", "localhost:8765", "base_url", "http://localhost:8765"),
        ("MYROUTER_BASE_URL", "127.0.0.1:8765", "base_url", "http://127.0.0.1:8765"),
        ("MYROUTER_BASE_URL", "gateway.example:8443/vidu", "base_url", "https://gateway.example:8443/vidu"),
        ("MYROUTER_BASE_URL", "https://a.example/v3/async/vidu-q2-reference2video", "base_url", "https://a.example"),
        ("REFVIDEO_CONFIRM", "true", "confirm_above", 0),
        ("REFVIDEO_CONFIRM", "Always ", "confirm_above", 0),
        ("REFVIDEO_CONFIRM", "off", "confirm_above", None),
        ("REFVIDEO_CONFIRM", "false", "confirm_above", None),
        ("REFVIDEO_CONFIRM", "above: 5s", "confirm_above", 5),
        ("REFVIDEO_LOG_LEVEL", "WARN", "log_level", "warning"),
        ("REFVIDEO_MAX_WAIT", '"120"', "max_wait", 120),
        ("REFVIDEO_MAX_WAIT", "120 s", "max_wait", 120),
        ("REFVIDEO_MAX_VIDEO_MB", "200MB", "max_video_mb", 200),
        ("REFVIDEO_PREVIEW", "false", "preview", False),
        ("REFVIDEO_PREVIEW", "0", "preview", False),
        ("REFVIDEO_OUTPUT_DIR", "false", "output_dir", None),
        ("REFVIDEO_MEDIA_STORE", "off", "media_store", ""),
        ("REFVIDEO_DATABASE_URL", "postgres://me@host/jobs", "database", "postgresql://me@host/jobs"),
    ],
)
def test_a_setting_that_has_one_meaning_has_it(name: str, text: str, field: str, used: object) -> None:
    assert getattr(Settings.read({name: text}), field) == used


@pytest.mark.skipif(sys.platform == "win32", reason="Windows writes paths in another way")
@pytest.mark.parametrize(
    ("text", "used"),
    [
        ('"/srv/my videos"', "/srv/my videos"),
        (r"/srv/my\ videos", "/srv/my videos"),
        ("file:///srv/my%20videos", "/srv/my videos"),
        ("$HOME/videos", "/home/me/videos"),
        ("${HOME}/videos", "/home/me/videos"),
        ("${userHome}/videos", "/home/me/videos"),
        ("~/videos", "/home/me/videos"),
        ("\u202a/srv/videos\u202c", "/srv/videos"),
    ],
)
def test_folders_are_read_as_all_paths_are(monkeypatch: pytest.MonkeyPatch, text: str, used: str) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    settings = Settings.read(
        {"REFVIDEO_OUTPUT_DIR": text, "REFVIDEO_IMAGE_DIRS": f"/srv/pictures:{text}", "REFVIDEO_DATABASE_URL": "~/l.db"}
    )
    assert (settings.output_dir, settings.database) == (Path(used), Path("/home/me/l.db"))
    assert Settings.read({"REFVIDEO_IMAGE_DIRS": text}).image_dirs == (Path(used),)
    assert Settings.read({}, output_dir=text).output_dir == Path(used)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows writes paths in another way")
@pytest.mark.parametrize("text", ["/a:/b", "/a, /b", "/a;/b", "/a::/b", "null:/a:/b", '["/a", "/b"]'])
def test_folders_of_pictures_may_be_separated_in_several_ways(text: str) -> None:
    assert Settings.read({"REFVIDEO_IMAGE_DIRS": text}).image_dirs == (Path("/a"), Path("/b"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows writes paths in another way")
@pytest.mark.parametrize("name", ["REFVIDEO_OUTPUT_DIR", "REFVIDEO_IMAGE_DIRS"])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("${workspaceFolder}/clips", "holds ${workspaceFolder}, which nobody has filled in."),
        (r"%USERPROFILE%\Videos", "holds %USERPROFILE%, which nobody has filled in."),
        (r"C:\Users\me\Videos", "is a Windows path, but this server does not run on Windows."),
        ("~nobody-here/videos", "is in a home folder that this machine does not have."),
        ("true", "must be a folder, not true."),
    ],
)
def test_a_folder_that_nobody_can_mean_is_none(name: str, text: str, told: str) -> None:
    with pytest.raises(Refused) as caught:
        Settings.read({name: text})
    assert str(caught.value).startswith(f"{name} ")
    assert str(caught.value).endswith(told)


@pytest.mark.parametrize(
    "text",
    [
        "http://router.example",
        "http://192.168.0.7:8765",
        "http://127.0.0.1.example",
        "ftp://router.example",
        "https://",
        "https://me:secret@router.example",
        "https://router.example/?key=1",
        "https://router.example:port",
        "https://[::1",
        "https://two words.example",
        "router",
    ],
)
def test_an_address_that_would_give_the_key_away_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"^MYROUTER_BASE_URL (must be https|is not an address)"):
        Settings.read({"MYROUTER_BASE_URL": text})
