"""The stdio door, as clients start it: a child process on the sandbox, in both protocol eras."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from mcp import Client, StdioServerParameters
from mcp_types import TextContent
from PIL import Image

from command_line import COMMAND, environment, run, running
from fake_router import files, jobs, result, said, submit
from marker import KEY
from misbehaving_router import MisbehavingRouter
from refvideo_mcp.app import build_server
from refvideo_mcp.settings import Settings

pytestmark = pytest.mark.anyio

ORDER = {"prompt": "@1 hums", "duration": 1, "resolution": "540p", "aspect_ratio": "1:1", "audio": True, "seed": 1}


def on_the_sandbox(folder: Path) -> StdioServerParameters:
    arguments = ["-m", "refvideo_mcp", "serve", "--sandbox", "--output-dir", str(folder / "videos")]
    return StdioServerParameters(command=sys.executable, args=arguments)


async def test_a_sandbox_that_has_forgotten_a_job_says_that_it_forgets(tmp_path: Path) -> None:
    """LangChain's adapter starts a server for every call."""
    Image.new("RGB", (300, 300), "teal").save(tmp_path / "bird.png")
    order = ORDER | {"subjects": [{"images": [str(tmp_path / "bird.png")]}]}
    async with Client(on_the_sandbox(tmp_path)) as client:
        started = await client.call_tool("generate_reference_video", order)
    assert started.structured_content is not None
    task_id = started.structured_content["task_id"]
    async with Client(on_the_sandbox(tmp_path)) as client:
        answer = await client.call_tool("get_task_result", {"task_id": task_id})
    assert answer.is_error
    first = answer.content[0]
    assert isinstance(first, TextContent)
    assert first.text == (
        f"[sandbox] This server's own sandbox does not know the task {task_id}. No job is known here. "
        "Such a sandbox forgets its jobs when its server ends; some clients start one for every call. "
        "Tell the user: keep one session open, or run refvideo-mcp sandbox and set MYROUTER_BASE_URL to it."
    )


def hello(revision: str, name: str = "a script") -> list[dict[str, Any]]:
    """What a client of this protocol revision says first."""
    client = {"name": name, "version": "1"}
    params = {"protocolVersion": revision, "capabilities": {}, "clientInfo": client}
    return [{"id": 1, "method": "initialize", "params": params}, {"method": "notifications/initialized"}]


def talk(*messages: dict[str, Any], **settings: str) -> list[dict[str, Any]]:
    """Send these messages on stdin and return what came on stdout, every line of which must be a message."""
    sent = "".join(json.dumps({"jsonrpc": "2.0"} | message) + "\n" for message in messages)
    with subprocess.Popen(
        [*COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**settings),
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(sent)
        server.stdin.flush()
        wanted = sum("id" in message for message in messages)
        answers = [json.loads(server.stdout.readline()) for _ in range(wanted)]
        server.stdin.close()
        assert server.stdout.read() == ""
    return answers


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_a_client_of_every_revision_is_served(revision: str) -> None:
    served, listed = talk(*hello(revision), {"id": 2, "method": "tools/list"})
    assert served["result"]["protocolVersion"] == revision
    assert len(served["result"]["instructions"].split()) <= 120
    assert [tool["name"] for tool in listed["result"]["tools"]] == [
        "generate_reference_video",
        "get_task_result",
        "list_reference_videos",
    ]


@pytest.mark.parametrize(
    ("revision", "name", "kinds"),
    [
        ("2025-03-26", "claude-ai", ["text"]),
        ("2025-06-18", "claude-ai", ["text", "resource_link"]),
        ("2025-11-25", "Visual Studio Code", ["text", "resource_link"]),
        ("2025-11-25", "mcp", ["text"]),  # what the official Python kit calls itself, below most agent frameworks
    ],
)
async def test_a_saved_file_is_linked_for_clients_that_are_known_to_show_such_links(
    tmp_path: Path, revision: str, name: str, kinds: list[str]
) -> None:
    """Others lose the whole answer to a kind of content that they do not know what to do with."""
    look = {"name": "get_task_result", "arguments": {"task_id": "task-1"}}
    async with MisbehavingRouter() as router:
        router.accepted.append("task-1")
        settings = {
            "MYROUTER_API_KEY": KEY,
            "MYROUTER_BASE_URL": router.url,
            "REFVIDEO_OUTPUT_DIR": str(tmp_path / "videos"),
            "REFVIDEO_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
        }
        call = {"id": 2, "method": "tools/call", "params": look}
        _, found = await anyio.to_thread.run_sync(lambda: talk(*hello(revision, name), call, **settings))
    assert [block["type"] for block in found["result"]["content"]] == kinds
    assert len(list((tmp_path / "videos").iterdir())) == 1


async def test_one_request_sent_three_times_under_one_id_is_one_job(tmp_path: Path) -> None:
    """Three takes are three requests, each with an id of its own."""
    order = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}

    def calls(*ids: int) -> list[dict[str, Any]]:
        call = {"method": "tools/call", "params": {"name": "generate_reference_video", "arguments": order}}
        return [call | {"id": number} for number in ids]

    async with MisbehavingRouter() as router:
        router.answer_delay = (0.5, 0.5)
        settings = {"MYROUTER_API_KEY": KEY, "MYROUTER_BASE_URL": router.url, "REFVIDEO_OUTPUT_DIR": "off"}
        found: list[set[str]] = []
        for number, ids in enumerate([(2, 2, 2), (2, 3, 4)]):
            database = {"REFVIDEO_DATABASE_URL": f"sqlite:///{tmp_path / str(number)}.db"}
            messages = [*hello("2025-11-25"), *calls(*ids)]
            _, *answers = await anyio.to_thread.run_sync(partial(talk, *messages, **settings, **database))
            found.append({answer["result"]["structuredContent"]["task_id"] for answer in answers})
    assert [len(jobs) for jobs in found] == [1, 3]
    assert len(router.posts) == 4


