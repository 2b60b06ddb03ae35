"""Whatever the router does: how many POSTs arrive, what the ledger holds, and what the agent reads."""

import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult, TextContent

from faults import HUGE, OneFault
from marker import KEY
from misbehaving_router import Body, Fault, InTurn, MisbehavingRouter, Redirect, Status, nowhere
from refvideo_mcp.app import build_server
from refvideo_mcp.errors import Unavailable
from refvideo_mcp.jobs import Clock
from refvideo_mcp.ledger import Ledger
from refvideo_mcp.router import Router, Timeouts
from refvideo_mcp.settings import Settings

pytestmark = pytest.mark.anyio

ENGINE = "workflow-run-0017"
REQUEST = {
    "prompt": "@1 waves",
    "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}],
    "idempotency_key": ENGINE,
}
MB = 2**20
PATIENTLY = {"wait_seconds": 300}
SILENT = (Fault.HANG, Fault.HANG_BEFORE_READING, Fault.DRIP)
IMPATIENT_SUBMIT, IMPATIENT_RESULT = Timeouts(submit=1, grace=0), Timeouts(result=0.5)


@pytest.fixture(scope="module", autouse=True)
def late_imports() -> None:
    """The server imports these at their first use; in hurried time that would take it half a minute."""
    for module in ("httpx2", "sqlalchemy", "stamina", "refvideo_mcp.ledger.database"):
        import_module(module)


@pytest.fixture(autouse=True)
def no_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This router has none, and to load those of the machine would take longer than most of these tests."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))


class HurriedClock(Clock):
    """Real time at several times its speed: a virtual clock would not wait for sockets."""

    def __init__(self, speed: int = 20) -> None:
        self._speed = speed
        self._zero, self._epoch = time.monotonic(), time.time()

    def now(self) -> float:
        return self._epoch + self.steady()

    def steady(self) -> float:
        return self._speed * (time.monotonic() - self._zero)

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self._speed)


@asynccontextmanager
async def server(url: str, folder: Path, timeouts: Timeouts | None = None) -> AsyncIterator[Client]:
    settings = Settings(api_key=KEY, base_url=url, output_dir=folder, database=folder / "ledger.db", max_wait=300)
    async with Client(build_server(settings, clock=HurriedClock(), timeouts=timeouts)) as client:
        yield client


def said(result: CallToolResult) -> str:
    (text, *_) = result.content
    assert isinstance(text, TextContent)
    return text.text


def the_video_in(folder: Path) -> Path:
    (video,) = folder.glob("*.mp4")
    return video


def row(url: str, folder: Path) -> tuple[str, str | None]:
    """State and task id of the newest job, as another process would find them."""
    ledger = Ledger(folder / "ledger.db")
    try:
        job = ledger.newest(f"local@{url.removeprefix('http://')}", 1)[0]
    finally:
        ledger.close()
    return job.state, job.task_id


@dataclass(frozen=True)
class Outcome:
    state: str
    says: str
    posts: int = 1


ACCEPTED = Outcome(
    "queued",
    'Job task-1 is queued. A video takes 0.5-5 minutes. Call get_task_result with task_id "task-1": it waits. '
    "Do not submit again for this video. Allowance: 295 of 300 s of video left in these 24 hours.",
)


def rejected(says: str, posts: int = 1) -> Outcome:
    return Outcome("rejected", says, posts)


def uncertain(cause: str) -> Outcome:
    return Outcome(
        "uncertain",
        f"{cause}. The job may have been accepted and billed all the same. (Job {ENGINE}.) "
        "Do not submit again for this video. Tell the user, and ask them to look for the job in the console of "
        "<router> before anything else is made.",
    )


