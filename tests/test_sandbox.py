"""The simulated router: what it accepts, what it refuses, and how its jobs end."""

import base64
import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anyio.to_thread import run_sync
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.applications import Starlette

from refvideo_mcp.sandbox import Sandbox, serve
from refvideo_mcp.sandbox.app import build_app
from refvideo_mcp.sandbox.contract import MAX_BODY_BYTES, check_body
from refvideo_mcp.sandbox.reasons import STATUS_OF, Refusal
from refvideo_mcp.sandbox.scenarios import ENDINGS, NAMES

SUBMIT = "/v3/async/vidu-q2-reference2video"
RESULT = "/v3/async/task-result"
HEADERS = {"Authorization": "Bearer any-key", "Content-Type": "application/json"}


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def picture(kind: str = "png") -> str:
    content = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(content, kind)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def order(prompt: str = "@1 waves", **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt": prompt,
        "subjects": [{"id": "1", "images": [picture()]}],
        "duration": 1,
        "resolution": "540p",
        "seed": 7,
    }
    return {name: value for name, value in {**body, **changes}.items() if value is not ...}


def client_of(app: Starlette) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://sandbox", headers=HEADERS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip for the whole module: a rehearsal's tag is no part of what a clip shows."""
    return tmp_path_factory.mktemp("clips")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(folder: Path, clock: Clock) -> Starlette:
    return build_app(seconds=10, folder=folder, link_seconds=60, clock=clock)


async def submitted(client: httpx2.AsyncClient, prompt: str = "@1 waves", **changes: Any) -> str:
    answer = await client.post(SUBMIT, json=order(prompt, **changes))
    assert answer.status_code == 200, answer.text
    task_id = answer.json()["task_id"]
    assert isinstance(task_id, str)
    return task_id


async def result(client: httpx2.AsyncClient, task_id: str) -> dict[str, Any]:
    answer = await client.get(RESULT, params={"task_id": task_id})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert isinstance(body, dict)
    return body


async def finished(app: Starlette, client: httpx2.AsyncClient, clock: Clock, prompt: str = "@1 waves") -> str:
    """The id of a job whose time is over and whose clip is rendered."""
    task_id = await submitted(client, prompt)
    await run_sync(app.state.renders.join)
    clock.now += 10
    return task_id


@pytest.mark.anyio
async def test_a_job_goes_from_queued_through_processing_to_a_video(app: Starlette, clock: Clock) -> None:
    async with client_of(app) as client:
        task_id = await submitted(client)
        queued = (await result(client, task_id))["task"]
        clock.now += 5
        processing = (await result(client, task_id))["task"]
        await run_sync(app.state.renders.join)
        clock.now += 5
        done = await result(client, task_id)
        video = await httpx2.AsyncClient(transport=httpx2.ASGITransport(app)).get(done["videos"][0]["video_url"])

    kind = {"task_id": task_id, "task_type": "VIDU_Q2_REFERENCE2VIDEO", "reason": ""}
    assert queued == {**kind, "status": "TASK_STATUS_QUEUED", "eta": 10, "progress_percent": 0}
    assert processing == {**kind, "status": "TASK_STATUS_PROCESSING", "eta": 5, "progress_percent": 50}
    assert done == {
        "extra": {
            "seed": "7",
            "debug_info": {
                "request_info": "sandbox",
                "submit_time_ms": "1800000000000",
                "execute_time_ms": "1800000002000",
                "complete_time_ms": "1800000010000",
            },
        },
        "task": {**kind, "status": "TASK_STATUS_SUCCEED", "eta": 0, "progress_percent": 100},
        "images": [],
        "videos": [{"video_url": done["videos"][0]["video_url"], "video_url_ttl": "60", "video_type": "mp4"}],
        "audios": [],
    }
    assert video.headers["content-type"] == "video/mp4"
    assert video.content[4:8] == b"ftyp"