def test_logs_that_nobody_reads_stop_nothing() -> None:
    """Some clients open a pipe for stderr and never read it: once it is full, a write to it never ends."""
    call = {"method": "tools/call", "params": {"name": "no such tool", "arguments": {}}}
    with running("serve", "--sandbox", settings={"REFVIDEO_LOG_LEVEL": "debug"}) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stderr is not None
        for message in hello("2025-11-25"):
            server.stdin.write(json.dumps({"jsonrpc": "2.0"} | message).encode() + b"\n")
        server.stdin.flush()
        server.stdout.readline()
        for number in range(2, 1502):
            server.stdin.write(json.dumps({"jsonrpc": "2.0", "id": number} | call).encode() + b"\n")
            server.stdin.flush()
            assert json.loads(server.stdout.readline())["id"] == number
        server.stdin.close()
        assert server.wait(30) == 0
        said = server.stderr.read()
    assert len(said) > 60_000, "more than a pipe holds has to be said, or this shows nothing"


LOGS = """
import logging
from refvideo_mcp.logs import logging_to_stderr
from refvideo_mcp.settings import Settings

with logging_to_stderr(Settings()):
    """


def test_a_late_reader_is_told_how_much_was_left_out() -> None:
    program = f"{LOGS} [logging.warning('word %d', n) for n in range(5000)]; print('all', flush=True); input(); "
    program += "logging.warning('the end')"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "all\n"
        _, said = process.communicate("\n", timeout=60)
    left_out = [int(number) for number in re.findall(r"^\((\d+) log lines were not read", said, re.MULTILINE)]
    assert left_out
    assert said.count(": word ") + said.count(": the end") + sum(left_out) == 5001


def test_the_last_words_before_the_end_are_still_said() -> None:
    program = f"{LOGS} [logging.warning('word %d', n) for n in range(500)]"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert [line.split()[-1] for line in found.stderr.splitlines()] == [str(n) for n in range(500)]


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("MYROUTER_BASE_URL", "http://router.example", "must be https (http only for this machine), or the key could"),
        ("MYROUTER_API_KEY", "two words", "holds spaces or characters that no key has: copy it again"),
        ("REFVIDEO_CONFIRM", "sometimes", "must be never, always or above:SECONDS, such as above:5"),
        ("REFVIDEO_LOG_LEVEL", "loud", "must be one of debug, info, warning, error, critical"),
        ("REFVIDEO_MAX_OPEN_JOBS", "many", "must be a whole number, from 0"),
        (
            "REFVIDEO_OUTPUT_DIR",
            "${workspaceFolder}/clips",
            "(${workspaceFolder}/clips) holds ${workspaceFolder}, which",
        ),
        ("REFVIDEO_MEDIA_STORE", "my-bucket", "must be s3://bucket or s3://bucket/prefix"),
    ],
)
async def test_a_setting_that_cannot_be_used_takes_no_tool_away_and_is_told_by_every_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, told: str
) -> None:
    """A client shows a server that has ended as one without tools, and nobody reads why."""
    monkeypatch.setenv("HOME", str(tmp_path))
    async with Client(build_server(Settings.to_serve({"MYROUTER_API_KEY": KEY, setting: value}))) as client:
        assert len((await client.list_tools()).tools) == 3
        answers = [await submit(client), await result(client), await jobs(client)]
    for answer in answers:
        assert answer.is_error
        assert said(answer).startswith(f"{setting} {told}")
        assert said(answer).endswith(
            " Nothing was sent or bought. Ask the user to correct it in this server's configuration and restart it."
        )
    assert await files(tmp_path) == []


def test_all_settings_that_cannot_be_used_are_told_on_stderr_at_once() -> None:
    found = run("serve", MYROUTER_BASE_URL="http://router.example", REFVIDEO_MAX_WAIT="soon")
    assert (found.returncode, found.stdout) == (0, "")
    assert found.stderr == (
        "refvideo-mcp: MYROUTER_BASE_URL must be https (http only for this machine), or the key could be read. "
        "REFVIDEO_MAX_WAIT must be a whole number, from 1.\n"
    )
