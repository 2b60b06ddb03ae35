"""What the router's answers mean, and what goes to it. Faults of the connection itself are tested on real sockets."""

import json
import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib import import_module
from typing import Any

import anyio
import httpx2
import pytest
import socksio

import marker
from refvideo_mcp import __version__
from refvideo_mcp.errors import ReadRefused, RefvideoError, SubmitRejected, Unavailable, Uncertain, UnknownTask
from refvideo_mcp.router import Router, Timeouts

pytestmark = pytest.mark.anyio

KEY = f"{marker.KEY}/key+1"
HOST = "router.example"
BODY = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://pictures.example/é.png"]}], "duration": 5}
ACCEPTED = {"task_id": "t-1", "provider_request_id": "p-1"}
RUNNING = {"task": {"task_id": "t-1", "status": "TASK_STATUS_PROCESSING"}, "videos": None}

MAYBE_BOUGHT = (
    " The job may have been accepted and billed all the same. Do not submit again for this video. Tell the user, and "
    f"ask them to look for the job in the console of {HOST} before anything else is made."
)
PROXY_SETTINGS = "HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
ASK_AGAIN = " The job is not affected: ask again in a minute."

Fake = Callable[[httpx2.Request], httpx2.Response]


def fake(status: int, answer: Any = b"", **headers: str) -> Fake:
    """A router that always answers the same."""
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return lambda _: httpx2.Response(
        status, content=content, headers={k.replace("_", "-"): headers[k] for k in headers}
    )


def envelope(status: int, reason: str, message: str = "no luck (trace 7f3a)") -> Fake:
    return fake(status, {"code": status, "reason": reason, "message": message, "metadata": {}})


def router(answers: Fake, base_url: str = f"https://{HOST}", key: str = KEY) -> Router:
    return Router(base_url, key, transport=httpx2.MockTransport(answers))


async def submit_error(answers: Fake, key: str = KEY) -> RefvideoError:
    with pytest.raises(RefvideoError) as caught:
        await router(answers, key=key).submit(BODY)
    return caught.value


async def read_error(answers: Fake, task_id: str = "t-1") -> RefvideoError:
    with pytest.raises(RefvideoError) as caught:
        await router(answers).task_result(task_id)
    assert caught.value.task_id == task_id
    return caught.value


async def test_accepted_job_gives_its_task_id() -> None:
    assert await router(fake(200, ACCEPTED)).submit(BODY) == "t-1"


async def test_task_is_read() -> None:
    result = await router(fake(200, RUNNING)).task_result("t-1")
    assert (result.state, result.task.task_id, result.links) == ("processing", "t-1", [])


@pytest.mark.parametrize(
    ("answer", "task_id"),
    [
        ({"data": ACCEPTED}, "t-1"),
        ({"code": 0, "message": "success", "data": ACCEPTED}, "t-1"),
        ({"task_id": 12345}, "12345"),
        # A task id is a job that may cost money, whatever else the answer says.
        (ACCEPTED | {"reason": "", "message": "ok"}, "t-1"),
        (ACCEPTED | {"reason": "RATE_LIMIT_EXCEEDED"}, "t-1"),
    ],
)
async def test_task_id_is_found_in_every_shape_of_acceptance(answer: dict[str, Any], task_id: str) -> None:
    assert await router(fake(200, answer)).submit(BODY) == task_id


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_task_is_read_wrapped_in_data_and_with_any_success(status: int) -> None:
    result = await router(fake(status, {"data": RUNNING})).task_result("t-1")
    assert (result.state, result.task.task_id) == ("processing", "t-1")


async def test_failed_task_is_an_answer_and_not_an_error() -> None:
    task = {"task_id": "t-1", "status": "TASK_STATUS_FAILED", "reason": "ILLEGAL_PROMPT"}
    result = await router(fake(200, {"task": task})).task_result("t-1")
    assert (result.state, result.task.reason) == ("failed", "ILLEGAL_PROMPT")


async def test_submission_is_one_post_of_the_body_with_key_type_and_version() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json=ACCEPTED)

    await router(answer).submit(BODY)
    (post,) = seen
    assert (post.method, str(post.url)) == ("POST", f"https://{HOST}/v3/async/vidu-q2-reference2video")
    assert json.loads(post.content) == BODY
    assert post.headers["Authorization"] == f"Bearer {KEY}"
    assert post.headers["Content-Type"] == "application/json"
    assert post.headers["User-Agent"] == f"refvideo-mcp/{__version__}"