@pytest.mark.anyio
async def test_a_job_whose_clip_is_not_rendered_in_time_goes_on_processing(tmp_path: Path, clock: Clock) -> None:
    app = build_app(seconds=10, folder=tmp_path, clock=clock)
    async with client_of(app) as client:
        task_id = await submitted(client, duration=2)
        clock.now += 10
        task = (await result(client, task_id))["task"]
        await run_sync(app.state.renders.join)
        done = (await result(client, task_id))["task"]

    assert (task["status"], task["progress_percent"], task["eta"]) == ("TASK_STATUS_PROCESSING", 99, 0)
    assert done["status"] == "TASK_STATUS_SUCCEED"


@pytest.mark.anyio
async def test_a_job_without_a_seed_gets_one_that_another_run_would_choose_again(folder: Path) -> None:
    """So that the second run of the same program finds its clips rendered."""
    seeds = []
    for _ in range(2):
        async with client_of(build_app(folder=folder)) as client:
            jobs = [await submitted(client, "[rehearse:no-video]", seed=...) for _ in range(2)]
            seeds.append([(await result(client, job))["extra"]["seed"] for job in jobs])

    assert seeds[0] == seeds[1]
    assert seeds[0][0] != seeds[0][1]


@pytest.mark.anyio
async def test_every_documented_field_is_accepted(app: Starlette) -> None:
    subjects = [
        {"id": "1", "images": [picture("jpeg"), "https://example.com/a.png"], "voice_id": ""},
        {"id": "hero", "images": [picture("webp")]},
    ]
    async with client_of(app) as client:
        await submitted(
            client,
            "[rehearse:never-ends]",
            subjects=subjects,
            duration=10,
            resolution="1080p",
            aspect_ratio="21:9",
            movement_amplitude="high",
            seed=0,
            audio=True,
            bgm=True,
            watermark=False,
        )


@pytest.mark.parametrize(
    ("changes", "details"),
    [
        ({"prompt": ...}, "prompt: is required"),
        ({"prompt": " "}, "prompt: must not be empty"),
        ({"prompt": None}, "prompt: must not be null"),
        ({"prompt": 5}, "prompt: must be a string"),
        ({"subjects": []}, "subjects: must be an array of at least one subject"),
        ({"subjects": ["x"]}, "subjects: [0] must be an object"),
        ({"subjects": [{"images": ["https://a.b/c"]}]}, "subjects: [0] id: is required"),
        ({"subjects": [{"id": "1", "images": []}]}, "subjects: [0] images: must be an array of at least one string"),
        ({"subjects": [{"id": "1", "images": [{}]}]}, "subjects: [0] images: [0] must be a string"),
        (
            {"subjects": [{"id": "1", "images": ["/home/me/cat.png"]}]},
            "subjects: [0] images: [0] must be an http(s) URL or data:image/…;base64,…",
        ),
        ({"subjects": [{"id": "1", "images": ["https://a.b/c"], "name": "x"}]}, "subjects: [0] name: unknown field"),
        ({"duration": ...}, "duration: is required"),
        ({"duration": 11}, "duration: must be between 1 and 10"),
        ({"duration": 5.0}, "duration: must be an integer"),
        ({"duration": True}, "duration: must be an integer"),
        ({"resolution": "4k"}, "resolution: must be one of 540p, 720p, 1080p"),
        ({"aspect_ratio": "wide"}, "aspect_ratio: must be W:H, such as 16:9"),
        ({"aspect_ratio": "16:0"}, "aspect_ratio: must be W:H, such as 16:9"),
        ({"movement_amplitude": "large"}, "movement_amplitude: must be one of auto, small, medium, high"),
        ({"seed": "7"}, "seed: must be an integer"),
        ({"audio": 1}, "audio: must be true or false"),
        ({"style": "anime"}, "style: unknown field"),
        ({"duration": 0, "bgm": "yes"}, "duration: must be between 1 and 10; bgm: must be true or false"),
    ],
)
@pytest.mark.anyio
async def test_a_wrong_body_is_refused_with_the_field_in_its_details(
    app: Starlette, changes: dict[str, Any], details: str
) -> None:
    async with client_of(app) as client:
        answer = await client.post(SUBMIT, json=order(**changes))

    body = answer.json()
    trace = re.fullmatch(re.escape(details) + r" trace_id: [0-9a-f]{32}", body.pop("message"))
    assert trace
    assert answer.status_code == 400
    assert body == {"code": 400, "reason": "INVALID_REQUEST_BODY", "metadata": {"details": details}}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"seed": NaN}', b'{"prompt": "\\ud800"}', b"[" * 9999])