OVERLOAD = '"server overload, please try again later"'
WENT_WRONG = '"it went wrong, trace_id: 0123abcd"'
DOWN = "The service is down for now. Wait a minute, then try once more."
BROKE = uncertain("The connection to <router> broke before the answer")
SILENCE = uncertain("<router> did not answer in 1 seconds")
NO_ID = uncertain("<router> answered HTTP 200. It gave no task id")
CHECK_KEY = (
    "Ask the user to check MYROUTER_API_KEY: <router> refused it. "
    "A key belongs to one gateway, which MYROUTER_BASE_URL must name."
)
CHECK_URL = (
    "Ask the user to check MYROUTER_BASE_URL: <router> does not offer VIDU Q2 reference to video under this address."
)

# A fault, or several in turn, the last of which stays; and what comes of it.
SUBMISSIONS: list[tuple[OneFault | tuple[OneFault, ...], Outcome]] = [
    (Fault.NONE, ACCEPTED),
    (Fault.WRAPPED, ACCEPTED),
    (Fault.CLOSE_IDLE, ACCEPTED),
    (Fault.RESET_ON_REUSE, ACCEPTED),
    (Fault.LENGTH_TOO_SHORT, NO_ID),
    ((Status(429), Status(429, "RATE_LIMIT_EXCEEDED", retry_after=3), Fault.NONE), replace(ACCEPTED, posts=3)),
    (Fault.RESET_BEFORE_READING, BROKE),
    (Fault.RESET_DURING_BODY, BROKE),
    (Fault.RESET_AFTER_BODY, BROKE),
    (Fault.RESET_AFTER_ACCEPT, BROKE),
    (Fault.CLOSE_WITHOUT_ANSWER, BROKE),
    (Fault.HALF_HEAD, BROKE),
    (Fault.HALF_BODY, BROKE),
    (Fault.LENGTH_TOO_LONG, BROKE),
    (Fault.HANG_BEFORE_READING, SILENCE),
    (Fault.HANG, SILENCE),
    (Fault.DRIP, SILENCE),
    (Fault.EMPTY_BODY, NO_ID),
    (Fault.INVALID_JSON, NO_ID),
    (Fault.INVALID_UTF8, NO_ID),
    (Fault.NOT_AN_OBJECT, NO_ID),
    (Fault.HTML, NO_ID),
    (Fault.NO_TASK_ID, NO_ID),
    (Fault.HUGE_BODY, NO_ID),
    (Fault.HUGE_CHUNKED, NO_ID),
    (Fault.MESSAGE_ONLY, uncertain(f"<router> answered HTTP 200: {OVERLOAD}. It gave no task id")),
    (Body(b"[" * 100_000), NO_ID),
    (Redirect(), uncertain("<router> answered HTTP 302")),
    (Redirect(code=307), uncertain("<router> answered HTTP 307")),
    *((Status(code), uncertain(f"<router> answered HTTP {code}")) for code in (408, 409, 425, 500, 502, 503, 504)),
    (Status(504, accepted=True), uncertain("<router> answered HTTP 504")),
    *(
        (
            Status(code, "SERVICE_NOT_AVAILABLE", retry_after=7),
            rejected(f"<router> answered {code} SERVICE_NOT_AVAILABLE: {WENT_WRONG}. Nothing was bought. {DOWN}"),
        )
        for code in (408, 409, 425, 500, 502, 503, 504)
    ),
    (Status(500, "NEVER_HEARD_OF"), uncertain(f"<router> answered 500 NEVER_HEARD_OF: {WENT_WRONG}")),
    *(
        (Status(500, reason, accepted=True), uncertain(f"<router> answered 500 {reason}: {WENT_WRONG}"))
        for reason in ("TASK_FAILED", "GET_RESULT_FAILED")
    ),
    (
        Status(429, retry_after=15),
        rejected("<router> answered HTTP 429. Nothing was bought. Wait 15 s, then try once more.", posts=3),
    ),
    (
        Status(429, "RATE_LIMIT_EXCEEDED", retry_after=60),
        rejected(
            f"<router> answered 429 RATE_LIMIT_EXCEEDED: {WENT_WRONG}. Nothing was bought. "
            "Wait 60 s, then try once more."
        ),
    ),
    (Status(401), rejected(f"<router> answered HTTP 401. Nothing was bought. {CHECK_KEY}")),
    (
        Status(401, "FAILED_TO_AUTH", message=f"no such key: {KEY}"),
        rejected(f'<router> answered 401 FAILED_TO_AUTH: "no such key: [key]". Nothing was bought. {CHECK_KEY}'),
    ),
    (Status(404), rejected(f"<router> answered HTTP 404. Nothing was bought. {CHECK_URL}")),
]