async def test_question_is_one_get_with_the_same_headers() -> None:
    """The router's page lists `Content-Type` as required even for this GET."""
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json=RUNNING)

    await router(answer).task_result("t-1")
    (get,) = seen
    assert (get.method, str(get.url)) == ("GET", f"https://{HOST}/v3/async/task-result?task_id=t-1")
    assert get.content == b""
    assert get.headers["Authorization"] == f"Bearer {KEY}"
    assert get.headers["Content-Type"] == "application/json"
    assert get.headers["User-Agent"] == f"refvideo-mcp/{__version__}"


@pytest.mark.parametrize("task_id", ["a/b?c&d=e#f", "100% +", "é=", "t&task_id=other", "../../v3"])
async def test_task_id_is_opaque(task_id: str) -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"task": {"task_id": task_id, "status": "TASK_STATUS_RUNNING"}})

    await router(answer).task_result(task_id)
    assert [(r.url.path, r.url.params.multi_items()) for r in seen] == [
        ("/v3/async/task-result", [("task_id", task_id)])
    ]


@pytest.mark.parametrize("base_url", [f"https://{HOST}:8443/gateway/v1", f"https://{HOST}:8443/gateway/v1/"])
async def test_path_prefix_of_the_address_is_kept(base_url: str) -> None:
    paths: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        paths.append(f"{request.url.netloc.decode()}{request.url.path}")
        return httpx2.Response(200, json=ACCEPTED | RUNNING)

    prefixed = router(answer, base_url)
    await prefixed.submit(BODY)
    await prefixed.task_result("t-1")
    root = f"{HOST}:8443/gateway/v1/v3/async"
    assert paths == [f"{root}/vidu-q2-reference2video", f"{root}/task-result"]
    assert prefixed.host == f"{HOST}:8443"


async def test_closed_router_opens_again_when_it_is_needed() -> None:
    client = router(fake(200, ACCEPTED | RUNNING))
    await client.aclose()
    await client.submit(BODY)
    await client.aclose()
    await client.aclose()
    assert (await client.task_result("t-1")).state == "processing"


CHECK_KEY = (
    f"Ask the user to check MYROUTER_API_KEY: {HOST} refused it. "
    "A key belongs to one gateway, which MYROUTER_BASE_URL must name."
)
TOP_UP = f"Ask the user to top up the account at {HOST}. (Some gateways report a rate limit this way.)"
ENABLE = f"Ask the user to enable this model for the account in the console of {HOST}."
CHECK_ADDRESS = (
    f"Ask the user to check MYROUTER_BASE_URL: {HOST} does not offer VIDU Q2 reference to video under this address."
)
CHECK_TASK = "Check the task_id; a job is visible only to the key that submitted it."
LATER = "Wait a minute, then try once more."
OUTPUT_PATH = f"Ask the user to check the output path that is set for the account at {HOST}."
NO_REMEDY = "router.example gives no remedy. It may pass by itself; a new try is a new job: ask the user."

# The router's table of errors: status, reason, what an agent is told to do.
LASTING = [
    (400, "INVALID_REQUEST_BODY", "Correct the argument it names and try again."),
    (400, "IMAGE_FILE_EXCEEDS_MAX_SIZE", "Use a smaller picture file and try again."),
    (400, "INVALID_IMAGE_FORMAT", "Use PNG, JPEG or WebP pictures and try again."),
    (400, "IMAGE_EXCEEDS_MAX_RESOLUTION", "Scale the picture down and try again."),
    (
        400,
        "INVALID_IMAGE_SIZE",
        "Use a picture of at least 128x128 pixels and between 1:4 and 4:1, then try again.",
    ),
    (400, "ILLEGAL_PROMPT", "The content rules refused the prompt: reword it, then try again."),
    (400, "ILLEGAL_IMAGE_CONTENT", "The content rules refused a picture: use another one, then try again."),
    (400, "INVALID_AUDIO_FILE", "Leave voice_id out or choose another voice, then try again."),
    (400, "IMAGE_NO_FACE_DETECTED", "Use a picture in which a face is plain to see, then try again."),
    (
        400,
        "INVALID_CUSTOM_OUTPUT_PATH",
        OUTPUT_PATH,
    ),
    (400, "MISSING_API_KEY", CHECK_KEY),
    (400, "BILLING_BALANCE_NOT_ENOUGH", TOP_UP),
    (401, "FAILED_TO_AUTH", CHECK_KEY),
    (403, "INVALID_API_KEY", CHECK_KEY),
    (403, "NOT_ENOUGH_BALANCE", TOP_UP),
    (403, "BILLING_AUTH_FAILED", f"Ask the user to check billing for the account at {HOST}."),
    (403, "API_NOT_ALLOWED", ENABLE),
    (403, "FEATURE_NOT_ALLOWED", ENABLE),
    (403, "NEED_REAL_NAME_VERIFY", f"Ask the user to verify their identity in the console of {HOST}."),
    (403, "ACCESS_DENY", ENABLE),
    (404, "API_NOT_FOUND", CHECK_ADDRESS),
    (404, "MODEL_NOT_FOUND", CHECK_ADDRESS),
]
PASSING = [
    (429, "RATE_LIMIT_EXCEEDED", LATER),
    (429, "TOKEN_LIMIT_EXCEEDED", LATER),
    (500, "BILLING_FAILED", f"router.example could not bill the account. {LATER}"),
    (500, "CREATE_TASK_FAILED", f"router.example could not create the job. {LATER}"),
    (503, "SERVICE_NOT_AVAILABLE", f"The service is down for now. {LATER}"),
]
IMPLYING_A_TASK = [(500, "GET_RESULT_FAILED"), (500, "TASK_FAILED")]


