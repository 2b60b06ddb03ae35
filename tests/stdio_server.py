"""The real stdio server as a child process that a test can signal and kill, and a client's way to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from server_process import ServerProcess, started

__all__ = ["StdioServer"]

Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


class StdioServer(ServerProcess):
    @classmethod
    @asynccontextmanager
    async def running(cls, home: Path, router_url: str, **settings: str) -> AsyncIterator["StdioServer"]:
        """Without limits, saving nothing; killed at the end of the block, if it still runs."""
        env = {
            "REFVIDEO_OUTPUT_DIR": "off",
            "REFVIDEO_PREVIEW": "off",
            "REFVIDEO_MAX_SECONDS_PER_DAY": "0",
            "REFVIDEO_MAX_OPEN_JOBS": "0",
            "REFVIDEO_LOG_LEVEL": "debug",
        }
        async with started(home, router_url, **env | settings) as process:
            yield cls(home, process)

    @asynccontextmanager
    async def pipes(self) -> AsyncIterator[Streams]:
        """A transport for `mcp.Client`; unlike the SDK's own, it leaves stdin open at its end."""
        to_client, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        to_server, from_client = anyio.create_memory_object_stream[SessionMessage](0)
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None

        async def read() -> None:
            line = b""
            async with to_client:
                async for chunk in stdout:
                    with (self.home / "stdout").open("ab") as said:
                        said.write(chunk)
                    *lines, line = (line + chunk).split(b"\n")
                    for whole in lines:
                        with suppress(anyio.BrokenResourceError):  # the client has gone: nobody waits for it any more
                            await to_client.send(SessionMessage(jsonrpc_message_adapter.validate_json(whole)))

        async def write() -> None:
            async with from_client:
                async for message in from_client:
                    json = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                    try:
                        await stdin.send(json.encode() + b"\n")
                    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                        return

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            tasks.start_soon(write)
            yield from_server, to_server
            tasks.cancel_scope.cancel()
        from_server.close()
        to_server.close()
