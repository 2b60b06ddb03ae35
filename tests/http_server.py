"""The real HTTP server as a child process, on a port of its own choice."""

import re
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
from anyio.abc import Process
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from command_line import environment
from server_process import ServerProcess, started

__all__ = ["HttpServer", "calling_with", "serving"]


@asynccontextmanager
async def calling_with(url: str, token: str, **options: Any) -> AsyncIterator[Client]:
    """A client that shows a token."""
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http), **options) as client,
    ):
        yield client


@contextmanager
def serving(*command: str, **settings: str) -> Iterator[str]:
    """A server as a child process, by the address that it prints first, on stdout or stderr."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(**settings), text=True
    ) as server:
        assert server.stdout is not None
        first = server.stdout.readline()
        rest = threading.Thread(target=server.stdout.read, daemon=True)  # a full pipe would stop the server
        rest.start()
        try:
            address = re.search(r"http://\S+/mcp", first)
            assert address, first
            yield address[0]
        finally:
            server.kill()
            rest.join()


class HttpServer(ServerProcess):
    def __init__(self, home: Path, process: Process, url: str) -> None:
        super().__init__(home, process)
        self.url = url

    @classmethod
    @asynccontextmanager
    async def running(cls, home: Path, router_url: str, *options: str, **settings: str) -> AsyncIterator["HttpServer"]:
        """Killed at the end of the block, if it still runs."""
        async with started(home, router_url, "serve", "--http", "--port", "0", *options, **settings) as process:
            yield cls(home, process, await _address(home / "stderr", process))

    async def says(self, text: str) -> str:
        """What it has said on stderr, once the text is in it."""
        return await _said(self.home / "stderr", self.process, text)


async def _address(stderr: Path, process: Process) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+/mcp", await _said(stderr, process, "/mcp"))
    assert found
    return found[0]


async def _said(stderr: Path, process: Process, text: str) -> str:
    with anyio.fail_after(30):
        while text not in (said := await anyio.Path(stderr).read_text(encoding="utf-8")):
            assert process.returncode is None, said
            await anyio.sleep(0.02)
    return said
