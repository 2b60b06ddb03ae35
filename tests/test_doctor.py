"""`refvideo-mcp doctor`: one line about everything that can be wrong, with its remedy."""

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from command_line import call_in, run_in
from marker import KEY
from refvideo_mcp.extras import how_to_install
from refvideo_mcp.sandbox import Sandbox


class Doctor:
    """Run in a folder of its own, with settings that a test may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = {
            "MYROUTER_API_KEY": KEY,
            "REFVIDEO_OUTPUT_DIR": str(folder / "videos"),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "HTTPS_PROXY": "",
        }

    def run(self) -> subprocess.CompletedProcess[str]:
        return call_in(self.folder, "doctor", **self.settings)

    def checks(self, *, as_process: bool = False) -> dict[str, Any]:
        """The checks by their names."""
        run = run_in if as_process else call_in
        found = run(self.folder, "doctor", "--json", **self.settings)
        assert found.stderr == ""
        answer = json.loads(found.stdout)
        assert (found.returncode, answer["ok"]) in ((0, True), (1, False))
        return {check.pop("name"): check for check in answer["checks"]}


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    return Doctor(tmp_path)


@contextmanager
def router(status: int, body: dict[str, Any] | str, ahead: float = 0) -> Iterator[str]:
    """The address of a router that answers everything alike; its clock is `ahead` of ours by so many seconds."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            self.send_response(status)
            self.end_headers()
            self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time.time() + ahead, usegmt=True)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


NOT_FOUND = {"code": 404, "reason": "TASK_NOT_FOUND", "message": "task not found"}


def test_all_is_well_on_the_sandbox(doctor: Doctor) -> None:
    with Sandbox() as sandbox:
        doctor.settings["MYROUTER_BASE_URL"] = sandbox.url
        found = doctor.run()
    assert (found.returncode, found.stderr) == (0, "")
    marks = re.findall(r"^  (.) (\w+) +\S", found.stdout, re.MULTILINE)
    assert marks == [
        ("✓", "version"),
        ("✓", "key"),
        ("✓", "gateway"),
        ("–", "proxy"),  # noqa: RUF001
        ("✓", "router"),
        ("✓", "accepted"),
        ("✓", "clock"),
        ("✓", "videos"),
        ("✓", "state"),
        ("✓", "cache"),
        ("✓", "pictures"),
        ("–", "ledger"),  # noqa: RUF001
        ("✓", "video"),
        ("✓", "heic"),
        ("✓", "s3"),
    ]
    assert len(found.stdout.splitlines()) == len(marks)
    assert list(doctor.folder.iterdir()) == []  # looking makes nothing


def test_a_terminal_without_these_letters_gets_others(doctor: Doctor) -> None:
    doctor.settings |= {"MYROUTER_API_KEY": "", "PYTHONIOENCODING": "ascii"}
    found = run_in(doctor.folder, "doctor", **doctor.settings)
    assert found.returncode == 1
    assert found.stdout.isascii()
    assert "\n  x key " in found.stdout
    assert "\n  * videos " in found.stdout


def test_a_refused_key_is_told_with_its_remedy(doctor: Doctor) -> None:
    with router(401, {"code": 401, "reason": "FAILED_TO_AUTH", "message": "failed to authenticate"}) as url:
        doctor.settings["MYROUTER_BASE_URL"] = url
        checks = doctor.checks()
    assert checks["router"]["ok"] is True
    assert checks["accepted"]["ok"] is False
    assert "401 FAILED_TO_AUTH" in checks["accepted"]["found"]
    assert checks["accepted"]["remedy"].startswith("Check MYROUTER_API_KEY")


def test_a_web_server_that_is_no_router_does_not_pass_for_one(doctor: Doctor) -> None:
    """Any server answers 404 to what it does not know."""
    with router(404, "<h1>Not Found</h1>") as url:
        doctor.settings["MYROUTER_BASE_URL"] = url
        checks = doctor.checks()
    assert checks["accepted"]["ok"] is False
    assert "MYROUTER_BASE_URL" in checks["accepted"]["remedy"]


def test_an_overloaded_router_says_nothing_about_the_key(doctor: Doctor) -> None:
    with router(503, {"code": 503, "reason": "SERVICE_NOT_AVAILABLE"}) as url:
        doctor.settings["MYROUTER_BASE_URL"] = url
        checks = doctor.checks()
    assert (checks["router"]["ok"], checks["accepted"]["ok"]) == (True, False)
    assert "nobody knows" in checks["accepted"]["found"]


def test_where_nobody_listens_nothing_else_is_asked(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    doctor.settings["MYROUTER_BASE_URL"] = f"http://127.0.0.1:{port}"
    checks = doctor.checks()
    assert checks["router"]["ok"] is False
    assert "MYROUTER_BASE_URL" in checks["router"]["remedy"]
    assert (checks["accepted"]["ok"], checks["clock"]["ok"]) == (None, None)


@pytest.mark.parametrize(
    ("ahead", "told"), [(600, "10 minutes behind the router's"), (-600, "10 minutes ahead of the router's")]
)
def test_a_clock_that_is_wrong_is_told(doctor: Doctor, ahead: float, told: str) -> None:
    with router(404, NOT_FOUND, ahead) as url:
        doctor.settings["MYROUTER_BASE_URL"] = url
        checks = doctor.checks()
    assert checks["accepted"]["ok"] is True
    assert checks["clock"]["ok"] is False
    assert told in checks["clock"]["found"]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("", "is not set"),
        ("${user_config.api_key}", "never filled in"),
        ("null", "never filled in"),
        ("<YOUR_KEY>", "holds an example"),
        ("your-api-key", "holds an example"),
        ("sk-xxxxxxxx", "holds an example"),
    ],
)
def test_a_key_that_is_none_is_told(doctor: Doctor, key: str, told: str) -> None:
    with router(404, NOT_FOUND) as url:
        doctor.settings |= {"MYROUTER_API_KEY": key, "MYROUTER_BASE_URL": url}
        check = doctor.checks()["key"]
    assert check["ok"] is False
    assert told in check["found"]
    assert "sandbox" in check["remedy"]


