"""The schemas: what a request may hold, is warned about, forgiven and sent, and what answers are read as."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refvideo_mcp.errors import Refused
from refvideo_mcp.schemas import (
    GenerateCall,
    JobAnswer,
    JobList,
    ListCall,
    ReferenceVideoRequest,
    ResultCall,
    Subject,
    TaskResult,
    TaskVideo,
    portable_schema,
    read_arguments,
    warnings_for,
)

URL = "https://pictures.example/cat.png"
CAT: dict[str, Any] = {"id": "1", "images": [URL]}
CALL: dict[str, Any] = {"prompt": "@1 waves", "subjects": [CAT]}
END = " Nothing was sent or bought: correct this and try again."
NAMES = (
    "prompt, subjects, duration, resolution, aspect_ratio, movement_amplitude, seed, audio, bgm, watermark"  # in order
)


def read(**changes: Any) -> ReferenceVideoRequest:
    return read_arguments(ReferenceVideoRequest, CALL | changes)


def body(**changes: Any) -> dict[str, Any]:
    return read(**changes).body()


def refusal(raw: dict[str, Any]) -> str:
    with pytest.raises(Refused) as caught:
        read_arguments(ReferenceVideoRequest, raw)
    return str(caught.value)


def test_smallest_request_is_sent_as_it_came_with_the_duration() -> None:
    """`duration` is required by the router; every other optional field has a default there."""
    assert body() == {"prompt": "@1 waves", "subjects": [{"id": "1", "images": [URL]}], "duration": 5}


def test_full_request_is_sent_as_it_came() -> None:
    full = {
        "prompt": "@1 hands @hero a cup",
        "subjects": [CAT | {"voice_id": ""}, {"id": "hero", "images": [URL, URL], "voice_id": "v-1"}],
        "duration": 10,
        "resolution": "720p",
        "aspect_ratio": "21:9",
        "movement_amplitude": "auto",
        "seed": 0,
        "audio": True,
        "bgm": False,
        "watermark": False,
    }
    assert read_arguments(ReferenceVideoRequest, full).body() == full
    assert warnings_for(read_arguments(ReferenceVideoRequest, full)) == []


def test_fields_of_ours_stay_out_of_the_body() -> None:
    call = read_arguments(GenerateCall, CALL | {"idempotency_key": "k" * 16})
    sent = call.request([Subject.model_validate(CAT)])
    assert (call.idempotency_key, sent.body()) == ("k" * 16, body())


@pytest.mark.parametrize("duration", range(1, 11))
def test_every_duration_of_the_document_is_accepted(duration: int) -> None:
    assert body(duration=duration)["duration"] == duration


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompt": ""}, "`prompt` must not be empty."),
        ({"prompt": " \n "}, "`prompt` must not be empty."),
        ({"prompt": 5}, "`prompt` must be text."),
        (
            {"prompt": "@1 \ud83d"},
            "`prompt` contains half a character (a lone surrogate): send it again as plain text.",
        ),
        (
            {"prompt": None},
            "`prompt` is missing: Motion, scene, camera, style; at most 2000 characters. "
            "Name every subject as @id: '@1 hands @2 a cup, slow dolly in'.",
        ),
        (
            {"subjects": None},
            "`subjects` is missing: One per person or thing, with all views of it. At most 7, with 7 pictures in all.",
        ),
        ({"subjects": []}, "`subjects` must be a list with at least 1 entry."),
        ({"subjects": "cat.png"}, "`subjects[0]` must be an object with id, images, voice_id."),
        ({"subjects": [CAT | {"images": []}]}, "`subjects[0].images` must be a list with at least 1 entry."),
        ({"subjects": [CAT | {"images": [""]}]}, "`subjects[0].images[0]` must not be empty."),
        ({"subjects": [CAT | {"images": [URL, 7]}]}, "`subjects[0].images[1]` must be text."),
        (
            {"subjects": [{"id": "1"}]},
            "`subjects[0].images` is missing: 1-3 pictures: local path, https URL or data URI. "
            "One pasted into the chat has no path: ask for it.",
        ),
        ({"subjects": [CAT | {"id": " @ "}]}, "`subjects[0].id` must not be empty."),
        ({"subjects": [CAT | {"id": True}]}, "`subjects[0].id` must be text."),
        ({"subjects": [CAT | {"voice_id": 5}]}, "`subjects[0].voice_id` must be text."),
        (
            {"subjects": [CAT | {"voice_id": "\udc00"}]},
            "`subjects[0].voice_id` contains half a character (a lone surrogate): send it again as plain text.",
        ),
        (
            {"subjects": [CAT | {"image": URL}]},
            "`subjects[0].image` is not an argument; did you mean `images`?",
        ),
        (
            {"subjects": [CAT, CAT]},
            "`subjects` uses `1` as id more than once; put all pictures of one subject into one entry.",
        ),
        ({"prompt": "@1 and @7"}, "`prompt`: `@7` names no subject; the subjects are `@1`."),
        (
            {"subjects": [CAT, CAT], "prompt": "@7 and @8"},
            "`subjects` uses `1` as id more than once; put all pictures of one subject into one entry. "
            "`prompt`: `@7`, `@8` names no subject; the subjects are `@1`.",
        ),
        ({"duration": "0"}, "`duration` must be a whole number from 1 to 10."),
        ({"duration": -1}, "`duration` must be a whole number from 1 to 10."),
        ({"duration": 11}, "`duration` must be a whole number from 1 to 10."),
        ({"duration": 4.5}, "`duration` must be a whole number from 1 to 10."),
        ({"duration": "5 minutes"}, "`duration` must be a whole number from 1 to 10."),
        ({"duration": True}, "`duration` must be a number, not true or false."),
        ({"seed": "lucky"}, "`seed` must be a whole number."),
        ({"seed": False}, "`seed` must be a number, not true or false."),
        ({"resolution": "4k"}, "`resolution` must be one of 540p, 720p, 1080p."),
        ({"resolution": "1081p"}, "`resolution` must be one of 540p, 720p, 1080p; for `1081p` use `1080p`."),
        ({"resolution": []}, "`resolution` must be one of 540p, 720p, 1080p."),
        (
            {"movement_amplitude": "large"},
            "`movement_amplitude` must be one of auto, small, medium, high; for `large` use `high`.",
        ),
        (
            {"movement_amplitude": "Low"},
            "`movement_amplitude` must be one of auto, small, medium, high; for `low` use `small`.",
        ),
        ({"movement_amplitude": 3}, "`movement_amplitude` must be one of auto, small, medium, high."),
        *(
            (
                {"aspect_ratio": ratio},
                "`aspect_ratio` must be two positive whole numbers, width:height, such as 16:9, 9:16 or 1:1.",
            )
            for ratio in ("wide", "16", "16:", "0:9", "16:0", "-16:9", "16:9:1", "١٦:٩", "square")
        ),
        ({"audio": "loud"}, "`audio` must be true or false."),
        ({"bgm": 5}, "`bgm` must be true or false."),
        ({"watermark": [True]}, "`watermark` must be true or false."),
        ({"durations": 5}, "`durations` is not an argument; did you mean `duration`?"),
        ({"aspectRatio": "1:1"}, "`aspectRatio` is not an argument; did you mean `aspect_ratio`?"),
        ({"ratio": "1:1"}, "`ratio` is not an argument; did you mean `aspect_ratio`?"),
        ({"movement": "small"}, "`movement` is not an argument; did you mean `movement_amplitude`?"),
        *(
            ({name: 24}, f"`{name}` is not an argument; known: {NAMES}.")
            for name in ("fps", "negative_prompt", "session", "requestId", "size", "motion")
        ),
        (
            {"prompt": " ", "duration": 11, "movement_amplitude": "large"},
            "`prompt` must not be empty. `duration` must be a whole number from 1 to 10. "
            "`movement_amplitude` must be one of auto, small, medium, high; for `large` use `high`.",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence_for_each_problem(changes: dict[str, Any], sentence: str) -> None:
    assert refusal(CALL | changes) == sentence + END


def test_no_arguments_at_all_are_told_what_is_needed() -> None:
    assert refusal({}) == (
        "`prompt` is missing: Motion, scene, camera, style; at most 2000 characters. "
        "Name every subject as @id: '@1 hands @2 a cup, slow dolly in'. "
        "`subjects` is missing: One per person or thing, with all views of it. At most 7, with 7 pictures in all." + END
    )


def test_only_the_first_eight_of_many_problems_are_told() -> None:
    told = " ".join(f"`subjects[0].images[{place}]` must be text." for place in range(8))
    assert refusal(CALL | {"subjects": [CAT | {"images": [0] * 1000}]}) == f"{told} (992 more.)" + END


def test_names_from_the_caller_are_shown_short_and_on_one_line() -> None:
    name = "zz\n\u202e" + "y" * 100
    assert refusal(CALL | {name: 1}) == f"`zz {'y' * 56}…` is not an argument; known: {NAMES}." + END
    subjects = [{"id": f"s{'o' * 100}\n{place}", "images": [URL]} for place in range(11)]
    shown = ", ".join([f"`@s{'o' * 38}…`"] * 9)
    assert refusal({"prompt": "@7", "subjects": subjects}) == (
        f"`prompt`: `@7` names no subject; the subjects are {shown} and 2 more." + END
    )


def test_file_name_that_begins_like_a_list_is_a_file_name() -> None:
    named = [CAT | {"images": ["[cat].png"]}]
    assert body(subjects=[CAT | {"images": "[cat].png"}])["subjects"] == named


def subjects(count: int, images: int = 1) -> list[dict[str, Any]]:
    return [{"id": str(place), "images": [URL] * images} for place in range(1, count + 1)]


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({"prompt": "@1 @2 @3 @4 @5 @6 @7", "subjects": subjects(7)}, []),
        (
            {"prompt": "@1 @2 @3 @4 @5 @6 @7 @8", "subjects": subjects(8)},
            [
                "More than 7 subjects: some may be ignored.",
                "More than 7 pictures in all: some may be ignored.",
            ],
        ),
        (
            {"prompt": "@1 @2 @3 @4", "subjects": subjects(4, 2)},
            ["More than 7 pictures in all: some may be ignored."],
        ),
        ({"subjects": subjects(1, 3)}, []),
        ({"subjects": subjects(1, 4)}, ["More than 3 pictures for one subject: some may be ignored."]),
        ({"prompt": "@1 ".ljust(2000, "x")}, []),
        ({"prompt": "@1 ".ljust(2001, "x")}, ["The prompt is longer than 2000 characters: its end may be ignored."]),
        ({"prompt": "@1 sees @hero"}, ["The prompt names `@hero`, but no subject has that id."]),
        (
            {"prompt": "two cats", "subjects": subjects(2)},
            ["The prompt never names `@1`, `@2`: a subject that is not named may not appear."],
        ),
        ({"prompt": "@1和@2走路", "subjects": subjects(2)}, []),
        ({"prompt": "@1@2", "subjects": subjects(2)}, []),
        ({"prompt": "the @1-year-old"}, []),
        ({"prompt": "@hero-1 waves", "subjects": [CAT | {"id": "hero-1"}]}, []),
        ({"prompt": "@英雄挥手", "subjects": [CAT | {"id": "英雄"}]}, []),
        ({"prompt": "@1 writes to cat@mail.example"}, []),
        (
            {"prompt": "cat@mail.example", "subjects": [CAT | {"id": "Mail"}]},
            ["The prompt never names `@Mail`: a subject that is not named may not appear."],
        ),
        (
            {"prompt": "@b at @the", "subjects": [CAT | {"id": "a"}]},
            [
                "The prompt names `@b`, `@the`, but no subject has that id.",
                "The prompt never names `@a`: a subject that is not named may not appear.",
            ],
        ),
        ({"subjects": [CAT | {"voice_id": "v"}], "audio": True}, []),
        ({"subjects": [CAT | {"voice_id": ""}]}, []),
        ({"bgm": True, "duration": 8}, []),
        ({"bgm": True, "duration": 9}, ["bgm has no effect at 9-10 seconds."]),
        ({"bgm": True, "duration": 10}, ["bgm has no effect at 9-10 seconds."]),
        ({"seed": 2147483647}, []),
        ({"seed": 2147483648}, ["seed is outside 0-2147483647: it may be refused or ignored."]),
        ({"seed": -1}, ["seed is outside 0-2147483647: it may be refused or ignored."]),
    ],
)
def test_what_may_disappoint_is_sent_with_a_warning(changes: dict[str, Any], warnings: list[str]) -> None:
    request = read(**changes)
    assert warnings_for(request) == warnings
    assert request.body() == CALL | {"duration": 5} | changes


@pytest.mark.parametrize(
    ("model", "raw", "sentence"),
    [
        (
            GenerateCall,
            CALL | {"idempotency_key": "short"},
            "`idempotency_key` must be 16-128 visible characters without spaces; "
            "leave it out unless you retry by machine.",
        ),
        (ResultCall, {}, "`task_id` is missing: The job's, or its idempotency_key."),
        (
            ResultCall,
            {"task_id": " "},
            "`task_id` must be the job's id or key as it was given; the list of jobs has those that were lost.",
        ),
        (ResultCall, {"task_id": "t", "wait_seconds": -1}, "`wait_seconds` must be a whole number from 0 to 300."),
        (ResultCall, {"task": "t", "task_id": "t"}, "`task` is not an argument; did you mean `task_id`?"),
        (ListCall, {"limit": -1}, "`limit` must be a whole number from 1 to 50."),
        (
            ListCall,
            {"state": "success"},
            "`state` must be one of open, submitting, queued, processing, succeeded, failed, rejected, uncertain; "
            "for `success` use `succeeded`.",
        ),
    ],
)
def test_other_arguments_are_refused_in_the_same_words(model: Any, raw: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused) as caught:
        read_arguments(model, raw)
    assert str(caught.value) == sentence + END


def any_json(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    words = st.sampled_from(["@1", "16:9", "[", '{"id": "1"}', URL, "large", "720P", "5"])
    return st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | text | words,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=12,
    )


BROKEN_TEXT = st.text(st.characters(exclude_categories=()))  # half characters too
JSON = any_json(BROKEN_TEXT)
SUBJECT = st.fixed_dictionaries({}, optional={"id": JSON, "images": JSON, "voice_id": JSON, "extra": JSON})
ARGUMENTS = st.dictionaries(BROKEN_TEXT, JSON, max_size=3) | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(NAMES.split(", "), JSON) | {"subjects": st.lists(SUBJECT, max_size=3)}
)


@settings(deadline=None)
@given(ARGUMENTS)
def test_any_json_is_a_request_or_a_readable_refusal(raw: dict[str, Any]) -> None:
    try:
        request = read_arguments(ReferenceVideoRequest, raw)
    except Refused as refused:
        text = str(refused)
        assert text.endswith(END)
        assert text.isprintable()
        assert len(text) < 8 * 300
        for foreign in ("Input should", "Value error", "errors.pydantic.dev", "input_value", "type=", "Traceback"):
            assert foreign not in text
    else:
        assert_accepted_as_sent(request)


SENDABLE = st.text(min_size=1).filter(str.strip)
REQUESTS = st.builds(
    lambda subjects, words, rest: (
        {"subjects": subjects, "prompt": words + "".join(f" @{s['id']}" for s in subjects)} | rest
    ),
    st.lists(
        st.fixed_dictionaries(
            {"id": SENDABLE, "images": SENDABLE | st.lists(SENDABLE, min_size=1, max_size=4)},
            optional={"voice_id": st.none() | st.text()},
        ),
        min_size=1,
        max_size=9,
    ),
    SENDABLE,
    st.fixed_dictionaries(
        {},
        optional={
            "duration": st.integers(1, 10),
            "resolution": st.sampled_from(["540p", "720P", 1080]),
            "aspect_ratio": st.builds("{}{}{}".format, st.integers(1, 9999), st.sampled_from(":x/"), st.integers(1)),
            "movement_amplitude": st.sampled_from(["auto", "small", "medium", "High", None]),
            "seed": st.integers() | st.integers().map(str),
            "audio": st.booleans(),
            "bgm": st.booleans(),
            "watermark": st.sampled_from([True, "no", None]),
        },
    ),
)


@settings(deadline=None)
@given(REQUESTS)
def test_accepted_request_is_accepted_again_as_it_is_sent(raw: dict[str, Any]) -> None:
    try:
        request = read_arguments(ReferenceVideoRequest, raw)
    except Refused:
        return  # two subjects of one id, say
    assert_accepted_as_sent(request)


def assert_accepted_as_sent(request: ReferenceVideoRequest) -> None:
    sent = json.loads(json.dumps(request.body()).encode())
    again = read_arguments(ReferenceVideoRequest, sent)
    assert again.body() == sent
    assert warnings_for(again) == warnings_for(request)
    assert all(warning.isprintable() for warning in warnings_for(request))


def nodes(schema: dict[str, Any]) -> list[dict[str, Any]]:
    children = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    return [schema, *(node for child in children for node in nodes(child))]


@pytest.mark.parametrize(
    "model", [ReferenceVideoRequest, GenerateCall, ResultCall, ListCall, JobAnswer, JobList], ids=lambda m: m.__name__
)
def test_schema_names_no_default_that_is_none_or_that_nobody_can_use(model: Any) -> None:
    for node in nodes(portable_schema(model)):
        for name, child in node.get("properties", {}).items():
            assert "default" not in child or child["default"] is not None, name
            assert not ("default" in child and name in node.get("required", [])), name


@pytest.mark.parametrize("model", [ReferenceVideoRequest, GenerateCall, ResultCall, ListCall], ids=lambda m: m.__name__)
def test_schema_of_arguments_is_closed_at_every_level(model: Any) -> None:
    objects = [node for node in nodes(portable_schema(model)) if node["type"] == "object"]
    assert [node["additionalProperties"] for node in objects] == [False] * len(objects)


def test_schema_says_the_rules_and_the_real_defaults() -> None:
    schema = portable_schema(ReferenceVideoRequest)
    fields = schema["properties"]
    subject = fields["subjects"]["items"]
    assert ", ".join(fields) == NAMES
    assert (schema["required"], subject["required"]) == (["prompt", "subjects"], ["id", "images"])
    assert {name: field["default"] for name, field in fields.items() if "default" in field} == {
        "duration": 5,
        "resolution": "720p",
        "audio": False,
        "bgm": False,
        "watermark": False,
    }
    assert (fields["duration"]["minimum"], fields["duration"]["maximum"]) == (1, 10)
    assert fields["resolution"]["enum"] == ["540p", "720p", "1080p"]
    assert fields["movement_amplitude"]["enum"] == ["auto", "small", "medium", "high"]
    assert (fields["subjects"]["minItems"], subject["properties"]["images"]["minItems"]) == (1, 1)
    assert list(subject["properties"]) == ["id", "images", "voice_id"]


ANSWER: dict[str, Any] = {
    "extra": {"seed": "1234", "debug_info": {"submit_time_ms": "1"}},
    "task": {
        "task_id": "t-1",
        "status": "TASK_STATUS_SUCCEED",
        "reason": "",
        "task_type": "X",
        "eta": 0,
        "progress_percent": 100,
    },
    "images": [],
    "videos": [{"video_url": "https://cdn.example/v.mp4?sig=1", "video_url_ttl": "600", "video_type": "mp4"}],
}


def test_answer_of_the_document_is_read() -> None:
    result = TaskResult.from_json(ANSWER)
    (video,) = result.links
    assert (result.state, result.raw_status, result.task.task_id, result.task.reason) == ("succeeded", None, "t-1", "")
    assert (result.task.progress_percent, result.task.eta, result.extra.seed) == (100, 0, 1234)
    assert (video.video_url, video.video_type) == ("https://cdn.example/v.mp4?sig=1", "mp4")
    assert video.expires_at(1000) == datetime.fromtimestamp(1600, UTC)


@pytest.mark.parametrize("answer", [{"data": ANSWER}, {"code": 0, "task": None, "data": ANSWER}])
def test_answer_wrapped_in_data_is_read(answer: dict[str, Any]) -> None:
    assert TaskResult.from_json(answer) == TaskResult.from_json(ANSWER)


def test_unknown_fields_are_kept() -> None:
    kept = TaskResult.from_json(ANSWER).model_dump()
    assert (kept["images"], kept["task"]["task_type"]) == ([], "X")
    assert kept["extra"]["debug_info"] == {"submit_time_ms": "1"}


@pytest.mark.parametrize(
    ("status", "state", "raw"),
    [
        ("TASK_STATUS_QUEUED", "queued", None),
        ("TASK_STATUS_PROCESSING", "processing", None),
        ("TASK_STATUS_RUNNING", "processing", None),
        ("TASK_STATUS_SUCCEED", "succeeded", None),
        ("TASK_STATUS_FAILED", "failed", None),
        ("TASK_STATUS_PAUSED", "processing", "TASK_STATUS_PAUSED"),
        (7, "processing", "7"),
        (None, "processing", "(none)"),
        (["TASK_STATUS_SUCCEED"], "processing", "(none)"),
    ],
)
def test_unknown_status_is_not_an_end(status: Any, state: str, raw: str | None) -> None:
    result = TaskResult.from_json({"task": {"status": status}})
    assert (result.state, result.raw_status) == (state, raw)


LINK = "https://cdn.example/v.mp4"
VIDEO = {"video_url": LINK, "video_url_ttl": "600"}


@pytest.mark.parametrize(
    "answer",
    [
        {"task": {"task_id": "t-1", "status": "TASK_STATUS_SUCCEED"}, "videos": VIDEO},
        {
            "task": {"task_id": "t-1", "status": "SUCCESS"},
            "videos": [{"url": LINK, "video_url_ttl": 600}],
        },
        {"task": {"task_id": "t-1", "status": "TASK_STATUS_FAILED", "reason": "x"}, "videos": [VIDEO]},
        {"task": {"task_id": "t-1", "status": "anything"}, "videos": [VIDEO]},
        {"task": {"task_id": "t-1"}, "videos": [VIDEO]},
        {"task": {"task_id": "t-1", "videos": [VIDEO]}},
        {"task": {"task_id": "t-1", **VIDEO}},
        {"task": {"task_id": "t-1"}, "data": {"videos": [VIDEO]}},
        {"task": {"task_id": "t-1"}, "videos": [], "video": VIDEO},
        {"task_id": "t-1", "status": "succeeded", "videos": [VIDEO]},
        {"task_id": "t-1", "task_status": "succeed", **VIDEO},
        {"data": {"task_id": "t-1", "status": "completed", "video": VIDEO}, "code": 0, "message": "ok"},
    ],
    ids=str,
)
def test_video_is_found_wherever_it_stands_and_is_a_success_whatever_the_status(answer: dict[str, Any]) -> None:
    result = TaskResult.from_json(answer)
    (video,) = result.links
    assert (result.state, result.is_doubtful, result.task.task_id) == ("succeeded", False, "t-1")
    assert (video.video_url, video.video_url_ttl) == (LINK, 600)


@pytest.mark.parametrize("word", ["SUCCEEDED", "SUCCESS", "COMPLETED", "succeed", "Task_Status_Succeed", "success "])
def test_other_words_for_success_are_understood_and_without_a_video_doubted(word: str) -> None:
    result = TaskResult.from_json({"task": {"status": word}, "videos": []})
    assert (result.state, result.is_doubtful, result.raw_status) == ("succeeded", True, None)


@pytest.mark.parametrize(
    "word",
    [
        *("TASK_STATUS_CANCELED", "CANCELLED", "FAILED", "failed", "TIMEOUT", "TASK_STATUS_TIMED_OUT", "time-out"),
        *("EXPIRED", "ERROR", "REJECTED", "TASK_STATUS_FAILURE"),
    ],
)
def test_what_sounds_failed_and_says_why_is_taken_for_a_failure_in_doubt(word: str) -> None:
    result = TaskResult.from_json({"task": {"status": word, "reason": "no luck"}})
    assert (result.state, result.is_doubtful) == ("failed", True)
    if "FAILED" not in word.upper():
        without = TaskResult.from_json({"task": {"status": word}})
        assert (without.state, without.raw_status) == ("processing", word)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"status": "TASK_STATUS_PROCESSING"}, "TASK_STATUS_PROCESSING"),
        ({"status": "FAILED", "reason": "no luck"}, "FAILED"),
        ({"task_id": "t", "status": "FAILED", "reason": "no luck", "message": "", "code": 0}, "FAILED"),
        ({"status": "success"}, ""),
        ({"status": "error", "message": "busy", "reason": "RATE_LIMIT_EXCEEDED", "code": 429}, ""),
        ({"status": 500, "reason": "busy"}, ""),
    ],
    ids=str,
)
def test_status_at_the_top_is_a_tasks_unless_it_may_be_an_errors(answer: dict[str, Any], status: str) -> None:
    assert TaskResult.from_json(answer).task.status == status


@pytest.mark.parametrize("nothing", [None, "", 5, {}, [None, 5, "https://cdn.example/v.mp4"], [{}]])
def test_video_list_without_a_link_is_no_video(nothing: Any) -> None:
    assert TaskResult.from_json(ANSWER | {"videos": nothing}).links == []


@pytest.mark.parametrize("link", ["ftp://cdn.example/v.mp4", "file:///etc/passwd", "v.mp4", None, 5])
def test_only_web_links_are_links(link: Any) -> None:
    assert TaskResult.from_json(ANSWER | {"videos": [{"video_url": link}]}).links == []


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        ("600", 600),
        (600, 600),
        (600.9, 600),
        ("600.0", 600),
        ("0", 3600),
        (0, 3600),
        (-5, 3600),
        (None, 3600),
        ("", 3600),
        ("soon", 3600),
        ([], 3600),
        (float("nan"), 3600),
        (3_600_000, 3600),
        (1e300, 3600),
    ],
)
def test_life_of_a_link_is_one_hour_where_nothing_sensible_is_said(ttl: Any, seconds: int) -> None:
    """The router says "0" for links that live, and 3600 is what the sibling gateways document."""
    video = TaskVideo.model_validate({"video_url": "https://cdn.example/v", "video_url_ttl": ttl})
    assert video.expires_at(1000) == datetime.fromtimestamp(1000 + seconds, UTC)


@pytest.mark.parametrize(
    ("seed", "read_as"),
    [("7", 7), (7, 7), (-7, -7), (2**53, 2**53), ("9007199254740993", None), ("", None), (None, None), ("x", None)],
)
def test_seed_is_exact_or_not_said(seed: Any, read_as: int | None) -> None:
    """A clamped seed would be a lie: repeating it gives another video."""
    assert TaskResult.from_json(ANSWER | {"extra": {"seed": seed}}).extra.seed == read_as


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["task", "videos", "extra", "data", "images"]), any_json(st.text())))
def test_any_json_object_is_read_as_an_answer(answer: dict[str, Any]) -> None:
    result = TaskResult.from_json(answer)
    assert result.state == "processing"
    assert result.raw_status
    assert result.links == []