@pytest.mark.parametrize(("status", "reason", "advice"), [*LASTING, *PASSING, (404, "TASK_NOT_FOUND", CHECK_TASK)])
async def test_submission_refused_with_a_documented_reason_bought_nothing(
    status: int, reason: str, advice: str
) -> None:
    error = await submit_error(envelope(status, reason))
    assert (type(error), error.reason, error.task_id) == (SubmitRejected, reason, None)
    assert str(error) == f'{HOST} answered {status} {reason}: "no luck (trace 7f3a)". Nothing was bought. {advice}'


@pytest.mark.parametrize(("status", "reason"), IMPLYING_A_TASK)
async def test_submission_refused_with_a_reason_that_implies_a_task_is_uncertain(status: int, reason: str) -> None:
    error = await submit_error(envelope(status, reason))
    assert type(error) is Uncertain
    assert str(error) == f'{HOST} answered {status} {reason}: "no luck (trace 7f3a)".{MAYBE_BOUGHT}'


@pytest.mark.parametrize(("status", "reason", "advice"), [*LASTING, (500, "TASK_FAILED", NO_REMEDY)])
async def test_question_refused_with_a_lasting_reason_is_refused(status: int, reason: str, advice: str) -> None:
    error = await read_error(envelope(status, reason))
    assert (type(error), error.reason) == (ReadRefused, reason)
    assert str(error) == f'{HOST} answered {status} {reason}: "no luck (trace 7f3a)". {advice}'


@pytest.mark.parametrize(
    ("status", "reason"), [*((status, reason) for status, reason, _ in PASSING), (500, "GET_RESULT_FAILED")]
)
async def test_question_refused_with_a_passing_reason_may_be_asked_again(status: int, reason: str) -> None:
    error = await read_error(envelope(status, reason))
    assert (type(error), error.reason) == (Unavailable, reason)
    assert str(error) == f'{HOST} answered {status} {reason}: "no luck (trace 7f3a)".{ASK_AGAIN}'


@pytest.mark.parametrize(
    ("answer", "reason", "said"),
    [
        (envelope(404, "TASK_NOT_FOUND"), "TASK_NOT_FOUND", ': "no luck (trace 7f3a)"'),
        (envelope(400, "TASK_NOT_FOUND", ""), "TASK_NOT_FOUND", ""),
        (fake(404, {"message": "task not found"}), None, ': "task not found"'),
        (fake(404, b"<h1>404</h1>"), None, ""),
    ],
)
async def test_task_that_the_router_does_not_know_is_unknown(answer: Fake, reason: str | None, said: str) -> None:
    error = await read_error(answer)
    assert (type(error), error.reason) == (UnknownTask, reason)
    assert str(error) == f"{HOST} does not know the task t-1{said}. {CHECK_TASK}"


async def test_task_that_an_error_names_is_shown_short_and_on_one_line() -> None:
    error = await submit_error(fake(500, {"task_id": "t\n" * 100}))
    assert error.happened.startswith(f"{HOST} answered HTTP 500. It names the task {'t ' * 39}t…. The job")


async def test_unknown_task_of_any_name_is_shown_short_and_on_one_line() -> None:
    error = await read_error(fake(404), "x\n" + "y" * 100)
    assert str(error) == f"{HOST} does not know the task x {'y' * 77}…. {CHECK_TASK}"


