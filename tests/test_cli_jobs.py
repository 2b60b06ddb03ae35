"""Videos from the command line: for people at a terminal, and for scripts."""

import hashlib
import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import av
import httpx2
import pytest
import stamina
from mcp import Client

from a_place import SHORT, Place
from command_line import run_in, running
from fake_router import jobs, result, told
from marker import KEY
from pictures import data_uri
from refvideo_mcp.app import build_server
from refvideo_mcp.sandbox import Sandbox
from refvideo_mcp.settings import Settings

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process, and no pty")

ID = r"[0-9a-f]{8}-[0-9a-f-]{27}"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture
def place(tmp_path: Path, clips: Path) -> Iterator[Place]:
    with Sandbox(seconds=0.5, folder=clips) as sandbox:
        yield Place(tmp_path, sandbox.url)


def plays(video: Path) -> bool:
    with av.open(video) as container:
        return sum(1 for _ in container.decode(video=0)) == 24


def test_json_is_what_the_tools_answer(place: Place) -> None:
    made = place.generate("@hero waves", "--json")
    assert made.returncode == 0, made.stderr
    job = json.loads(made.stdout)
    looked = json.loads(place.run("result", job["task_id"], "--json").stdout)
    listed = json.loads(place.run("list", "--json").stdout)

    settings = Settings(
        KEY,
        place.router,
        output_dir=place.folder / "videos",
        database=place.folder / "state" / "refvideo-mcp" / "ledger.db",
    )

    async def by_tools() -> tuple[dict[str, Any], dict[str, Any]]:
        async with Client(build_server(settings)) as client:
            return told(await result(client, job["task_id"])), told(await jobs(client))

    by_tool, listed_by_tool = anyio.run(by_tools)
    for answer in (job, looked, by_tool, listed, listed_by_tool):
        assert answer.pop("next_step")
    assert job == looked == by_tool
    assert listed == listed_by_tool


def test_a_dry_run_sends_nothing_and_shows_size_and_hash(place: Place) -> None:
    found = place.generate("@hero waves to @moon", "--dry-run", "--seed", "7", "--audio")
    assert found.returncode == 0, found.stderr
    content = place.picture.read_bytes()
    image = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert json.loads(found.stdout) == {
        "prompt": "@hero waves to @moon",
        "subjects": [{"id": "hero", "images": [image]}],
        "duration": 1,
        "resolution": "540p",
        "seed": 7,
        "audio": True,
    }
    assert "`@moon`, but no subject has that id" in found.stderr
    assert "nothing was sent" in found.stderr
    assert place.submits() == 0
    assert place.run("list").stdout == "No jobs yet.\n"


def test_a_subject_is_an_id_and_pictures_of_every_kind(place: Place) -> None:
    """Commas separate pictures, but not inside a data URI or a link."""
    (place.folder / "me, too.png").write_bytes(place.picture.read_bytes())
    uri = data_uri(place.picture.read_bytes())
    values = [
        f"@hero={uri},hero.png",
        "hero=./hero.png",
        "https://cdn.example/w_300,h_200/cat.png?a=b,https://cdn.example/dog.png",
        json.dumps({"id": "json", "images": ["me, too.png"], "voice_id": "low"}),
    ]
    subjects = [part for value in values for part in ("--subject", value)]
    found = place.run("generate", "--prompt", "@hero, @2, @json", *subjects, "--audio", "--dry-run", "--json")
    assert found.returncode == 0, found.stderr
    sent = json.loads(found.stdout)["request"]["subjects"]
    shown = [
        {**subject, "images": [image.get("url") or image["bytes"] for image in subject["images"]]} for subject in sent
    ]
    size = place.picture.stat().st_size
    assert shown == [
        {"id": "hero", "images": [size, size, size]},
        {"id": "2", "images": ["https://cdn.example/w_300,h_200/cat.png", "https://cdn.example/dog.png"]},
        {"id": "json", "images": [size], "voice_id": "low"},
    ]


