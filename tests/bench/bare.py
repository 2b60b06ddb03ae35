"""The baselines: the SDK, and nothing that is not needed. `bare.py KIND` speaks on stdio, `bare.py KIND PORT` HTTP."""

import json
import os
import sys
import uuid
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel

server = MCPServer("bare", log_level="WARNING")  # ours logs no requests either


class Answer(BaseModel):
    task_id: str
    state: str
    next_step: str
    seed: int | None = None
    videos: list[dict[str, Any]] | None = None


def trivial() -> None:
    @server.tool()
    def hello() -> str:
        """Say hello."""
        return "hello"


def answer() -> None:
    """A tool whose answer, text and structure, is the one in the file BARE_ANSWER."""
    given = json.loads(Path(os.environ["BARE_ANSWER"]).read_text(encoding="utf-8"))

    @server.tool()
    async def get_task_result(task_id: str) -> Annotated[CallToolResult, Answer]:
        """Look up a job."""
        return CallToolResult(
            content=[TextContent(type="text", text=given["text"])], structured_content=given["structure"] | {}
        )


def submit() -> None:
    """The least that a careful submit is: a durable row, a POST on a fresh connection, the outcome durable too.

    A picture by its path is read, decoded once to see that it is one, and sent as base64.
    """
    import base64
    import sqlite3

    import httpx2

    ledger = sqlite3.connect(os.environ["BARE_LEDGER"], isolation_level=None)
    ledger.execute("PRAGMA journal_mode=WAL")
    ledger.execute("PRAGMA synchronous=FULL")
    ledger.execute("CREATE TABLE IF NOT EXISTS jobs (id PRIMARY KEY, body, task)")
    client = httpx2.AsyncClient(limits=httpx2.Limits(max_keepalive_connections=0))
    url = os.environ["MYROUTER_BASE_URL"] + "/v3/async/vidu-q2-reference2video"

    def inline(image: str) -> str:
        if image.startswith("https:"):
            return image
        from PIL import Image

        Image.open(image).load()
        return "data:image/png;base64," + base64.b64encode(Path(image).read_bytes()).decode()

    @server.tool()
    async def generate_reference_video(
        prompt: str, subjects: list[dict[str, Any]], duration: int = 5
    ) -> Annotated[CallToolResult, Answer]:
        """Start a job."""
        job = uuid.uuid4().hex
        ledger.execute("INSERT INTO jobs VALUES (?, ?, NULL)", (job, json.dumps([prompt, subjects, duration])))
        sent = [subject | {"images": [*map(inline, subject["images"])]} for subject in subjects]
        body = {"prompt": prompt, "subjects": sent, "duration": duration}
        reply = await client.post(url, json=body, headers={"Authorization": "Bearer key"})
        task = reply.json()["task_id"]
        ledger.execute("UPDATE jobs SET task = ? WHERE id = ?", (task, job))
        told = Answer(task_id=task, state="queued", next_step="Call get_task_result.")
        return CallToolResult(
            content=[TextContent(type="text", text=f"Job {task} is queued. {told.next_step}")],
            structured_content=told.model_dump(mode="json", exclude_none=True),
        )


def save() -> None:
    """A stream to disk, synced."""
    import httpx2

    @server.tool()
    async def fetch(url: str, to: str) -> str:
        """Save what a URL leads to."""
        async with httpx2.AsyncClient() as client, client.stream("GET", url) as response:
            with Path(to).open("wb") as file:  # noqa: ASYNC230  # the bare way: nothing else runs here
                async for chunk in response.aiter_bytes():
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        return to


if __name__ == "__main__":
    kind, *port = sys.argv[1:]
    {"trivial": trivial, "answer": answer, "submit": submit, "save": save}[kind]()
    if port:
        server.run("streamable-http", port=int(port[0]), stateless_http=True)
    else:
        server.run()
