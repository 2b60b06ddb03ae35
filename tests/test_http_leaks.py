"""Two accounts of one server: whatever one of them asks about the other's jobs, it learns as much as about none.

What is asked is made from what the server lists, so that a tool or an argument that is added later is asked for, too.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp_types import PromptReference

from fake_router import said, told
from http_server import HttpServer, calling_with
from misbehaving_router import MisbehavingRouter
from pictures import data_uri, saved, scene
from player_host import SHOWS_APPS
from refvideo_mcp.doors.tokens import digest_of, new_token
from refvideo_mcp.ledger import Ledger
from task_client import TakesTasks, ask

pytestmark = pytest.mark.anyio

PICTURE = "https://pictures.example/quuxly.png"
PROMPT = "@zorblax dances on the wibblemoor"
BOUGHT = {"prompt": PROMPT, "subjects": [{"id": "zorblax", "images": [PICTURE]}]}
BOBS = {"prompt": "@1 naps", "subjects": [{"images": ["https://pictures.example/cat.png"]}]}
KEPT = {"id": "mothball", "images": [data_uri(saved(scene(), "PNG"))], "remember": True}
SLOWED_DOWN = "Server returned an error response"  # how the client tells of HTTP 429
SECRETS = ("zorblax", "wibblemoor", "quuxly", "mothball", "alice")
# What a call needs beside the argument that is tried.
NEEDED: dict[str, dict[str, Any]] = {
    "generate_reference_video": BOBS,
    "get_task_result": {"task_id": "task-404", "wait_seconds": 0},
    "read_video_piece": {"task_id": "task-404", "offset": 0},
    "list_reference_videos": {},
    "add_pictures": {
        "upload": "page-1",
        "subject": "fox",
        "pictures": [{"name": "fox.png", "size": 3}],
        "data": "Zm94",
    },
}


@dataclass
class Place:
    """`tasks` is bob, too. `handles` call jobs of alice by some name, each beside a like of it that calls none."""

    url: str
    router: MisbehavingRouter
    alice: Client
    bob: Client
    tasks: Client
    handles: dict[str, tuple[str, str]]

    @classmethod
    @asynccontextmanager
    async def open(cls, home: Path) -> AsyncIterator["Place"]:
        tokens = {name: new_token() for name in ("alice", "bob")}
        (home / "tokens").write_text("".join(f"{name} = sha256:{digest_of(t)}\n" for name, t in tokens.items()))
        settings = {"REFVIDEO_TOKENS_FILE": str(home / "tokens"), "REFVIDEO_OUTPUT_DIR": str(home / "videos")}
        settings["REFVIDEO_DATA_DIR"] = str(home / "data")
        settings |= {"REFVIDEO_MAX_OPEN_JOBS": "0", "REFVIDEO_MAX_SECONDS_PER_DAY": "0"}
        async with (
            MisbehavingRouter() as router,
            HttpServer.running(home, router.url, "--auth", "tokens", **settings) as server,
            calling_with(server.url, tokens["alice"], extensions=[SHOWS_APPS]) as alice,
            calling_with(server.url, tokens["bob"], extensions=[SHOWS_APPS]) as bob,
            calling_with(server.url, tokens["bob"], extensions=[TakesTasks()]) as tasks,
        ):
            router.task_prefix = "6f3c8f0e-"
            await alice.call_tool("generate_reference_video", BOUGHT | {"idempotency_key": "zorblax-at-noon-1"})
            await alice.call_tool("get_task_result", {"task_id": "6f3c8f0e-1"})
            router.polls_until_done = None
            kept = await alice.call_tool("generate_reference_video", {"prompt": "@mothball", "subjects": [KEPT]})
            assert not kept.is_error, said(kept)
            await alice.call_tool("generate_reference_video", BOUGHT | {"prompt": f"{PROMPT} again"})
            ledger = Ledger(server.ledger)
            try:
                done, going = (ledger.find(f"alice@{router.url[7:]}", f"6f3c8f0e-{number}") for number in (1, 3))
            finally:
                ledger.close()
            assert done is not None
            assert going is not None
            assert done.key is not None
            assert going.key is not None
            assert done.saved_to is not None
            handles = {
                "the id of a finished job": ("6f3c8f0e-1", "6f3c8f0e-8"),
                "the id of one under way": ("6f3c8f0e-3", "6f3c8f0e-9"),
                "the key she gave": (done.key, "zorblax-at-noon-2"),
                "the key she got": (going.key, f"job-{'0' * 32}"),
                "the ledger's own id": (done.id, "0" * 32),
                "the beginning of an id": ("6f3c8f0e", "7f3c8f0e"),
                "the beginning of a key": (going.key[:12], "job-00000000"),
                "a word of the prompt": ("wibblemoor", "wobblemoor"),
                "the name of a subject": ("zorblax", "zarblax"),
                "it with its mark": ("@zorblax", "@zarblax"),
                "the address of a picture": (PICTURE, PICTURE.replace("quuxly", "quaxly")),
                "the link": (router.video_url("6f3c8f0e-1"), router.video_url("6f3c8f0e-8")),
                "the file": (done.saved_to, done.saved_to.replace("zorblax", "zarblax")),
                "the name of one in her cast": ("mothball", "mithball"),
                "the name of her account": ("alice", "alicf"),
                "the ledger's name of it": (done.account, done.account.replace("alice", "alicf")),
            }
            yield cls(server.url, router, alice, bob, tasks, handles)


def learned(answer: str, handle: str) -> str:
    """An answer without what was asked, which it may repeat, or the beginning of it."""
    for end in (len(handle), *range(len(handle) - 1, 19, -1)):
        answer = answer.replace(json.dumps(handle[:end])[1:-1], "…").replace(handle[:end], "…")
    return answer


def arguments_of(tool: Any) -> Iterator[str]:
    """The arguments that take words."""
    for name, schema in tool.input_schema["properties"].items():
        if schema.get("type") == "string":
            yield name


async def answer(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    while True:
        try:
            return (await client.call_tool(tool, arguments)).model_dump_json()
        except MCPError as error:
            if str(error) != SLOWED_DOWN:
                return str(error)
        await anyio.sleep(1)  # another process counts them


async def test_no_tool_tells_of_another_account_s_job_by_any_of_its_names(tmp_path: Path) -> None:
    asked, told_apart, leaks = 0, [], []
    async with Place.open(tmp_path) as place:
        tools = (await place.bob.list_tools()).tools
        assert {tool.name for tool in tools} == NEEDED.keys()
        place.router.task_prefix = "bob-"
        his = told(await place.bob.call_tool("generate_reference_video", BOBS))
        his = told(await place.bob.call_tool("get_task_result", {"task_id": his["task_id"], "wait_seconds": 0}))
        assert his["state"] == "processing"  # there is no news of it from then on
        # What is bought meanwhile has her words in it, and is in bob's own list from then on.
        for tool in sorted(tools, key=lambda tool: tool.name == "generate_reference_video"):
            reads = tool.annotations is not None and tool.annotations.read_only_hint
            for argument in arguments_of(tool):
                for what, (handle, like) in place.handles.items():
                    answers = [
                        learned(await answer(place.bob, tool.name, NEEDED[tool.name] | {argument: name}), name)
                        for name in (handle, like)
                    ]
                    asked += 1
                    leaks += [(tool.name, argument, what) for secret in SECRETS if secret in answers[0]]
                    # What writes says what it wrote, another thing each time.
                    if reads and answers[0] != answers[1]:
                        told_apart.append((tool.name, argument, what, *answers))
        lent = [
            learned(await answer(place.bob, "generate_reference_video", BOBS | {"subjects": [{"id": name}]}), name)
            for name in place.handles["the name of one in her cast"]
        ]
        subjects = [{"id": "mothball"}, {"id": "@mothball"}, {"id": "mothball", "images": ["mothball"]}]
        for subject in subjects:
            leaks += [
                ("subjects", str(subject), secret)
                for secret in ("zorblax", "wibblemoor", "quuxly", "alice")
                if secret
                in await answer(
                    place.bob, "generate_reference_video", BOBS | {"prompt": "@mothball", "subjects": [subject]}
                )
            ]
        hers = told(await place.alice.call_tool("list_reference_videos", {"limit": 50}))["jobs"]
    assert (leaks, told_apart) == ([], [])
    assert asked >= 100
    assert lent[0] == lent[1]
    assert [job["task_id"] for job in hers] == ["6f3c8f0e-3", "6f3c8f0e-2", "6f3c8f0e-1"]


async def test_another_account_s_task_is_none_and_stays_as_it_is(tmp_path: Path) -> None:
    async with Place.open(tmp_path) as place:
        told_apart = []
        for what, names in place.handles.items():
            for method in ("tasks/get", "tasks/update", "tasks/cancel"):
                refusals = []
                for name in names:
                    with pytest.raises(MCPError) as refusal:
                        await ask(place.tasks, method, name)
                    refusals.append((refusal.value.code, learned(str(refusal.value), name)))
                if refusals[0] != refusals[1] or any(secret in refusals[0][1] for secret in SECRETS):
                    told_apart.append((what, method, refusals))
        hers = await place.alice.call_tool("get_task_result", {"task_id": "6f3c8f0e-3", "wait_seconds": 0})
    assert told_apart == []
    assert "ancel" not in said(hers)


async def test_no_resource_prompt_or_completion_tells_of_them(tmp_path: Path) -> None:
    async with Place.open(tmp_path) as place:
        seen = [
            (await place.bob.list_resources()).model_dump_json(),
            (await place.bob.list_resource_templates()).model_dump_json(),
            (await place.bob.list_prompts()).model_dump_json(),
        ]
        listed = [str(resource.uri) for resource in (await place.bob.list_resources()).resources]
        completed = list[str]()
        templates = [one.uri_template for one in (await place.bob.list_resource_templates()).resource_templates]
        for handle, _ in place.handles.values():
            for uri in (*listed, *templates, f"refvideo://jobs/{handle}", f"file://{handle}", handle):
                with suppress(MCPError, ValueError):
                    found = (await place.bob.read_resource(uri.split("{")[0] + handle * ("{" in uri))).model_dump_json()
                    seen.append(learned(found, handle))
        for prompt in (await place.bob.list_prompts()).prompts:
            given = {argument.name: "zorblax" for argument in prompt.arguments or []}
            found = (await place.bob.get_prompt(prompt.name, given)).model_dump_json()
            seen.append(learned(found, "zorblax"))
            for argument in given:
                asked = PromptReference(type="ref/prompt", name=prompt.name), {"name": argument, "value": "@mo"}
                seen.append((await place.bob.complete(*asked)).model_dump_json())
                if "mothball" in (await place.alice.complete(*asked)).model_dump_json():
                    completed.append(argument)
        assert "mothball" in (await place.alice.read_resource("refvideo://cast")).model_dump_json()
        assert completed
    assert [text for text in seen for secret in SECRETS if secret in text] == []


async def test_news_of_a_finished_video_is_its_account_s_alone(tmp_path: Path) -> None:
    async with Place.open(tmp_path) as place:
        place.router.finish("6f3c8f0e-3")
        await place.alice.call_tool("get_task_result", {"task_id": "6f3c8f0e-1"})
        asked = [said(await place.bob.call_tool("list_reference_videos", {})) for _ in range(3)]
        assert [text for text in asked if "more video" in text] == []
        hers = await place.alice.call_tool("get_task_result", {"task_id": "6f3c8f0e-3"})
    assert told(hers)["state"] == "succeeded"