def test_wrong_arguments_are_told_all_at_once(place: Place) -> None:
    found = place.run("generate", "--prompt", "hi", "--duration", "12", "--movement-amplitude", "large")
    assert (found.returncode, found.stdout) == (2, "")
    assert re.fullmatch(r"refvideo-mcp: .*\n", found.stderr)
    for told_of in ("`--subject` is missing", "`duration` must be a whole number from 1 to 10", "use `high`"):
        assert told_of in found.stderr


def test_an_address_is_no_place_for_a_video(place: Place) -> None:
    found = place.generate("@hero waves", "--dry-run", "--save-to", "s3://bucket/cat.mp4")
    assert (found.returncode, found.stdout) == (2, "")
    assert "A video is saved at a path of this machine, not at an address." in found.stderr


def test_save_fetches_the_video_again_and_never_over_a_file(place: Place) -> None:
    first = Path(place.generate("@hero waves").stdout.strip())
    task_id = place.newest()["task_id"]
    copies = [
        Path(place.run("save", task_id, *to).stdout.removesuffix("\n"))
        for to in ([], ["--to", "copy.mp4"], ["--to", "copy.mp4"], ["--to", "."])
    ]
    assert [copy.relative_to(place.folder) for copy in copies] == [
        Path("videos", f"{first.stem} (2).mp4"),
        Path("copy.mp4"),
        Path("copy (2).mp4"),
        Path(first.name),
    ]
    assert {copy.read_bytes() for copy in copies} == {first.read_bytes()}
    assert place.newest()["saved_to"] == str(first)


def test_save_puts_a_video_back_that_is_gone(place: Place) -> None:
    first = Path(place.generate("@hero waves").stdout.strip())
    first.unlink()
    found = place.run("save", place.newest()["task_id"], "--to", "again.mp4")
    assert (found.returncode, found.stdout) == (0, f"{place.folder / 'again.mp4'}\n")
    assert place.newest()["saved_to"] == str(place.folder / "again.mp4")


def test_where_nothing_is_saved_the_link_is_the_result(place: Place) -> None:
    place.settings["REFVIDEO_OUTPUT_DIR"] = "off"
    found = place.generate("@hero waves")
    assert found.returncode == 0
    assert httpx2.get(found.stdout.strip()).content[4:8] == b"ftyp"
    assert "the link dies about" in found.stderr


def test_a_terminal_that_cannot_write_the_path_gets_it_all_the_same(place: Place) -> None:
    """The job is paid for by then."""
    order = ["generate", "--prompt", "@1 läuft", "--subject", "hero.png", *SHORT]
    found = run_in(place.folder, *order, **place.settings, PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert found.returncode == 0, found.stderr
    assert plays(Path(found.stdout.removesuffix("\n")))
    assert "läuft" in found.stdout


@pytest.mark.parametrize(
    ("rehearsal", "code", "said"),
    [
        ("task-failed:ILLEGAL_PROMPT", 1, 'failed: "ILLEGAL_PROMPT"'),
        ("FAILED_TO_AUTH", 1, "Check MYROUTER_API_KEY"),
        ("drop-after", 4, "may have been accepted and billed"),
    ],
)
def test_a_job_without_a_video_ends_with_the_reason_and_its_exit_code(
    place: Place, rehearsal: str, code: int, said: str
) -> None:
    found = place.generate(f"@hero waves [rehearse:{rehearsal}]")
    assert (found.returncode, found.stdout) == (code, "")
    assert said in found.stderr
    assert "the user" not in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("rehearsal", "code", "state", "next_step"),
    [
        ("task-failed:ILLEGAL_PROMPT", 1, "failed", "reword it"),
        ("FAILED_TO_AUTH", 1, "rejected", "Check MYROUTER_API_KEY"),
        ("drop-after", 4, "uncertain", "Do not submit it again"),
    ],
)
def test_a_script_gets_the_job_whatever_becomes_of_it(
    place: Place, rehearsal: str, code: int, state: str, next_step: str
) -> None:
    """It needs the key most when the router's answer was lost."""
    found = place.generate(f"@hero waves [rehearse:{rehearsal}]", "--json")
    job = json.loads(found.stdout)
    assert (found.returncode, job["state"]) == (code, state)
    assert next_step in job["next_step"]
    assert "the user" not in job["next_step"]
    assert job["reason"]
    handle = job.get("task_id") or job["idempotency_key"]
    again = place.run("result", handle, "--json")
    assert (again.returncode, json.loads(again.stdout)["state"]) == (code, state)
    listed = place.newest()
    assert (listed.get("task_id") or listed["idempotency_key"], listed["state"]) == (handle, state)