@pytest.mark.anyio
async def test_a_body_that_is_no_json_object_is_refused(app: Starlette, body: bytes) -> None:
    async with client_of(app) as client:
        answer = await client.post(SUBMIT, content=body)

    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_REQUEST_BODY")


@pytest.mark.anyio
async def test_a_body_above_20_mb_is_refused(app: Starlette) -> None:
    async with client_of(app) as client:
        answer = await client.post(SUBMIT, content=b" " * (MAX_BODY_BYTES + 1))

    assert answer.json()["metadata"] == {"details": "body: more than 20 MB"}


@pytest.mark.parametrize(
    ("image", "details"),
    [
        ("data:image/png;base64,AAAA", "does not decode as a picture"),
        ("data:image/png;base64,%%%", "does not decode as a picture"),
        (picture()[:-400], "does not decode as a picture"),
        (picture("jpeg").replace("image/jpeg", "image/png"), "is not the png that it says it is"),
        ("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "must begin data:image/(png|jpeg|webp);base64,"),
        ("data:text/plain,hello", "must begin data:image/(png|jpeg|webp);base64,"),
    ],
)
@pytest.mark.anyio
async def test_a_data_uri_that_is_no_picture_is_refused(app: Starlette, image: str, details: str) -> None:
    subjects = [{"id": "1", "images": ["https://example.com/a.png"]}, {"id": "2", "images": [image]}]
    async with client_of(app) as client:
        answer = await client.post(SUBMIT, json=order(subjects=subjects))

    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_IMAGE_FORMAT")
    assert answer.json()["metadata"] == {"details": f"subjects[1].images[0]: {details}"}


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"Content-Type": "application/json"}, 400, "MISSING_API_KEY"),
        ({"Content-Type": "application/json", "Authorization": "Bearer "}, 400, "MISSING_API_KEY"),
        ({"Content-Type": "application/json", "Authorization": "Basic eA=="}, 401, "FAILED_TO_AUTH"),
        ({"Content-Type": "text/plain", "Authorization": "Bearer x"}, 400, "INVALID_REQUEST_BODY"),
    ],
)
@pytest.mark.anyio
async def test_both_endpoints_want_a_bearer_key_and_a_json_content_type(
    app: Starlette, headers: dict[str, str], status: int, reason: str
) -> None:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://sandbox", headers=headers) as client:
        answers = [await client.post(SUBMIT, content=json.dumps(order())), await client.get(RESULT)]

    assert [(answer.status_code, answer.json()["reason"]) for answer in answers] == [(status, reason)] * 2


@pytest.mark.parametrize(
    ("path", "reason"), [(f"{RESULT}?task_id=nobody", "TASK_NOT_FOUND"), ("/v3/other", "API_NOT_FOUND")]
)
@pytest.mark.anyio
async def test_an_unknown_task_or_path_is_a_404_in_the_router_s_envelope(
    app: Starlette, path: str, reason: str
) -> None:
    async with client_of(app) as client:
        answer = await client.get(path)

    assert (answer.status_code, answer.json()["code"], answer.json()["reason"]) == (404, 404, reason)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def refusal_of(body: bytes) -> Refusal | None:
    try:
        check_body(body)
    except Refusal as refusal:
        return refusal
    return None


@given(name=st.sampled_from([*order(), "aspect_ratio", "audio"]), value=_JSON)
@settings(max_examples=100, deadline=None)
def test_no_value_in_any_field_makes_the_router_stumble(name: str, value: Any) -> None:
    """Whatever comes, the answer is an acceptance or the router's own envelope."""
    refusal = refusal_of(json.dumps({**order(), name: value}).encode())

    if refusal:
        assert refusal.reason in {"INVALID_REQUEST_BODY", "INVALID_IMAGE_FORMAT"}
        assert name in refusal.details or refusal.details.startswith("body")