def test_folders_that_cannot_be_used_are_named_with_their_settings(doctor: Doctor) -> None:
    taken = doctor.folder / "taken"
    taken.write_text("")
    doctor.settings |= {
        "MYROUTER_API_KEY": "",
        "REFVIDEO_OUTPUT_DIR": str(taken / "videos"),
        "REFVIDEO_IMAGE_DIRS": str(doctor.folder / "gone"),
        "XDG_CACHE_HOME": str(taken),
    }
    checks = doctor.checks()
    assert [name for name in ("videos", "state", "cache", "pictures") if checks[name]["ok"] is False] == [
        "videos",
        "cache",
        "pictures",
    ]
    assert checks["videos"]["found"] == f"{taken} is a file, not a folder."
    assert "REFVIDEO_OUTPUT_DIR" in checks["videos"]["remedy"]
    assert "REFVIDEO_IMAGE_DIRS" in checks["pictures"]["remedy"]


def test_a_broad_folder_of_pictures_is_told_to_be_meant_alone(doctor: Doctor) -> None:
    doctor.settings |= {"MYROUTER_API_KEY": "", "HOME": str(doctor.folder), "USERPROFILE": str(doctor.folder)}
    doctor.settings["REFVIDEO_IMAGE_DIRS"] = str(doctor.folder)
    assert f"{doctor.folder} (that folder alone)" in doctor.checks()["pictures"]["found"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a folder in which nobody, not even root, may write")
def test_a_folder_that_may_not_be_written_is_told(doctor: Doctor) -> None:
    doctor.settings |= {"MYROUTER_API_KEY": "", "REFVIDEO_OUTPUT_DIR": "/proc/videos"}
    check = doctor.checks()["videos"]
    assert check["ok"] is False
    assert check["found"].startswith("Nothing can be written in /proc")


def test_a_ledger_opens_or_says_why_not(doctor: Doctor) -> None:
    ledger = doctor.folder / "state" / "refvideo-mcp" / "ledger.db"
    doctor.settings["MYROUTER_API_KEY"] = ""
    assert call_in(doctor.folder, "forget", "--older-than", "1", **doctor.settings).returncode == 0
    check = doctor.checks()["ledger"]
    assert check["ok"]
    assert re.fullmatch(rf"{re.escape(str(ledger))}, version \d+", check["found"])
    ledger.write_text("no ledger at all" * 100)
    check = doctor.checks()["ledger"]
    assert check["ok"] is False
    assert "is no ledger" in check["found"]


def test_settings_that_cannot_be_read_are_a_line_too(doctor: Doctor) -> None:
    doctor.settings |= {"REFVIDEO_MAX_WAIT": "soon", "REFVIDEO_OUTPUT_DIR": "${workspaceFolder}/clips"}
    checks = doctor.checks()
    assert checks["settings"]["ok"] is False
    assert "REFVIDEO_MAX_WAIT" in checks["settings"]["found"]
    assert "REFVIDEO_OUTPUT_DIR" in checks["settings"]["found"]
    assert checks["video"]["ok"] is True


def test_a_proxy_is_named_but_not_its_password(doctor: Doctor) -> None:
    with router(404, NOT_FOUND) as url:
        doctor.settings |= {"MYROUTER_BASE_URL": url, "HTTPS_PROXY": "http://me:secret@proxy.example:8080"}
        found = doctor.run()
    assert found.returncode == 0
    assert "HTTPS_PROXY" in found.stdout
    assert "secret" not in found.stdout
    doctor.settings["HTTPS_PROXY"] = "socks://me:secret@127.0.0.1:9"  # what desktops write for socks5
    assert doctor.checks()["proxy"]["ok"] is True
    doctor.settings["HTTPS_PROXY"] = "ftp://me:secret@proxy.example"
    check = doctor.checks()["proxy"]
    assert check["ok"] is False
    assert "secret" not in str(check)


def test_an_extra_that_is_not_installed_is_fine_and_one_that_does_not_load_is_not(doctor: Doctor) -> None:
    (doctor.folder / "av.py").write_text("raise ImportError('no such library')")
    (doctor.folder / "sitecustomize.py").write_text("import sys\nsys.modules['pillow_heif'] = None\n")
    doctor.settings |= {"MYROUTER_API_KEY": "sandbox", "PYTHONPATH": str(doctor.folder)}
    checks = doctor.checks(as_process=True)
    assert checks["video"]["ok"] is False
    assert "does not load" in checks["video"]["found"]
    assert checks["heic"]["ok"] is None
    assert checks["heic"]["found"] == f"not installed (pictures of phones): {how_to_install('pillow-heif')}"