@pytest.mark.parametrize(
    ("status", "reason", "submitted", "asked", "advice"),
    [
        (500, "INVALID_API_KEY", SubmitRejected, ReadRefused, CHECK_KEY),
        (200, "NOT_ENOUGH_BALANCE", SubmitRejected, ReadRefused, TOP_UP),
        (500, "ILLEGAL_PROMPT", SubmitRejected, ReadRefused, LASTING[5][2]),
        (400, "SERVICE_NOT_AVAILABLE", SubmitRejected, Unavailable, PASSING[4][2]),
        (403, "RATE_LIMIT_EXCEEDED", SubmitRejected, Unavailable, LATER),
        # Except 429: some gateways report a rate limit as a balance.
        (429, "NOT_ENOUGH_BALANCE", SubmitRejected, Unavailable, TOP_UP),
        (400, "GET_RESULT_FAILED", Uncertain, Unavailable, None),
        (400, "TASK_FAILED", Uncertain, ReadRefused, None),
    ],
)
async def test_reason_counts_more_than_the_status(
    status: int, reason: str, submitted: type, asked: type, advice: str | None
) -> None:
    """Gateways of this family disagree about the status."""
    post, get = await submit_error(envelope(status, reason)), await read_error(envelope(status, reason))
    assert (type(post), type(get)) == (submitted, asked)
    if advice:
        assert str(post.advice) == advice


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "Correct the argument it names and try again."),
        (401, CHECK_KEY),
        (403, ENABLE),
        (404, CHECK_ADDRESS),
        (413, "Use a smaller picture file and try again."),
        (415, "Correct the argument it names and try again."),
        (422, "Correct the argument it names and try again."),
        (429, LATER),
    ],
)
async def test_submission_refused_with_a_clear_status_bought_nothing(status: int, advice: str) -> None:
    error = await submit_error(fake(status, b"<html>no</html>"))
    assert (type(error), error.reason) == (SubmitRejected, None)
    assert str(error) == f"{HOST} answered HTTP {status}. Nothing was bought. {advice}"


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 402, 405, 408, 409, 418, 425, 500, 502, 503, 504, 599])
async def test_submission_answered_with_any_other_status_is_uncertain(status: int) -> None:
    error = await submit_error(fake(status, {"message": "hm"}))
    assert type(error) is Uncertain
    assert str(error) == f'{HOST} answered HTTP {status}: "hm".{MAYBE_BOUGHT}'


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (400, ReadRefused, " Correct the argument it names and try again."),
        (401, ReadRefused, f" {CHECK_KEY}"),
        (403, ReadRefused, f" {ENABLE}"),
        (422, ReadRefused, " Correct the argument it names and try again."),
        *((status, Unavailable, f" {CHECK_ADDRESS}") for status in (300, 302)),
        *((status, Unavailable, ASK_AGAIN) for status in (408, 409, 425, 429, 500, 502, 503, 504)),
    ],
)
async def test_question_answered_with_only_a_status(status: int, kind: type, advice: str) -> None:
    error = await read_error(fake(status))
    assert (type(error), error.reason) == (kind, None)
    assert str(error) == f"{HOST} answered HTTP {status}.{advice}"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"message": "queue full"}, ': "queue full"'),
        ({"task_id": ""}, ""),
        ({"task_id": "  "}, ""),
        ({"task_id": 1.5}, ""),
        ({"task_id": True}, ""),
        ({"task_id": {"id": "t-1"}}, ""),
        ({"data": "t-1"}, ""),
        (["t-1"], ""),
        ("t-1", ""),
        (b"", ""),
        (b"<!doctype html><p>Welcome", ""),
        (b'{"task_id": "t-', ""),
        (b'{"task_id": "\xff"}', ""),
        (b"[" * 100_000, ""),
        (b'{"task_id": "t-1", "padding": "' + b" " * 2**21 + b'"}', ""),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_success_without_a_task_id_is_uncertain(answer: Any, said: str) -> None:
    error = await submit_error(fake(200, answer))
    assert type(error) is Uncertain
    assert str(error) == f"{HOST} answered HTTP 200{said}. It gave no task id.{MAYBE_BOUGHT}"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"message": "busy"}, ': "busy"'),
        ({"task": None, "videos": []}, ""),
        ({"task": {"task_id": "t-1"}}, ""),
        ({"data": None}, ""),
        ({"data": {"task": "t-1"}}, ""),
        ([RUNNING], ""),
        (b"", ""),
        (b"<!doctype html><p>Welcome", ""),
        (json.dumps(RUNNING).encode() + b" " * 2**21, ""),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_success_without_a_task_may_be_asked_again(answer: Any, said: str) -> None:
    error = await read_error(fake(200, answer))
    assert type(error) is Unavailable
    assert str(error) == f"{HOST} answered HTTP 200{said}. It told nothing about the job.{ASK_AGAIN}"


