"""The command line, as people and clients meet it: exit codes, help, and what goes to which stream."""

import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO

import pytest

from command_line import call, run, running
from refvideo_mcp import __version__
from refvideo_mcp.cli import main

COMMANDS = [
    "serve",
    "generate",
    "result",
    "list",
    "save",
    "cast",
    "doctor",
    "sandbox",
    "schemas",
    "config",
    "demo",
    "release",
    "token",
    "forget",
]
TOOL_SCHEMAS = Path(__file__).parents[1] / "tool_schemas"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process, and no pty")


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def initialize(server: subprocess.Popen[bytes]) -> bytes:
    """The line that answers an initialize request: from then on the server serves."""
    pipe(server.stdin).write(json.dumps(INITIALIZE).encode() + b"\n")
    pipe(server.stdin).flush()
    return pipe(server.stdout).readline()


def test_the_installed_command_is_this_command_line() -> None:
    (script,) = entry_points(group="console_scripts", name="refvideo-mcp")
    assert script.load() is main


def test_help_lists_every_command() -> None:
    found = call("--help")
    assert (found.returncode, found.stderr) == (0, "")
    assert re.findall(r"^ {4}(\w+) {2,}", found.stdout, re.MULTILINE) == COMMANDS


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_every_help_ends_in_an_example(command: list[str]) -> None:
    found = call(*command, "--help")
    assert (found.returncode, found.stderr) == (0, "")
    example = found.stdout.strip().splitlines()[-1]
    assert re.match(rf"example: (MYROUTER_API_KEY=sandbox )?{' '.join(['refvideo-mcp', *command])}", example)


@pytest.mark.parametrize("command", ["result", "save", "release"])
def test_the_job_in_an_example_is_written_as_jobs_are(command: str) -> None:
    """A shortened one is copied, and not found."""
    example = call(command, "--help").stdout.strip().splitlines()[-1]
    assert re.match(
        rf"example: refvideo-mcp {command} ([0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}|job-[0-9a-f]{{32}})\b",
        example,
    )


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("sandbox --port 99999", "99999 is no port: they go from 0 to 65535"),
        ("sandbox --port -1", "-1 is no port: they go from 0 to 65535"),
        ("sandbox --seconds nan", "nan is no number from 0 to 3600"),
        ("sandbox --seconds inf", "inf is no number from 0 to 3600"),
        ("sandbox --seconds -1", "-1 is no number from 0 to 3600"),
        ("sandbox --seconds soon", "invalid number value: 'soon'"),
        ("sandbox --host " + "\N{GREEK SMALL LETTER ALPHA}" * 70, "cannot be listened on: that is no host"),
        ("serve --http --port 65536", "65536 is no port"),
        ("forget --older-than nan", "nan is no number from 0"),
        ("forget --older-than inf", "inf is no number from 0"),
        ("schemas --write /dev/null", "/dev/null cannot be written: File exists. Choose another folder."),
    ],
)
def test_a_value_that_cannot_be_is_wrong_usage(command: str, told: str) -> None:
    found = call(*command.split(" "))
    assert (found.returncode, found.stdout) == (2, "")
    assert told in found.stderr
    assert "Traceback" not in found.stderr


def test_version_is_the_package_s_own() -> None:
    found = run("--version")
    assert (found.returncode, found.stdout, found.stderr) == (0, f"refvideo-mcp {__version__}\n", "")


def test_an_unknown_command_is_wrong_usage() -> None:
    found = run("create")
    assert (found.returncode, found.stdout) == (2, "")
    assert "create" in found.stderr
    assert "Traceback" not in found.stderr


def test_schemas_writes_exactly_what_the_repository_holds(tmp_path: Path) -> None:
    """`refvideo-mcp schemas --write tool_schemas` mends a difference; someone reads it in the commit."""
    (tmp_path / "gone_tool.json").write_text("{}")
    found = call("schemas", "--write", str(tmp_path))
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text(encoding="utf-8") for path in TOOL_SCHEMAS.iterdir()}


def test_schemas_alone_prints_them() -> None:
    found = call("schemas")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == "".join(path.read_text(encoding="utf-8") for path in sorted(TOOL_SCHEMAS.iterdir()))


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("REFVIDEO_LOG_LEVEL", "loud", "must be one of debug, info, warning, error, critical"),
        ("REFVIDEO_MAX_WAIT", "soon", "must be a whole number"),
        ("MYROUTER_BASE_URL", "http://router.example", "must be https"),
        ("MYROUTER_BASE_URL", "router", "is not an address"),
        ("MYROUTER_API_KEY", "two words", "holds spaces"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line_that_names_it(setting: str, value: str, told: str) -> None:
    found = call("list", **{setting: value})
    assert (found.returncode, found.stdout) == (2, "")
    assert re.fullmatch(rf"refvideo-mcp: {setting} {told}.*\n", found.stderr)
    if setting == "MYROUTER_API_KEY":
        assert value not in found.stderr


@posix_only
@pytest.mark.parametrize("command", [[], ["serve"]], ids=["no command", "serve"])
def test_a_server_in_a_terminal_says_what_it_is(command: list[str]) -> None:
    """People start it by hand first, and see nothing happen."""
    terminal, its_end = os.openpty()
    try:
        with running(*command, stdin=its_end) as server:
            said = b"".join(pipe(server.stderr).readline() for _ in range(2)).decode()
            server.kill()
            assert pipe(server.stdout).read() == b""
    finally:
        os.close(terminal)
        os.close(its_end)
    assert "an AI client starts it" in said
    assert "refvideo-mcp demo" in said
    assert "refvideo-mcp --help" in said


def test_without_a_terminal_a_server_says_nothing() -> None:
    found = run()
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_stdout_carries_the_protocol_and_nothing_else() -> None:
    with running("serve") as server:
        for garbage in (b"hello", b"{", b"[1, 2]", b"null", b'{"jsonrpc": "2.0"}', b"\xff\xfe\x00", b""):
            pipe(server.stdin).write(garbage + b"\n")
        lines = [initialize(server)]
        rest, _ = server.communicate()
        assert server.returncode == 0
    messages = [json.loads(line) for line in [*lines, *rest.splitlines()]]
    assert all(message["jsonrpc"] == "2.0" for message in messages)
    assert "serverInfo" in {key for message in messages for key in message.get("result", {})}


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_while_stdin_stays_open(number: signal.Signals) -> None:
    """Python's own handler would wait for the thread that reads stdin."""
    with running("serve", "--sandbox") as server:
        assert initialize(server)
        server.send_signal(number)
        assert server.wait(timeout=30) == 128 + number
        assert pipe(server.stderr).read() == b""