@pytest.mark.parametrize("reason", STATUS_OF)
@pytest.mark.anyio
async def test_every_reason_of_the_error_table_can_be_rehearsed(app: Starlette, reason: str) -> None:
    async with client_of(app) as client:
        answer = await client.post(SUBMIT, json=order(f"@1 waves [rehearse:{reason}]"))
        stats = (await client.get("/sandbox/stats")).json()

    body = answer.json()
    assert answer.status_code == STATUS_OF[reason]
    assert (body["code"], body["reason"], body["metadata"]) == (STATUS_OF[reason], reason, {})
    assert stats == {"submits": 1, "accepted": 0, "polls": 0, "downloads": 0}


@pytest.mark.parametrize("prompt", ["rehearse", "never-ends", "[rehearse] RATE_LIMIT_EXCEEDED", "rehearse:html"])
@pytest.mark.anyio
async def test_plain_words_change_nothing(app: Starlette, clock: Clock, prompt: str) -> None:
    async with client_of(app) as client:
        assert (await result(client, await submitted(client, prompt)))["task"]["status"] == "TASK_STATUS_QUEUED"


@pytest.mark.anyio
async def test_an_unknown_rehearsal_is_refused_with_the_list_of_names(app: Starlette) -> None:
    async with client_of(app) as client:
        answer = await client.post(SUBMIT, json=order("[rehearse:earthquake]"))

    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_REQUEST_BODY")
    assert all(name in answer.json()["message"] for name in NAMES)


@pytest.mark.parametrize(
    ("name", "status", "reason", "progress"),
    [
        ("task-failed", "TASK_STATUS_FAILED", "ILLEGAL_IMAGE_CONTENT", 0),
        ("task-failed:the model was tired", "TASK_STATUS_FAILED", "the model was tired", 0),
        ("never-ends", "TASK_STATUS_PROCESSING", "", 99),
        ("unknown-status", "TASK_STATUS_REVIEWING", "", 50),
        ("zero-progress", "TASK_STATUS_SUCCEED", "", 0),
    ],
)
@pytest.mark.anyio
async def test_a_rehearsed_task_ends_as_it_was_asked_to(
    app: Starlette, clock: Clock, name: str, status: str, reason: str, progress: int
) -> None:
    async with client_of(app) as client:
        task = (await result(client, await finished(app, client, clock, f"[rehearse:{name}] @1 waves")))["task"]

    assert (task["status"], task["reason"], task["progress_percent"]) == (status, reason, progress)


@pytest.mark.anyio
async def test_no_video_succeeds_with_null_for_a_list(app: Starlette, clock: Clock) -> None:
    async with client_of(app) as client:
        body = await result(client, await finished(app, client, clock, "[rehearse:no-video]"))

    assert (body["task"]["status"], body["videos"]) == ("TASK_STATUS_SUCCEED", None)


@pytest.mark.anyio
async def test_wrapped_puts_the_whole_answer_inside_data(app: Starlette) -> None:
    async with client_of(app) as client:
        body = await result(client, await submitted(client, "@1 waves [rehearse:wrapped]"))

    assert list(body) == ["data"]
    assert body["data"]["task"]["status"] == "TASK_STATUS_QUEUED"


@pytest.mark.anyio
async def test_task_lost_is_accepted_and_then_not_found(app: Starlette) -> None:
    async with client_of(app) as client:
        answer = await client.get(RESULT, params={"task_id": await submitted(client, "[rehearse:task-lost]")})

    assert (answer.status_code, answer.json()["reason"]) == (404, "TASK_NOT_FOUND")


@pytest.mark.anyio
async def test_result_unavailable_once_answers_the_second_question(app: Starlette) -> None:
    async with client_of(app) as client:
        question = {"task_id": await submitted(client, "@1 waves [rehearse:result-unavailable-once]")}
        statuses = [(await client.get(RESULT, params=question)).status_code for _ in range(3)]

    assert statuses == [503, 200, 200]


