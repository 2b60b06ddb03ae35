"""What callers write where the meaning is plain, through the real tools: written → sent. Guesses are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from fake_router import FakeRouter, process, said, told
from virtual_time import VirtualClock

pytestmark = pytest.mark.anyio

URL = "https://pictures.example/cat.png"
CAT: dict[str, Any] = {"id": "1", "images": [URL]}
CALL: dict[str, Any] = {"prompt": "@1 waves", "subjects": [CAT]}

# What programs add to the arguments of every tool that they call: n8n, SiYuan, Cline, Gemini CLI, Antigravity,
# OpenHands, CrewAI, Cursor.
INJECTED = [
    *("toolCallId", "sessionId", "action", "chatInput", "tool", "_sessionID", "task_progress", "wait_for_previous"),
    *("waitForPreviousTools", "toolAction", "toolSummary", "security_risk", "security_context", "random_string"),
    *("_meta", "user_context"),
]


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ({"subjects": json.dumps([CAT])}, {}),
        ({"subjects": json.dumps(CAT)}, {}),
        ({"subjects": CAT}, {}),
        ({"subjects": [json.dumps(CAT)]}, {}),
        ({"subjects": [{"images": [URL]}]}, {}),
        ({"subjects": [{"id": None, "images": [URL], "voice_id": None}]}, {}),
        ({"subjects": [CAT | {"images": URL}]}, {}),
        ({"subjects": [CAT | {"images": json.dumps([URL])}]}, {}),
        ({"subjects": [CAT | {"id": 1}]}, {}),
        ({"subjects": [CAT | {"id": " @1 "}]}, {}),
        ({"subjects": [CAT | {"id": "@@ 1"}]}, {}),
        (
            {"prompt": "@hero waves", "subjects": [CAT | {"id": "@hero"}]},
            {"prompt": "@hero waves", "subjects": [CAT | {"id": "hero"}]},
        ),
        (
            {"prompt": "@1 @2", "subjects": [{"images": URL}, {"images": URL}]},
            {"prompt": "@1 @2", "subjects": [CAT, CAT | {"id": "2"}]},
        ),
        ({"duration": "7"}, {"duration": 7}),
        ({"duration": 7.0}, {"duration": 7}),
        ({"duration": None}, {}),
        ({"duration": "10s"}, {"duration": 10}),
        ({"duration": " 8 Seconds "}, {"duration": 8}),
        ({"seed": "42"}, {"seed": 42}),
        ({"resolution": "720P"}, {"resolution": "720p"}),
        ({"resolution": " 1080 "}, {"resolution": "1080p"}),
        ({"resolution": 540}, {"resolution": "540p"}),
        ({"aspect_ratio": "16x9"}, {"aspect_ratio": "16:9"}),
        ({"aspect_ratio": " 16 / 09 "}, {"aspect_ratio": "16:9"}),
        ({"aspect_ratio": "16/9"}, {"aspect_ratio": "16:9"}),
        ({"aspect_ratio": "4X3"}, {"aspect_ratio": "4:3"}),
        ({"aspect_ratio": "9\u00d716"}, {"aspect_ratio": "9:16"}),
        ({"aspect_ratio": "9\uff1a16"}, {"aspect_ratio": "9:16"}),
        ({"movement_amplitude": " HIGH "}, {"movement_amplitude": "high"}),
        ({"audio": "true", "bgm": 0, "watermark": "False"}, {"audio": True, "bgm": False, "watermark": False}),
        ({"audio": "yes", "bgm": " No ", "watermark": "on"}, {"audio": True, "bgm": False, "watermark": True}),
        (
            dict.fromkeys(("resolution", "aspect_ratio", "movement_amplitude", "seed", "audio", "bgm", "watermark")),
            {},
        ),
        (dict.fromkeys(("resolution", "aspect_ratio", "movement_amplitude", "seed", "audio", "save_to"), ""), {}),
        ({"subjects": [CAT | {"voice_id": ""}]}, {"subjects": [CAT | {"voice_id": ""}]}),
        *(
            ({"save_to": none}, {})
            for none in ("null", "None", "undefined", '"null"', "false", "${folder}", False, True)
        ),
        (dict.fromkeys(("resolution", "aspect_ratio", "movement_amplitude", "seed", "save_to"), "null"), {}),
        ({"duration": 0, "seed": 0, "audio": False}, {"seed": 0, "audio": False}),
        *(({name: "theirs"}, {}) for name in INJECTED),
    ],
)
async def test_plain_meaning_is_understood_and_sent_exactly(
    tmp_path: Path, written: dict[str, Any], sent: dict[str, Any]
) -> None:
    clock = VirtualClock()
    router = FakeRouter(clock)
    async with clock.passing(), process(router, tmp_path / "ledger.db") as client:
        answer = await client.call_tool("generate_reference_video", CALL | written)
    assert told(answer)["task_id"] == "task-1"
    assert router.posts == [CALL | {"duration": 5} | sent]


@pytest.mark.parametrize(
    ("guess", "allowed"),
    [
        ({"resolution": "HD"}, "one of 540p, 720p, 1080p"),
        ({"resolution": "1280x720"}, "one of 540p, 720p, 1080p"),
        ({"aspect_ratio": "square"}, "such as 16:9, 9:16 or 1:1"),
        ({"aspect_ratio": "1.78"}, "such as 16:9, 9:16 or 1:1"),
        ({"movement_amplitude": "large"}, "one of auto, small, medium, high; for `large` use `high`"),
        ({"duration": "short"}, "a whole number from 1 to 10"),
        ({"duration": "1 minute"}, "a whole number from 1 to 10"),
        ({"duration": True}, "a number, not true or false"),
        ({"audio": "loud"}, "true or false"),
        ({"duration": -1}, "a whole number from 1 to 10"),
        (
            {"subjects": [CAT | {"sessionId": "s"}]},
            "`subjects[0].sessionId` is not an argument; known: id, images, voice_id",
        ),
        ({"subjects": {"cat": URL}}, "`subjects[0].cat` is not an argument"),
        ({"subjects": [CAT | {"images": {"url": URL}}]}, "`subjects[0].images[0]` must be text"),
    ],
)
async def test_a_guess_is_refused_with_what_is_allowed(tmp_path: Path, guess: dict[str, Any], allowed: str) -> None:
    clock = VirtualClock()
    router = FakeRouter(clock)
    async with clock.passing(), process(router, tmp_path / "ledger.db") as client:
        answer = await client.call_tool("generate_reference_video", CALL | guess)
    assert answer.is_error
    assert allowed in said(answer)
    assert said(answer).endswith("Nothing was sent or bought: correct this and try again.")
    assert router.posts == []


@pytest.mark.parametrize(
    ("written", "waited"),
    [
        ({"wait_seconds": "5"}, 5),
        ({"wait_seconds": "5s"}, 5),
        ({"wait_seconds": 5.0}, 5),
        ({"wait_seconds": "3600"}, 50),
        ({"wait_seconds": 3600}, 50),
        ({"wait_seconds": None}, 45),
        ({"wait_seconds": ""}, 45),
        ({"task_id": ' "task-1" '}, 45),
        ({"task_id": "`task-1`"}, 45),
        ({"sessionId": "s", "toolCallId": "t", "task_progress": "- [ ] wait"}, 45),
    ],
)
async def test_a_wait_is_as_long_as_was_meant(tmp_path: Path, written: dict[str, Any], waited: int) -> None:
    clock = VirtualClock()
    router = FakeRouter(clock, takes=500)
    async with clock.passing(), process(router, tmp_path / "ledger.db") as client:
        await client.call_tool("generate_reference_video", CALL)
        answer = await client.call_tool("get_task_result", {"task_id": "task-1"} | written)
    assert told(answer)["state"] == "processing"
    assert clock.steady() == waited


async def test_a_list_is_asked_for_in_any_spelling(tmp_path: Path) -> None:
    clock = VirtualClock()
    router = FakeRouter(clock)
    async with clock.passing(), process(router, tmp_path / "ledger.db") as client:
        for prompt in ("@1 waves", "@1 sings"):
            await client.call_tool("generate_reference_video", CALL | {"prompt": prompt})
            await clock.sleep(0.5)
        answers = [
            await client.call_tool("list_reference_videos", arguments)
            for arguments in (
                {"limit": "1"},
                {"limit": 1000, "state": " Queued "},
                {"limit": None, "state": ""},
                {"limit": 0, "random_string": "x"},
            )
        ]
    assert [[job["task_id"] for job in told(answer)["jobs"]] for answer in answers] == [
        ["task-2"],
        ["task-2", "task-1"],
        ["task-2", "task-1"],
        ["task-2", "task-1"],
    ]


async def test_a_task_id_of_digits_may_come_as_a_number(tmp_path: Path) -> None:
    clock = VirtualClock()
    router = FakeRouter(clock, accepted={"4711": 0.0})
    async with clock.passing(), process(router, tmp_path / "ledger.db") as client:
        answer = await client.call_tool("get_task_result", {"task_id": 4711, "wait_seconds": 0})
    assert told(answer)["task_id"] == "4711"


async def test_an_unfinished_id_is_understood_where_it_can_mean_one_job_only(tmp_path: Path) -> None:
    clock = VirtualClock()
    router = FakeRouter(clock, takes=500)
    key = "engine-0123456789"
    async with clock.passing(), process(router, tmp_path / "ledger.db") as client:
        await client.call_tool("generate_reference_video", CALL | {"idempotency_key": key})
        for written in ("engine-0123", "engine-0123456\u2026", "engine-01234...", f'"{key[:9]}"'):
            answer = await client.call_tool("get_task_result", {"task_id": written, "wait_seconds": 0})
            assert told(answer)["task_id"] == "task-1"
        await client.call_tool("generate_reference_video", CALL | {"idempotency_key": "engine-01234567ab"})
        unclear = await client.call_tool("get_task_result", {"task_id": "engine-0123", "wait_seconds": 0})
        short = await client.call_tool("get_task_result", {"task_id": "engin", "wait_seconds": 0})
        wild = await client.call_tool("get_task_result", {"task_id": "engine_%", "wait_seconds": 0})
    for answer in (unclear, short, wild):
        assert answer.is_error
        assert "does not know the task" in said(answer)
        assert "task-1" in said(answer)
