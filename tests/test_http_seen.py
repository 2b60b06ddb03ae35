"""What the operator of an HTTP server sees of its calls, and what belongs to callers alone."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from http_server import HttpServer, calling_with
from marker import KEY
from misbehaving_router import MisbehavingRouter
from refvideo_mcp.doors.tokens import digest_of, new_token

pytestmark = pytest.mark.anyio

LINKED = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://pictures.example/cat.png"]}]}


def tokens(home: Path, *names: str) -> dict[str, str]:
    made = {name: new_token() for name in names}
    (home / "tokens").write_text("".join(f"{name} = sha256:{digest_of(token)}\n" for name, token in made.items()))
    return made


async def test_every_call_is_a_line_of_json_without_what_it_is_about(tmp_path: Path) -> None:
    token = tokens(tmp_path, "alice")["alice"]
    settings = {"REFVIDEO_TOKENS_FILE": str(tmp_path / "tokens"), "REFVIDEO_LOG_LEVEL": "info"}
    settings["REFVIDEO_LOG_FORMAT"] = "json"
    async with (
        MisbehavingRouter() as router,
        HttpServer.running(tmp_path, router.url, "--auth", "tokens", **settings) as server,
        calling_with(server.url, token) as client,
    ):
        await client.call_tool("generate_reference_video", LINKED)
        await client.call_tool("get_task_result", {"task_id": "task-404"})
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http:
            made_up = {"jsonrpc": "2.0", "id": 1, "method": "made/up", "params": {}}
            await http.post(server.url, json=made_up, headers={"Accept": "application/json, text/event-stream"})
        stderr = await server.says('"outcome": "error -32601"')
    lines = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    calls = [line for line in lines if line["logger"] == "refvideo_mcp.calls" and line["method"] == "tools/call"]
    assert [{name: call.get(name) for name in ("account", "tool", "task_id", "outcome")} for call in calls] == [
        {"account": "alice", "tool": "generate_reference_video", "task_id": "task-1", "outcome": "queued"},
        {"account": "alice", "tool": "get_task_result", "task_id": None, "outcome": "refused"},
    ]
    assert "made/up" not in stderr
    assert all(0 <= call["seconds"] < 30 and call["level"] == "info" and call["time"] for call in calls)
    assert [secret for secret in (token, KEY, "waves", "cat.png") if secret in stderr] == []


def asked(arguments: dict[str, Any], **again: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """A call of a client of 2026-07-28 that can ask its user, and the headers that go with it."""
    prefix, tool = "io.modelcontextprotocol", "generate_reference_video"
    meta = {
        f"{prefix}/protocolVersion": "2026-07-28",
        f"{prefix}/clientInfo": {"name": "a script", "version": "1"},
        f"{prefix}/clientCapabilities": {"elicitation": {"form": {}}},
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta, **again}
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool}
    headers |= {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, headers


async def post(url: str, token: str, call: tuple[dict[str, Any], dict[str, str]]) -> dict[str, Any]:
    async with httpx2.AsyncClient(timeout=60) as http:
        answer = await http.post(url, json=call[0], headers=call[1] | {"Authorization": f"Bearer {token}"})
    data = [line[5:] for line in answer.text.splitlines() if line.startswith("data:")] or [answer.text]
    found: dict[str, Any] = json.loads(data[-1])
    return found


async def test_a_confirmation_counts_at_every_server_of_one_secret_and_for_its_own_account(tmp_path: Path) -> None:
    token = tokens(tmp_path, "alice", "bob")
    settings = {"REFVIDEO_TOKENS_FILE": str(tmp_path / "tokens"), "REFVIDEO_CONFIRM": "always"}
    for name in ("first", "second", "stranger"):
        (tmp_path / name).mkdir()
    options = ("--auth", "tokens")
    async with (
        MisbehavingRouter() as router,
        HttpServer.running(tmp_path / "first", router.url, *options, **settings, REFVIDEO_SECRET="s" * 32) as first,
        HttpServer.running(tmp_path / "second", router.url, *options, **settings, REFVIDEO_SECRET="s" * 32) as second,
        HttpServer.running(tmp_path / "stranger", router.url, *options, **settings) as stranger,
    ):
        question = (await post(first.url, token["alice"], asked(LINKED)))["result"]
        said_yes = {name: {"action": "accept", "content": {"buy": True}} for name in question["inputRequests"]}
        answer = asked(LINKED, inputResponses=said_yes, requestState=question["requestState"])
        for_another = await post(second.url, token["bob"], answer)
        elsewhere = await post(stranger.url, token["alice"], answer)
        bought_before = len(router.posts)
        bought = await post(second.url, token["alice"], answer)
    assert question["resultType"] == "input_required"
    assert ("error" in for_another, "error" in elsewhere, bought_before) == (True, True, 0)
    assert bought["result"]["structuredContent"]["task_id"] == "task-1"