@pytest.mark.anyio
async def test_rate_limited_once_accepts_the_same_body_at_the_second_try(app: Starlette) -> None:
    body = order("@1 waves [rehearse:rate-limited-once]")
    async with client_of(app) as client:
        first, second, third = [await client.post(SUBMIT, json=body) for _ in range(3)]

    assert (first.status_code, first.headers["retry-after"]) == (429, "1")
    assert first.json()["reason"] == "RATE_LIMIT_EXCEEDED"
    assert second.status_code == 200
    assert third.status_code == 429


@pytest.mark.anyio
async def test_html_hides_that_the_job_was_accepted(app: Starlette) -> None:
    async with client_of(app) as client:
        answer = await client.post(SUBMIT, json=order("@1 waves [rehearse:html]"))
        stats = (await client.get("/sandbox/stats")).json()

    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html; charset=utf-8")
    assert stats == {"submits": 1, "accepted": 1, "polls": 0, "downloads": 0}


@pytest.mark.anyio
async def test_slow_answer_takes_the_seconds_it_was_given(app: Starlette) -> None:
    async with client_of(app) as client:
        await submitted(client, "@1 waves [rehearse:slow-answer:0.05]")
        refused = await client.post(SUBMIT, json=order("[rehearse:slow-answer:soon]"))

    assert refused.status_code == 400


@pytest.mark.anyio
async def test_a_link_is_for_those_who_show_nothing_else_until_it_expires(app: Starlette, clock: Clock) -> None:
    async with client_of(app) as client, httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as anyone:
        task_id = await finished(app, client, clock)
        link = (await result(client, task_id))["videos"][0]["video_url"]
        whole = await anyone.get(link)
        part = await anyone.get(link, headers={"Range": "bytes=4-7"})
        head = await anyone.head(link)
        refused = [
            await anyone.get(link, headers={"Authorization": "Bearer any-key"}),
            await anyone.get(link[:-4] + "0000"),
            await anyone.get(link.replace("expires=1", "expires=2")),
            await anyone.get(link.partition("?")[0]),
        ]
        clock.now += 60
        refused.append(await anyone.get(link))
        fresh = (await result(client, task_id))["videos"][0]["video_url"]
        again = await anyone.get(fresh)
        stats = (await anyone.get("http://sandbox/sandbox/stats")).json()

    assert (part.status_code, part.content) == (206, b"ftyp")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole.content)))
    assert [answer.status_code for answer in refused] == [403] * 5
    assert all(answer.text.startswith("<?xml") for answer in refused)
    assert again.content == whole.content
    assert stats == {"submits": 1, "accepted": 1, "polls": 2, "downloads": 3}


@pytest.mark.anyio
async def test_expired_links_are_dead_when_they_are_given(app: Starlette, clock: Clock) -> None:
    async with client_of(app) as client, httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as anyone:
        statuses = []
        for name in ("expired-link", "expired-link-once"):
            task_id = await finished(app, client, clock, f"@1 waves [rehearse:{name}]")
            links = [(await result(client, task_id))["videos"][0]["video_url"] for _ in range(2)]
            statuses.append([(await anyone.get(link)).status_code for link in links])

    assert statuses == [[403, 403], [403, 200]]


@pytest.mark.anyio
async def test_ttl_zero_says_nothing_about_the_life_of_the_link(app: Starlette, clock: Clock) -> None:
    async with client_of(app) as client, httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as anyone:
        body = await result(client, await finished(app, client, clock, "@1 waves [rehearse:ttl-zero]"))
        clock.now += 59
        answer = await anyone.get(body["videos"][0]["video_url"])

    assert (body["videos"][0]["video_url_ttl"], answer.status_code) == ("0", 200)


@pytest.mark.anyio
async def test_the_page_shows_where_to_point_the_server_and_every_rehearsal(app: Starlette) -> None:
    async with client_of(app) as client:
        text = (await client.get("/")).text

    assert "MYROUTER_BASE_URL=http://sandbox MYROUTER_API_KEY=local" in text
    assert re.findall(r"<tr><td><code>\[rehearse:(.+?)\]", text) == list(NAMES)
    assert "{{" not in text