def in_turn(fault: OneFault | tuple[OneFault, ...]) -> InTurn:
    return InTurn(*fault) if isinstance(fault, tuple) else InTurn(fault)


def short(timeouts: Timeouts, fault: OneFault | tuple[OneFault, ...]) -> Timeouts | None:
    """Only where they must pass: a busy machine may keep a good answer back for longer."""
    return timeouts if fault in SILENT else None


def name(fault: OneFault | tuple[OneFault, ...]) -> str:
    match fault:
        case Fault():
            return fault.name
        case Status() | Redirect():
            detail = (fault.reason, "accepted" if fault.accepted else None) if isinstance(fault, Status) else ()
            return " ".join(str(part) for part in (fault.code, *detail) if part)
        case Body():
            return f"{len(fault.content)} bytes"
    return ", ".join(map(name, fault))


@pytest.mark.parametrize(("fault", "outcome"), SUBMISSIONS, ids=[name(fault) for fault, _ in SUBMISSIONS])
async def test_submission_is_sent_once_and_its_outcome_told_and_remembered(
    fault: OneFault | tuple[OneFault, ...], outcome: Outcome, tmp_path: Path
) -> None:
    async with MisbehavingRouter() as router, server(router.url, tmp_path, short(IMPATIENT_SUBMIT, fault)) as client:
        router.accepted.append("earlier")
        await client.call_tool("get_task_result", PATIENTLY | {"task_id": "earlier"})  # leaves a connection to reuse
        router.submit_fault, router.result_fault = in_turn(fault), Fault.HANG
        result = await client.call_tool("generate_reference_video", REQUEST)
        remembered, posts = row(router.url, tmp_path), len(router.posts)
        again = await client.call_tool("generate_reference_video", REQUEST)

    assert said(result) == outcome.says.replace("<router>", router.url.removeprefix("http://"))
    assert result.is_error == (outcome.state != "queued")
    assert remembered == (outcome.state, "task-1" if outcome.state == "queued" else None)
    assert posts == outcome.posts
    assert router.bytes_sent < HUGE / 4
    assert not router.strays  # no redirect was followed
    if outcome.state != "rejected":  # a workflow engine that repeats its call buys nothing
        assert (again.is_error, len(router.posts)) == (result.is_error, outcome.posts)


BROKEN = "No answer from <router> (the connection broke)."
SLOW = "No answer from <router> (it took too long)."
NO_TASK = "<router> answered HTTP 200. It told nothing about the job."
AGAIN = "The job is not affected: ask again in a minute."
IN_4_SECONDS = "The job is not affected: ask again in 4 s."
ANOTHER_KEY = "Was it submitted with another key? The job itself may go on."