def test_a_refusal_is_a_document_for_scripts_too(place: Place) -> None:
    twin = "@hero waves [rehearse:drop-after]"
    lost = json.loads(place.generate(twin, "--json").stdout)
    for refused, code, happened in (
        (place.generate("@hero", "--duration", "12", "--json"), 2, "`duration` must be a whole number from 1 to 10"),
        (place.generate(twin, "--json"), 2, lost["idempotency_key"]),
        (place.run("result", "lost", "--json"), 1, "does not know the task lost"),
        (place.run("save", "lost", "--json"), 1, "does not know the task lost"),
        (place.run("list", "--limit", "many", "--json"), 2, "`limit`"),
        (place.run("list", "--json", MYROUTER_API_KEY=""), 2, "MYROUTER_API_KEY is not set."),
    ):
        answer = json.loads(refused.stdout)
        assert refused.returncode == code, refused.stderr
        assert happened in answer["error"]
        assert answer.keys() <= {"error", "reason", "task_id", "next_step"}
        assert f"refvideo-mcp: {answer['error']}" in refused.stderr


@posix_only
@pytest.mark.parametrize("rehearsal", ["never-ends", "slow-answer:2"])
def test_a_script_that_is_ended_still_gets_what_finds_the_job_again(place: Place, rehearsal: str) -> None:
    order = ["generate", "--prompt", f"@hero [rehearse:{rehearsal}]", "--subject", f"hero={place.picture}", *SHORT]
    with running(*order, "--json", settings=place.settings, folder=place.folder) as command:
        place.waits_for_a_submit(command)
        command.send_signal(signal.SIGTERM)
        out, _ = command.communicate()
        assert command.returncode == 130
    job = json.loads(out)
    handle = job.get("task_id") or job["idempotency_key"]
    assert f"refvideo-mcp result {handle}" in job["next_step"]
    assert place.run("result", handle, "--no-wait").returncode == 3 or "slow" in rehearsal


def test_a_job_that_only_starts_is_waited_for_later(place: Place) -> None:
    started = place.generate("@hero waves", "--no-wait")
    assert (started.returncode, started.stdout) == (0, "")
    (way_back,) = re.findall(rf"refvideo-mcp result ({ID})", started.stderr)
    found = place.run("result", f"`{way_back}`")
    assert found.returncode == 0
    assert plays(Path(found.stdout.strip()))


def test_save_is_enough_for_a_job_that_nobody_waited_for(place: Place) -> None:
    place.generate("@hero waves", "--no-wait")
    task_id = place.newest()["task_id"]
    while (found := place.run("save", task_id, "--to", "mine.mp4")).returncode == 2:
        assert "there is no video yet" in found.stderr
    assert (found.returncode, found.stdout) == (0, f"{place.folder / 'mine.mp4'}\n")
    job = place.newest()
    assert (job["state"], job["saved_to"]) == ("succeeded", str(place.folder / "mine.mp4"))


def test_a_download_that_is_tried_again_shows_nothing_of_the_library_that_does_it(place: Place) -> None:
    place.generate("@hero waves [rehearse:cut-link]", "--no-wait")
    task_id = place.newest()["task_id"]
    with stamina.set_testing(True, attempts=100, cap=True):  # as often, but without its pauses
        while (found := place.run("save", task_id)).returncode == 2:
            assert "there is no video yet" in found.stderr
    assert (found.returncode, found.stdout) == (1, "")
    assert "the connection broke again and again" in found.stderr
    assert "stamina" not in found.stderr