def test_the_documentation_lists_the_rehearsals_of_the_code() -> None:
    text = (Path(__file__).parents[1] / "docs" / "sandbox.md").read_text(encoding="utf-8")

    assert dict(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", text, re.MULTILINE)) == ENDINGS
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)
    assert {name: int(status) for status, names in rows for name in re.findall(r"`(\w+)`", names)} == STATUS_OF


def post(url: str, prompt: str) -> httpx2.Response:
    with httpx2.Client(base_url=url, headers=HEADERS, timeout=10) as client:
        return client.post(SUBMIT, json=order(prompt))


@pytest.mark.parametrize(("name", "accepted"), [("drop-before", 0), ("drop-after", 1)])
def test_a_dropped_connection_carries_no_answer_at_all(folder: Path, name: str, accepted: int) -> None:
    with Sandbox(seconds=0, folder=folder) as sandbox:
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            post(sandbox.url, f"@1 waves [rehearse:{name}]")
        stats = httpx2.get(f"{sandbox.url}/sandbox/stats").json()

    assert stats == {"submits": 1, "accepted": accepted, "polls": 0, "downloads": 0}


def wait_for(ready: Callable[[], Any]) -> Any:
    """Asks over a real socket until there is something; the render behind it ends by itself."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := ready():
            return found
    raise TimeoutError


def download(url: str, into: bytearray) -> None:
    with httpx2.stream("GET", url) as answer:
        for chunk in answer.iter_raw():
            into += chunk


def test_a_cut_link_ends_half_way_through_the_file(folder: Path) -> None:
    with Sandbox(seconds=0, folder=folder) as sandbox:
        task_id = post(sandbox.url, "@1 waves [rehearse:cut-link]").json()["task_id"]
        with httpx2.Client(base_url=sandbox.url, headers=HEADERS) as client:
            videos = wait_for(lambda: client.get(RESULT, params={"task_id": task_id}).json()["videos"])
        received = bytearray()
        with pytest.raises(httpx2.RemoteProtocolError):
            download(videos[0]["video_url"], received)
        whole = httpx2.head(videos[0]["video_url"]).headers["content-length"]

    assert len(received) == int(whole) // 2


def test_a_sandbox_that_ends_hangs_up_on_those_who_still_wait(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with httpx2.Client(headers=HEADERS) as client, Sandbox(folder=folder) as sandbox:
        request = client.build_request("POST", sandbox.url + SUBMIT, json=order("@1 waves [rehearse:slow-answer]"))
        errors: list[Exception] = []

        def ask() -> None:
            try:
                client.send(request)
            except httpx2.TransportError as error:
                errors.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(lambda: httpx2.get(f"{sandbox.url}/sandbox/stats").json()["accepted"])
        sandbox.__exit__(None, None, None)
        asking.join(10)

    assert len(errors) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no way to send Ctrl-C to one process on Windows")
def test_the_command_says_where_it_is_and_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    code = (
        "import signal, sys, refvideo_mcp.sandbox as box; from pathlib import Path; "
        # Where SIGINT is ignored, as in a shell's background job, children inherit that.
        "signal.signal(signal.SIGINT, signal.default_int_handler); box.serve(port=0, folder=Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr
        line = process.stderr.readline().decode()
        url = line.split()[2]
        assert httpx2.get(f"{url}/sandbox/stats").status_code == 200
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=10)

    assert line.split(" use ")[1].split() == [f"MYROUTER_BASE_URL={url}", "MYROUTER_API_KEY=local"]
    assert (process.returncode, out, rest) == (0, b"", b"")


def test_a_taken_port_is_an_os_error(tmp_path: Path) -> None:
    with Sandbox(folder=tmp_path) as sandbox, pytest.raises(OSError, match=r"."):
        serve(port=int(sandbox.url.rpartition(":")[2]), folder=tmp_path)


def test_importing_the_package_costs_nothing_heavy() -> None:
    code = "import refvideo_mcp.sandbox, sys; print({'av', 'PIL', 'uvicorn', 'starlette', 'mcp'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