# A fault, what is said of it in the end, and the advice; "" where it does no harm.
LOOKS: list[tuple[OneFault, str, str]] = [
    (Fault.NONE, "", ""),
    (Fault.WRAPPED, "", ""),
    (Fault.CLOSE_IDLE, "", ""),
    (Fault.RESET_ON_REUSE, "", ""),
    (Fault.NO_TASK_ID, "", ""),  # the video is there, and a video is a success whatever is missing beside it
    *(
        (fault, BROKEN, AGAIN)
        for fault in (
            Fault.RESET_BEFORE_READING,
            Fault.RESET_AFTER_BODY,
            Fault.CLOSE_WITHOUT_ANSWER,
            Fault.HALF_HEAD,
            Fault.HALF_BODY,
            Fault.LENGTH_TOO_LONG,
        )
    ),
    *((fault, SLOW, AGAIN) for fault in SILENT),
    *(
        (fault, NO_TASK, AGAIN)
        for fault in (
            Fault.LENGTH_TOO_SHORT,
            Fault.EMPTY_BODY,
            Fault.INVALID_JSON,
            Fault.INVALID_UTF8,
            Fault.NOT_AN_OBJECT,
            Fault.HTML,
            Fault.HUGE_BODY,
            Fault.HUGE_CHUNKED,
        )
    ),
    (Fault.MESSAGE_ONLY, f"<router> answered HTTP 200: {OVERLOAD}. It told nothing about the job.", AGAIN),
    (Redirect(), "<router> answered HTTP 302.", CHECK_URL),
    *((Status(code), f"<router> answered HTTP {code}.", AGAIN) for code in (408, 409, 425, 429, 500, 502, 503, 504)),
    *(
        (
            Status(code, "SERVICE_NOT_AVAILABLE", retry_after=4),
            f"<router> answered {code} SERVICE_NOT_AVAILABLE: {WENT_WRONG}.",
            IN_4_SECONDS,
        )
        for code in (408, 409, 425, 429, 500, 502, 503, 504)
    ),
    (Status(404), "<router> does not know the task task-1.", ANOTHER_KEY),
    (Status(404, "TASK_NOT_FOUND"), f"<router> does not know the task task-1: {WENT_WRONG}.", ANOTHER_KEY),
    (Status(401), "<router> answered HTTP 401.", CHECK_KEY),
    (
        Status(403, "ACCESS_DENY", message=f"{KEY} may not"),
        '<router> answered 403 ACCESS_DENY: "[key] may not".',
        "Ask the user to enable this model for the account in the console of <router>.",
    ),
]
PASSING = [fault for fault, _, _ in LOOKS if not isinstance(fault, Status) or fault.code not in (401, 403)]


@pytest.mark.parametrize("fault", PASSING, ids=name)
async def test_result_that_comes_wrong_once_is_asked_for_again_within_the_wait(fault: OneFault, tmp_path: Path) -> None:
    async with MisbehavingRouter() as router, server(router.url, tmp_path, short(IMPATIENT_RESULT, fault)) as client:
        router.result_fault = InTurn(fault, Fault.NONE)
        await client.call_tool("generate_reference_video", REQUEST)
        result = await client.call_tool("get_task_result", PATIENTLY | {"task_id": "task-1"})

    video = the_video_in(tmp_path)
    assert said(result) == (
        f"Done: the video is saved at {video} (job task-1). Seed 42. Tell the user where the file is."
    )
    assert not result.is_error
    assert row(router.url, tmp_path) == ("succeeded", "task-1")
    assert len(router.posts) == 1
    assert not router.strays


@pytest.mark.parametrize(
    ("fault", "happened", "advice"),
    [look for look in LOOKS if look[1]],
    ids=[name(fault) for fault, says, _ in LOOKS if says],
)
async def test_result_that_never_comes_is_an_error_with_the_last_known_state_and_loses_nothing(
    fault: OneFault, happened: str, advice: str, tmp_path: Path
) -> None:
    async with MisbehavingRouter() as router, server(router.url, tmp_path, short(IMPATIENT_RESULT, fault)) as client:
        router.result_fault = fault
        await client.call_tool("generate_reference_video", REQUEST)
        if fault in PASSING:  # what a second look is for has been understood
            with anyio.fail_after(30):
                await router.until(lambda: len(router.looks) >= 2)
        patience = {"wait_seconds": 1} if fault in PASSING else PATIENTLY
        result = await client.call_tool("get_task_result", patience | {"task_id": "task-1"})
        remembered = row(router.url, tmp_path)
        router.result_fault = Fault.NONE
        later = await client.call_tool("get_task_result", PATIENTLY | {"task_id": "task-1"})

    at_last = "Last known state of job task-1: queued, for N s. " if fault in PASSING else ""
    job = "" if at_last else " Job: task-1."
    expected = f"{happened} {at_last}{advice}{job}".replace("<router>", router.url.removeprefix("http://"))
    assert re.sub(r"for \d+ s\.", "for N s.", said(result)) == expected
    assert result.is_error
    assert remembered == ("queued", "task-1")
    assert (later.is_error, row(router.url, tmp_path)) == (False, ("succeeded", "task-1"))
    assert len(router.posts) == 1
    assert router.bytes_sent < HUGE / 4
    assert not router.strays