@pytest.mark.parametrize(
    ("status", "answer", "summary"),
    [
        (500, {"reason": "TASK_FAILED", "task_id": "t-1"}, "500 TASK_FAILED"),
        (503, {"reason": "SERVICE_NOT_AVAILABLE", "data": {"task_id": "t-1"}}, "503 SERVICE_NOT_AVAILABLE"),
        (429, {"reason": "RATE_LIMIT_EXCEEDED", "metadata": {"task_id": "t-1"}}, "429 RATE_LIMIT_EXCEEDED"),
        (429, {"error": {"task_id": "t-1"}}, "HTTP 429"),
        (400, {"task": {"task_id": "t-1"}}, "HTTP 400"),
        (401, {"data": {"task": {"task_id": "t-1"}}}, "HTTP 401"),
        (400, {"reason": "ILLEGAL_PROMPT", "task_id": 1}, "400 ILLEGAL_PROMPT"),
        (500, {"task_id": "t-1"}, "HTTP 500"),
    ],
)
async def test_error_that_names_a_task_is_uncertain_whatever_else_it_says(
    status: int, answer: Any, summary: str
) -> None:
    error = await submit_error(fake(status, answer))
    task_id = "1" if answer.get("task_id") == 1 else "t-1"
    assert (type(error), error.task_id) == (Uncertain, task_id)
    assert str(error) == f"{HOST} answered {summary}. It names the task {task_id}.{MAYBE_BOUGHT}"