def test_a_look_at_a_job_that_goes_on_says_so(place: Place) -> None:
    place.generate("@hero waves [rehearse:never-ends]", "--no-wait")
    task_id = place.newest()["task_id"]
    found = place.run("result", task_id, "--no-wait", "--json")
    assert found.returncode == 3
    assert json.loads(found.stdout)["state"] in ("queued", "processing")
    saving = place.run("save", task_id)
    assert (saving.returncode, saving.stdout) == (2, "")
    assert f"refvideo-mcp result {task_id}" in saving.stderr


def test_an_unknown_job_names_those_that_are_known(place: Place) -> None:
    place.generate("@hero waves", "--no-wait")
    found = place.run("result", "lost")
    assert (found.returncode, found.stdout) == (1, "")
    assert "processing" not in found.stderr
    assert place.newest()["task_id"] in found.stderr


def test_a_sandbox_inside_the_command_makes_videos_and_says_that_it_forgets(place: Place) -> None:
    place.settings["MYROUTER_API_KEY"] = "sandbox"
    made = place.run(
        "generate", "--prompt", "@1 waves", "--subject", "hero.png", *SHORT, "--save-to", "mine.mp4", "--json"
    )
    assert made.returncode == 0, made.stderr
    answer = json.loads(made.stdout)
    assert answer["next_step"].startswith("[sandbox] ")
    assert plays(place.folder / "mine.mp4")
    assert "preview" not in answer
    for command in (["list"], ["result", answer["task_id"]], ["save", answer["task_id"]]):
        found = place.run(*command)
        assert (found.returncode, found.stdout) == (2, "")
        assert "run refvideo-mcp sandbox" in found.stderr
    assert place.submits() == 0


def test_without_a_key_it_says_what_to_set(place: Place) -> None:
    place.settings["MYROUTER_API_KEY"] = "${MYROUTER_API_KEY}"
    found = place.generate("@hero waves")
    assert (found.returncode, found.stdout) == (2, "")
    assert re.fullmatch(r"refvideo-mcp: MYROUTER_API_KEY is not set.*\n", found.stderr)


@posix_only
def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(place: Place) -> None:
    order = ["generate", "--prompt", "@hero", "--subject", f"hero={place.picture}", *SHORT]
    with running(*order, settings=place.settings, folder=place.folder) as command:
        assert command.stderr is not None
        assert any(b" of 300 s of video left in these 24 hours" in line for line in command.stderr)
        command.send_signal(signal.SIGINT)
        out, rest = command.communicate()
        assert (command.returncode, out) == (130, b"")
    (task_id,) = re.findall(rf"the job goes on. To come back: refvideo-mcp result ({ID})".encode(), rest)
    found = place.run("result", task_id.decode())
    assert found.returncode == 0
    assert plays(Path(found.stdout.strip()))
    assert place.submits() == 1


@posix_only
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_a_submission_under_way_is_not_lost_when_the_command_is_ended(place: Place, name: str) -> None:
    order = ["generate", "--prompt", "@hero [rehearse:slow-answer:3]", "--subject", f"hero={place.picture}", *SHORT]
    with running(*order, settings=place.settings, folder=place.folder) as command:
        place.waits_for_a_submit(command)
        command.send_signal(signal.Signals[name])
        out, said = command.communicate()
        assert (command.returncode, out) == (130, b"")
    assert b"ending when the router has answered" in said
    (key,) = re.findall(rb"What became of it: refvideo-mcp result (job-[0-9a-f]{32})", said)
    assert place.newest()["state"] == "queued"
    found = place.run("result", key.decode())
    assert found.returncode == 0
    assert plays(Path(found.stdout.strip()))
    assert place.submits() == 1