async def test_router_that_refuses_connections_gets_nothing_and_the_agent_reads_so(tmp_path: Path) -> None:
    with nowhere() as url:
        host = url.removeprefix("http://")
        async with server(url, tmp_path) as client:
            submitted = await client.call_tool("generate_reference_video", REQUEST)
            looked = await client.call_tool("get_task_result", {"task_id": "task-1", "wait_seconds": 10})

    refused = "connection refused, unknown host or bad certificate"
    assert said(submitted) == (
        f"{host} could not be reached ({refused}). Nothing was sent or bought. "
        "Check the network and MYROUTER_BASE_URL, then try again."
    )
    assert row(url, tmp_path) == ("rejected", None)
    assert said(looked) == f"No answer from {host} ({refused}). Last known state of job task-1: none. {AGAIN}"
    assert submitted.is_error
    assert looked.is_error


async def test_questions_share_a_connection_which_no_submission_gets() -> None:
    async with MisbehavingRouter() as misbehaving:
        misbehaving.accepted.append("earlier")
        router = Router(misbehaving.url, KEY)
        connections = []
        for ask in (
            partial(router.task_result, "earlier"),
            partial(router.task_result, "earlier"),
            partial(router.submit, REQUEST),
            partial(router.submit, REQUEST),
            partial(router.task_result, "earlier"),
        ):
            await ask()
            connections.append(misbehaving.connections)
        await router.aclose()
    assert connections == [1, 1, 2, 3, 3]


async def test_question_whose_kept_connection_was_cut_is_asked_on_a_fresh_one() -> None:
    async with MisbehavingRouter() as misbehaving:
        misbehaving.accepted.append("earlier")
        router = Router(misbehaving.url, KEY)
        await router.task_result("earlier")
        misbehaving.result_fault = Fault.RESET_ON_REUSE
        assert (await router.task_result("earlier")).state == "succeeded"
        misbehaving.result_fault = Fault.RESET_BEFORE_READING
        with pytest.raises(Unavailable):
            await router.task_result("earlier")
        await router.aclose()
    assert len(misbehaving.looks) == 4  # what breaks on a fresh connection, too, is not this room's to repeat


SUBMITS = """
import anyio, sys
from refvideo_mcp.router import Router, Timeouts

router = Router(sys.argv[1], "key", timeouts=Timeouts(submit=float(sys.argv[2])))
print(anyio.run(router.submit, {"prompt": "@1 waves"}), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no process can be stopped there")
async def test_answer_that_arrived_while_the_process_was_stopped_is_read() -> None:
    """Docker pause, a debugger, a suspended terminal: the time is over, and the answer waits in the socket."""
    seconds = 2.0
    async with MisbehavingRouter() as router:
        router.hold = anyio.Event()
        router.submit_fault = Body(b'{"task_id": "task-1"}' + b" " * MB)  # more than is read at once
        command = [sys.executable, "-c", SUBMITS, router.url, str(seconds)]
        async with await anyio.open_process(command, stderr=None) as process:
            with anyio.fail_after(30):
                await router.until(lambda: any(post.complete for post in router.posts))
            process.send_signal(signal.SIGSTOP)
            router.hold.set()
            await anyio.sleep(seconds + 1)
            process.send_signal(signal.SIGCONT)
            assert process.stdout is not None
            assert (await process.stdout.receive()).startswith(b"task-1")
    assert len(router.posts) == 1