@pytest.mark.parametrize(
    ("answer", "summary"),
    [
        ({"error": {"message": "no such key", "code": "INVALID_API_KEY"}}, '400 INVALID_API_KEY: "no such key"'),
        ({"error": {"message": "bad", "code": 17}}, 'HTTP 400: "bad"'),
        ({"reason": "ILLEGAL_PROMPT", "error": {"code": "INVALID_API_KEY"}}, "400 ILLEGAL_PROMPT"),
        ({"error": "bad"}, "HTTP 400"),
        ({"reason": "SOMETHING_NEW", "message": "bad"}, '400 SOMETHING_NEW: "bad"'),
        ({"reason": "x\u202e" * 100}, f"400 {'x ' * 29}x…"),
        ({"reason": ["INVALID_API_KEY"], "message": ["bad"]}, "HTTP 400"),
        ({"message": "bad", "metadata": {"details": "duration: 1-10"}}, 'HTTP 400: "bad duration: 1-10"'),
        ({"message": "bad", "metadata": {"details": ["a: 1", "b: 2"]}}, 'HTTP 400: "bad a: 1 b: 2"'),
        ({"message": "bad", "metadata": {"details": "bad"}}, 'HTTP 400: "bad"'),
        ({"message": "bad", "metadata": {"details": {"field": "duration"}}}, 'HTTP 400: "bad"'),
        ({"message": "a\n\x1b[31mb\u200b c"}, 'HTTP 400: "a [31mb c"'),
        ({"message": "x" * 5000}, f'HTTP 400: "{"x" * 299}…"'),
        (b'{"message": "cut \\ud83d", "\\ud83d": 1}', 'HTTP 400: "cut ?"'),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_envelopes_of_other_shapes_are_read_and_made_safe(answer: Any, summary: str) -> None:
    error = await submit_error(fake(400, answer))
    assert type(error) is SubmitRejected
    assert error.happened == f"{HOST} answered {summary}. Nothing was bought."


@pytest.mark.parametrize(
    "answer",
    [
        {
            "task": {"task_id": "t-2", "status": "TASK_STATUS_SUCCEED"},
            "videos": [{"video_url": "https://cdn.example/v"}],
        },
        {"data": {"task": {"task_id": "t-2", "status": "TASK_STATUS_FAILED", "reason": "ILLEGAL_PROMPT"}}},
        {"task_id": "t-2", "status": "TASK_STATUS_PROCESSING"},
    ],
)
async def test_result_that_names_another_task_is_not_taken_for_this_one(answer: dict[str, Any]) -> None:
    error = await read_error(fake(200, answer))
    assert type(error) is Unavailable
    assert str(error) == f"{HOST} answered about another task (t-2).{ASK_AGAIN}"


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_video_counts_more_than_any_status(status: int) -> None:
    answer = {
        "reason": "TASK_NOT_FOUND",
        "task": {"task_id": "t-1"},
        "videos": [{"video_url": "https://cdn.example/v"}],
    }
    assert (await router(fake(status, answer)).task_result("t-1")).state == "succeeded"


@pytest.mark.parametrize("status", [400, 500])
async def test_status_without_a_video_counts_in_a_success_only(status: int) -> None:
    error = await read_error(fake(status, RUNNING))
    assert isinstance(error, ReadRefused if status == 400 else Unavailable)
    assert error.happened.startswith(f"{HOST} answered HTTP {status}")


async def test_half_a_character_does_not_cost_the_task() -> None:
    """A gateway that cuts texts by UTF-16 units leaves half an emoji."""
    assert await router(fake(200, b'{"task_id": "t-1", "\\ud83d": "\\udc31"}')).submit(BODY) == "t-1"
    task = b'{"task": {"status": "TASK_STATUS_FAILED", "reason": "bad \\ud83d", "x": "\\ud83d"}}'
    result = await router(fake(200, task)).task_result("t-1")
    assert (result.state, result.task.reason) == ("failed", "bad ?")


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("reason", ["INVALID_API_KEY", "TASK_NOT_FOUND", "TASK_FAILED", f"NO_{KEY}", ""])
async def test_key_is_in_no_error_even_if_the_router_echoes_it(status: int, reason: str) -> None:
    echo = {
        "reason": reason,
        "message": f"Bearer {KEY} is bad",
        "error": {"message": KEY, "code": KEY},
        "metadata": {"details": [KEY, f"Authorization: {KEY}"]},
    }
    for error in (await submit_error(fake(status, echo)), await read_error(fake(status, echo))):
        assert KEY not in f"{error}{error!r}{error.happened}{error.advice}{error.reason}"
        assert '"Bearer [key] is bad [key] Authorization: [key]"' in str(error)


async def test_key_is_in_no_name_of_another_task_even_if_the_router_echoes_it() -> None:
    error = await read_error(fake(200, {"task": {"task_id": f"t-{KEY}", "status": "TASK_STATUS_PROCESSING"}}))
    assert error.happened == f"{HOST} answered about another task (t-[key])."


async def test_key_is_in_no_task_even_if_the_router_echoes_it() -> None:
    task = {"status": f"STATUS_{KEY}", "reason": f"{KEY} was refused"}
    result = await router(fake(200, {"task": task})).task_result("t-1")
    assert (result.raw_status, result.task.reason) == ("STATUS_[key]", "[key] was refused")


@pytest.mark.parametrize(
    ("echo", "shown"),
    [
        ('cannot read "https://b.example/fox.png?X-Amz-Expires=9&X-Amz-Signature=0123abcd".', 'fox.png?…".'),
        ("url=https%3A%2F%2Fb.example%2Ffox.png%3FX-Amz-Signature%3D0123abcd failed", "fox.png?… failed"),
        ("GET https://b.example/fox.png?sig=0123abcd", "fox.png?…"),
    ],
)
async def test_presigned_link_is_in_no_error_and_no_task_even_if_the_router_echoes_it(echo: str, shown: str) -> None:
    error = await submit_error(envelope(400, "INVALID_IMAGE_FORMAT", echo))
    result = await router(fake(200, {"task": {"status": "TASK_STATUS_FAILED", "reason": echo}})).task_result("t-1")
    for text in (str(error), result.task.reason):
        assert "0123abcd" not in text
        assert shown in text


async def test_key_of_eight_characters_is_a_secret_already() -> None:
    error = await submit_error(envelope(400, "ILLEGAL_PROMPT", "12345678 says no"), key="12345678")
    assert error.happened == f'{HOST} answered 400 ILLEGAL_PROMPT: "[key] says no". Nothing was bought.'


async def test_word_that_is_no_secret_is_left_in_the_text() -> None:
    """The sandbox's key is the word "sandbox", which its messages use."""
    error = await submit_error(envelope(400, "ILLEGAL_PROMPT", "the sandbox says no"), key="sandbox")
    assert error.happened == f'{HOST} answered 400 ILLEGAL_PROMPT: "the sandbox says no". Nothing was bought.'


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(status: int) -> None:
    """Followed, it would carry the key to another host, or turn the POST into a GET."""
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(status, headers={"Location": "https://elsewhere.example/"})

    assert type(await submit_error(answer)) is Uncertain
    assert type(await read_error(answer)) is Unavailable
    assert [httpx2.URL(url).host for url in asked] == [HOST, HOST]


async def test_endless_answer_is_not_read_to_its_end() -> None:
    class Endless(httpx2.AsyncByteStream):
        chunks = 0

        async def __aiter__(self) -> Any:
            while True:
                self.chunks += 1
                yield b" " * 2**16

    posted, asked = Endless(), Endless()
    assert type(await submit_error(lambda _: httpx2.Response(200, stream=posted))) is Uncertain
    assert type(await read_error(lambda _: httpx2.Response(200, stream=asked))) is Unavailable
    assert posted.chunks == asked.chunks == 2**21 // 2**16 + 1


async def test_refusal_with_an_endless_page_is_still_a_refusal() -> None:
    assert type(await submit_error(fake(401, b" " * 2**22))) is SubmitRejected


@pytest.mark.parametrize(
    ("header", "seconds", "pause"),
    [
        ("7", 7.0, "7 s"),
        ("1.5", 1.5, "2 s"),
        ("999999", 3600.0, "3600 s"),
        ("inf", 3600.0, "3600 s"),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 3600.0, "3600 s"),
        ("0", 0.0, "a minute"),
        ("-5", 0.0, "a minute"),
        ("Thu, 01 Jan 2015 00:00:00 GMT", 0.0, "a minute"),
        ("Thu, 01 Jan 2015 00:00:00 -0000", 0.0, "a minute"),
        *((garbage, None, "a minute") for garbage in ("", "soon", "nan", "1 Jan 99999 00:00:00 GMT")),
        ("1 Jan 2026 00:00:00 +999999999999999999999", None, "a minute"),
    ],
)
async def test_pause_that_the_router_asks_for_is_kept(header: str, seconds: float | None, pause: str) -> None:
    answer = fake(429, {"reason": "RATE_LIMIT_EXCEEDED"}, Retry_After=header)
    post, get = await submit_error(answer), await read_error(answer)
    assert isinstance(post, SubmitRejected)
    assert isinstance(get, Unavailable)
    assert (post.retry_after, get.retry_after) == (seconds or 0.0, seconds)
    assert str(post.advice) == f"Wait {pause}, then try once more."
    assert str(get.advice) == f"The job is not affected: ask again in {pause}."


async def test_date_to_come_is_a_pause_until_then() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=30), usegmt=True)
    error = await read_error(fake(503, Retry_After=date))
    assert isinstance(error, Unavailable)
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 1800


