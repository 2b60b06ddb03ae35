"""Settings: what the environment and the flags of a server mean. How they are refused is in `test_cli.py`."""

import tempfile
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from command_line import COMMAND
from fake_router import said
from marker import KEY
from refvideo_mcp.errors import Refused
from refvideo_mcp.settings import Settings

PLACEHOLDERS = ["${input:myrouter-key}", "${MYROUTER_API_KEY}", " ${user_config.key} ", "", "   "]


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
        {"MYROUTER_API_KEY": text, "MYROUTER_BASE_URL": text, "REFVIDEO_MAX_WAIT": text, "REFVIDEO_LOG_LEVEL": text}
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
        "http://router.example",
        "http://192.168.0.7:8765",
        "http://127.0.0.1.example",
        "ftp://router.example",
        "https://",
        "https://me:secret@router.example",
        "https://router.example/?key=1",
        "https://router.example:port",
    ],
)
def test_an_address_that_would_give_the_key_away_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"^MYROUTER_BASE_URL (must be https|is not an address)"):
        Settings.read({"MYROUTER_BASE_URL": text})
