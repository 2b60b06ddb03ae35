"""The main job as a user's client does it: the real server as a child process, spoken to with the SDK's client."""

import base64
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import anyio
import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import CallToolResult, Implementation

from refvideo_mcp import __version__
from refvideo_mcp.cli.console import Console
from refvideo_mcp.cli.demo import Failed
from refvideo_mcp.errors import clean
from refvideo_mcp.sandbox import Sandbox

__all__ = ["preview_of", "talk", "talk_through_a_crash"]

LONGEST_CALL_SECONDS = 90.0
LONGEST_JOB_SECONDS = 300.0

# What the server needs of our environment beyond the SDK's own short list. No key, and no REFVIDEO_ setting.
PASSED_ON = ("PYTHONPATH", "TMPDIR")

# The SDK keeps the child's process id to itself.
TELLING_ITS_PID = (
    "import os, runpy, sys; open(sys.argv.pop(1), 'w').write(str(os.getpid())); "
    "runpy.run_module('refvideo_mcp', run_name='__main__', alter_sys=True)"
)


async def talk(order: dict[str, Any], folders: Sequence[Path], out: Path, console: Console, log: TextIO) -> Path:
    """Start the server on its own sandbox, call both tools, and return where the video is.

    Pictures may come from `folders`: whoever named one on the command line allowed it.
    """
    arguments = ["serve", "--sandbox", "--output-dir", str(out)]
    async with _server(arguments, _allowing(folders), console, log) as client:
        job = await _submitted(client, order, console)
        return await _waited(client, job, console)


async def talk_through_a_crash(
    order: dict[str, Any], folders: Sequence[Path], out: Path, console: Console, log: TextIO
) -> Path:
    """The same, but the server is killed once the job is bought, and the next one knows nothing but its ledger."""
    with Sandbox() as sandbox, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        state = Path(folder)
        settings = {
            "MYROUTER_API_KEY": "demo",
            "MYROUTER_BASE_URL": sandbox.url,
            "REFVIDEO_DATABASE_URL": f"sqlite:///{state / 'ledger.db'}",
            "XDG_CACHE_HOME": folder,
            "XDG_STATE_HOME": folder,
            **_allowing(folders),
        }
        arguments, pid_file = ["serve", "--output-dir", str(out)], state / "pid"
        with suppress(MCPError):  # of a server that is gone
            async with _server(arguments, settings, console, log, pid_file) as client:
                await _submitted(client, order, console)
                pid = int(pid_file.read_text())
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
                console.done("kill -9", f"{pid}: the server is gone, the agent has lost the task id")
        async with _server(arguments, settings, console, log) as client:
            found = _answer(await client.call_tool("list_reference_videos", {"limit": 1}))["jobs"][0]
            console.done("list_reference_videos", f"the ledger knows it: {found['task_id']}")
            video = await _waited(client, found, console)
        async with httpx2.AsyncClient(trust_env=False) as http:  # the sandbox is here: no proxy
            counted = (await http.get(f"{sandbox.url}/sandbox/stats")).json()
        console.done("the sandbox counted", f"POSTs: {counted['submits']}, jobs: {counted['accepted']}")
        return video


def _allowing(folders: Sequence[Path]) -> dict[str, str]:
    return {"REFVIDEO_IMAGE_DIRS": os.pathsep.join(map(str, folders))}


def preview_of(video: Path) -> Path:
    """Where the picture strip goes that came with a video."""
    return video.with_suffix(".jpg")


@asynccontextmanager
async def _server(
    arguments: list[str], settings: dict[str, str], console: Console, log: TextIO, pid_file: Path | None = None
) -> AsyncIterator[Client]:
    """The real server as a child process, connected to as a user's client would."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    start = ["-c", TELLING_ITS_PID, str(pid_file)] if pid_file else ["-m", "refvideo_mcp"]
    server = StdioServerParameters(command=sys.executable, args=["-P", *start, *arguments], env=passed_on | settings)
    client = Client(
        stdio_client(server, errlog=log),
        read_timeout_seconds=LONGEST_CALL_SECONDS,
        client_info=Implementation(name="refvideo-mcp demo", version=__version__),
    )
    async with AsyncExitStack() as stack:
        with console.waiting("server"):
            await stack.enter_async_context(client)
        console.done("server", f"refvideo-mcp {' '.join(arguments[:-2])}, MCP {client.protocol_version}")
        yield client


async def _submitted(client: Client, order: dict[str, Any], console: Console) -> dict[str, Any]:
    with console.waiting("generate_reference_video"):
        job = _answer(await client.call_tool("generate_reference_video", order))
    console.done("generate_reference_video", f'"{clean(order["prompt"], 100)}"')
    return job


async def _waited(client: Client, job: dict[str, Any], console: Console) -> Path:
    started = time.monotonic()
    with console.waiting("get_task_result") as show:

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            show(message or f"{progress:.0f} s")

        done = False
        while not done:
            if time.monotonic() - started > LONGEST_JOB_SECONDS:
                raise Failed(f"job {job['task_id']} is still {job['state']} after {LONGEST_JOB_SECONDS:.0f} s.")
            question = {"task_id": job["task_id"]}
            result = await client.call_tool("get_task_result", question, progress_callback=on_progress)
            job = _answer(result)
            done = job["state"] == "succeeded"
    console.done("get_task_result", f"succeeded after {time.monotonic() - started:.0f} s")
    saved = job["videos"][0].get("saved_to")
    if saved is None:
        raise Failed(f"the video could not be saved: {job['next_step']}")
    for picture in (part for part in result.content if part.type == "image"):
        await anyio.Path(preview_of(Path(saved))).write_bytes(base64.b64decode(picture.data))
    return Path(saved)


def _answer(result: CallToolResult) -> dict[str, Any]:
    """The structured content of a tool's answer."""
    if result.is_error or result.structured_content is None:
        raise Failed(" ".join(part.text for part in result.content if part.type == "text"))
    content: dict[str, Any] = result.structured_content
    return content