@pytest.mark.parametrize(
    ("answer", "retry_after"),
    [
        (fake(429), 0.0),
        (envelope(403, "RATE_LIMIT_EXCEEDED"), 0.0),
        (envelope(403, "TOKEN_LIMIT_EXCEEDED"), 0.0),
        (envelope(401, "FAILED_TO_AUTH"), None),
        (envelope(503, "SERVICE_NOT_AVAILABLE"), None),
    ],
)
async def test_only_a_rate_limit_at_submission_is_worth_waiting_for(answer: Fake, retry_after: float | None) -> None:
    """It is what may be sent again inside the call."""
    error = await submit_error(answer)
    assert isinstance(error, SubmitRejected)
    assert error.retry_after == retry_after


class Failing(httpx2.AsyncBaseTransport):
    """Raises before it has taken anything of the request's body, or after all of it."""

    def __init__(self, error: Exception, *, sends: bool) -> None:
        self._error, self._sends = error, sends

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._sends:
            await request.aread()
        raise self._error


FAULTS: list[tuple[type[Exception], str]] = [
    (httpx2.ConnectError, "connection refused, unknown host or bad certificate"),
    (httpx2.ConnectTimeout, "connecting took too long"),
    (httpx2.PoolTimeout, "too many requests at once"),
    (httpx2.ProxyError, "the proxy refused"),
    (httpx2.ReadTimeout, "it took too long"),
    (httpx2.ReadError, "the connection broke"),
    (httpx2.WriteError, "the connection broke"),
    (httpx2.RemoteProtocolError, "the connection broke"),
    (httpx2.DecodingError, "the connection broke"),
    (socksio.ProtocolError, "the connection broke"),
    (ssl.SSLError, "the connection broke"),
    (UnicodeError, "the connection broke"),
    (AssertionError, "the connection broke"),
    (ConnectionResetError, "the connection broke"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS)
async def test_submission_that_never_left_bought_nothing_whatever_broke(fault: type[Exception], words: str) -> None:
    failing = Router(
        f"https://{HOST}", KEY, transport=Failing(fault(f"{KEY} at https://me:secret@{HOST}"), sends=False)
    )
    with pytest.raises(SubmitRejected) as refusal:
        await failing.submit(BODY)
    on_the_way = not issubclass(fault, httpx2.ConnectError | httpx2.TimeoutException)
    look_at = f"Ask the user to check {PROXY_SETTINGS}" if on_the_way else "Check the network and MYROUTER_BASE_URL"
    assert str(refusal.value) == (
        f"{HOST} could not be reached ({words}). Nothing was sent or bought. {look_at}, then try again."
    )


@pytest.mark.parametrize(("fault", "words"), FAULTS)
async def test_submission_that_left_is_uncertain_whatever_broke(fault: type[Exception], words: str) -> None:
    failing = Router(f"https://{HOST}", KEY, transport=Failing(fault(f"{KEY} at https://me:secret@{HOST}"), sends=True))
    with pytest.raises(Uncertain) as doubt:
        await failing.submit(BODY)
    assert str(doubt.value) == f"The connection to {HOST} broke before the answer.{MAYBE_BOUGHT}"


@pytest.mark.parametrize(("fault", "words"), FAULTS)
async def test_question_that_breaks_anyhow_may_be_asked_again(fault: type[Exception], words: str) -> None:
    failing = Router(f"https://{HOST}", KEY, transport=Failing(fault(f"{KEY} at https://me:secret@{HOST}"), sends=True))
    with pytest.raises(Unavailable) as silence:
        await failing.task_result("t-1")
    assert str(silence.value) == f"No answer from {HOST} ({words}).{ASK_AGAIN}"
    assert silence.value.task_id == "t-1"


class Slow(httpx2.AsyncBaseTransport):
    """Answers after some seconds, in which it has taken the request's body, or nothing."""

    def __init__(self, seconds: float, *, takes: bool) -> None:
        self._seconds, self._takes = seconds, takes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._takes:
            await request.aread()
        await anyio.sleep(self._seconds)
        return httpx2.Response(200, json=ACCEPTED)


async def test_submission_that_cannot_leave_in_time_bought_nothing() -> None:
    slow = Router(f"https://{HOST}", KEY, transport=Slow(10, takes=False), timeouts=Timeouts(reach=0.01))
    with pytest.raises(SubmitRejected) as refusal:
        await slow.submit(BODY)
    assert str(refusal.value) == (
        f"{HOST} could not be reached (it took too long). Nothing was sent or bought. "
        "Check the network and MYROUTER_BASE_URL, then try again."
    )


async def test_submission_that_left_and_is_not_answered_in_time_is_uncertain() -> None:
    slow = Router(f"https://{HOST}", KEY, transport=Slow(10, takes=True), timeouts=Timeouts(submit=0.01, grace=0))
    with anyio.fail_after(5), pytest.raises(Uncertain) as doubt:
        await slow.submit(BODY)
    assert str(doubt.value) == f"{HOST} did not answer in 0.01 seconds.{MAYBE_BOUGHT}"


async def test_submission_that_left_in_time_is_waited_for() -> None:
    slow = Router(f"https://{HOST}", KEY, transport=Slow(0.2, takes=True), timeouts=Timeouts(reach=0.01))
    assert await slow.submit(BODY) == "t-1"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", "the proxy is of a kind that needs another Python package"),
        ("HTTPS_PROXY", "foo://user:secret@proxy", "the proxy's address is malformed"),
        ("HTTPS_PROXY", "user:secret@proxy:9:9", "the proxy's address is malformed"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "the certificate file cannot be read"),
        ("SSL_CERT_FILE", __file__, "the certificate file cannot be read"),
    ],
)
async def test_proxy_or_certificate_that_cannot_be_is_told_and_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    import_module("httpcore2")  # which looks for it once, for this whole process
    monkeypatch.setitem(sys.modules, "socksio", None)  # not installed
    monkeypatch.setenv(variable, value)
    cannot = f"No connection to {HOST} can be set up ({words})."
    check = f"Ask the user to check {PROXY_SETTINGS}, then"
    with pytest.raises(SubmitRejected) as refusal:
        await Router(f"https://{HOST}", KEY).submit({})
    assert str(refusal.value) == f"{cannot} Nothing was sent or bought. {check} try again."
    with pytest.raises(Unavailable) as silence:
        await Router(f"https://{HOST}", KEY).task_result("t-1")
    assert str(silence.value) == f"{cannot} The job is not affected. {check} ask again."


@pytest.mark.parametrize("seconds", [0.0, -500.0])
async def test_submission_without_time_is_not_sent(seconds: float) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise AssertionError("sent")

    with pytest.raises(SubmitRejected) as refusal:
        await router(answer).submit({}, seconds)
    assert str(refusal.value) == f"The time to send this to {HOST} ran out. Nothing was sent or bought. Try again."


async def test_no_request_is_repeated_here() -> None:
    """Whoever repeats a request must know what it costs: that is not this room."""
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.method)
        return httpx2.Response(429, headers={"Retry-After": "0"})

    await submit_error(answer)
    await read_error(answer)
    assert asked == ["POST", "GET"]
