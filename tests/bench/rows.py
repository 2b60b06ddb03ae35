"""What is measured: ours and a baseline in turn, so that whatever else the machine does weighs on both."""

import itertools
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from bench.clients import LEGACY, MODERN, Http, Server, Stdio
from bench.servers import Bench, ledger_of
from bench.table import Figure
from refvideo_mcp.ledger import Job, Ledger, Video

__all__ = ["GENERATE", "LIST", "RESULT", "ROWS", "order"]

GENERATE, RESULT, LIST = "generate_reference_video", "get_task_result", "list_reference_videos"
LINKS = [f"https://pictures.example/hero-{number}.jpg" for number in range(3)]
MANY_JOBS = 10_000
DAY_SECONDS, YEAR_SECONDS = 24 * 3600.0, 365 * 24 * 3600.0
VIDEO_MB = 200
WAITING_JOBS = 180  # of so many random ones, the median is within 0.08 of what it tends to
TRIVIAL = "bare MCPServer, one trivial tool"
# Why a limit is not kept, where that is known.
STARTS = "what is over is this server's own modules and the schemas of its three tools; the SDK takes the rest."
SAVES = (
    "each 256 kB go to a thread, so that a slow disk holds up no other call; see the quartiles for the disk's own part."
)
LEDGER_IS_OPEN = (
    "by then it has looked for jobs that an earlier process left unfinished, and SQLAlchemy, which it reads the ledger "
    "with, takes 13 MB. The first answer does not wait for that, and a process that never calls a tool has it, too."
)
SUBMIT_TAKES = (
    "the baseline writes its rows and sends its POST on the event loop. Here both rows are written in a thread, so "
    "that a slow disk holds up no other call (0.3 ms each); the first transaction looks for the same job, its key and "
    "the allowance of 24 hours, too, through SQLAlchemy and six indexes (1 ms); before it, what the user may be asked "
    "and three addresses are checked (0.7 ms)."
)

Measured = TypeVar("Measured")
_numbers = itertools.count(1)


def order(images: Sequence[str] = LINKS) -> dict[str, Any]:
    """The arguments of a job that no other call has asked for."""
    return {"prompt": f"@hero waves, take {next(_numbers)}", "subjects": [{"id": "hero", "images": [*images]}]}


def in_turn(
    rounds: int, ours: Callable[[], Measured], theirs: Callable[[], Measured]
) -> tuple[list[Measured], list[Measured]]:
    """Both measured so often; each is first in every other round."""
    found: tuple[list[Measured], list[Measured]] = [], []
    for number in range(rounds):
        for place in (0, 1) if number % 2 else (1, 0):
            found[place].append((ours, theirs)[place]())
    return found


def typical(count: int, call: Callable[[], object]) -> float:
    """The median of so many calls, in milliseconds."""
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1000)
    return median(times)


def finished(server: Server) -> tuple[str, Any]:
    """The task id of a job that is done, and its answer."""
    task = server.call(GENERATE, **order())["structuredContent"]["task_id"]
    while True:
        answer = server.call(RESULT, task_id=task)
        if answer["structuredContent"]["state"] == "succeeded":
            return task, answer


def start(bench: Bench) -> Iterator[Figure]:
    def started(make: Callable[..., Stdio], era: str, *arguments: Any) -> Callable[[], tuple[float, float]]:
        def measure() -> tuple[float, float]:
            begun = time.perf_counter()
            server = make(*arguments, era=era)
            server.ask("tools/list")
            took = time.perf_counter() - begun
            return took, server.stop()

        measure()  # which leaves the bytecode
        return measure

    for era in (LEGACY, MODERN):
        measures = started(bench.ours, era, Stdio), started(bench.bare, era, "trivial", Stdio)
        us, them = in_turn(bench.rounds(12), *measures)
        for place, what, most in ((0, "start → tools/list", 1.05), (1, "its CPU", None)):
            ours, theirs = ([pair[place] for pair in side] for side in (us, them))
            yield Figure(f"{what}, {era}", TRIVIAL, "s", ours, theirs, most, reason=STARTS)


def memory(bench: Bench) -> Iterator[Figure]:
    doors: list[tuple[type[Server], float]] = [(Stdio, 1.05), (Http, 1.2)]
    for door, most in doors:
        first: list[tuple[float, float]] = []
        idle: list[tuple[float, float]] = []
        for _ in range(bench.rounds(3)):
            servers = bench.ours(door), bench.bare("trivial", door)
            for server in servers:
                server.ask("tools/list")
            first.append((servers[0].memory(), servers[1].memory()))
            time.sleep(5)  # by then ours has looked for unfinished jobs
            idle.append((servers[0].memory(), servers[1].memory()))
            for server in servers:
                server.stop()
        for when, found, reason in (("at the first answer", first, ""), ("5 s later", idle, LEDGER_IS_OPEN)):
            what = f"resident memory, {door.__name__.lower()}, {when}"
            ours, theirs = zip(*found, strict=True)
            yield Figure(what, TRIVIAL, "MB", ours, theirs, most, reason=reason)


def result(bench: Bench) -> Iterator[Figure]:
    bench.router()
    videos = str(bench.home())
    yield from _result(bench, "stdio", "32 in flight", bench.ours(Stdio, REFVIDEO_OUTPUT_DIR=videos), Stdio)
    yield from _result(bench, "HTTP", "8 connections", bench.ours(Http), Http)


def _result(bench: Bench, door: str, width: str, ours: Server, kind: type[Server]) -> Iterator[Figure]:
    task, answer = finished(ours)
    given = bench.home() / "answer.json"
    text, structure = answer["content"][0]["text"], answer["structuredContent"]
    given.write_text(json.dumps({"text": text, "structure": structure}), encoding="utf-8")
    bare = bench.bare("answer", kind, BARE_ANSWER=str(given))

    def measure(server: Server) -> tuple[float, float]:
        one = typical(100, lambda: server.call(RESULT, task_id=task))
        return one, server.flood(400, int(width.split()[0]), RESULT, task_id=task)

    for server in (ours, bare):
        measure(server)
    us, them = in_turn(bench.rounds(8), partial(measure, ours), partial(measure, bare))
    tool, what = "bare tool, equally large answer", f"get_task_result of a finished job, {door}"
    yield Figure(f"{what}: p50", tool, "ms", [p50 for p50, _ in us], [p50 for p50, _ in them], most=1.3)
    rates = [rate for _, rate in us], [rate for _, rate in them]
    yield Figure(f"{what}: calls/s with {width}", tool, "calls/s", *rates, least=0.75)
    yield Figure(f"resident memory after these calls, {door}", tool, "MB", [ours.memory()], [bare.memory()])
    for server in (ours, bare):
        server.stop()


def submit(bench: Bench) -> Iterator[Figure]:
    bench.router()
    ours, bare = bench.ours(Stdio), bench.bare("submit", Stdio)

    def measure(server: Stdio) -> float:
        took = typical(15, lambda: server.call(GENERATE, **order()))
        time.sleep(2.5)  # ours looks what became of them
        return took

    for server in (ours, bare):
        measure(server)
    us, them = in_turn(bench.rounds(8), partial(measure, ours), partial(measure, bare))
    what, rows = "generate_reference_video, three URLs: p50", "bare tool: two durable rows, POST"
    yield Figure(what, rows, "ms", us, them, 1.3, reason=SUBMIT_TAKES)


def picture(bench: Bench) -> Iterator[Figure]:
    bench.router()
    folder = bench.home()
    path = _png_of_12_mb(folder)
    cases: list[tuple[str, list[str]]] = [("three URLs", LINKS), ("a 12 MB PNG", [str(path)])]
    ours = bench.ours(Stdio, REFVIDEO_IMAGE_DIRS=str(folder))
    bare = bench.bare("submit", Stdio)
    for server in (ours, bare):
        server.call(GENERATE, **order([str(path)]))

    def measure(server: Stdio) -> tuple[float, float]:
        took = typical(1, lambda: server.call(GENERATE, **order([str(path)])))
        _, held = server.ask_pinging(GENERATE, **order([str(path)]))
        time.sleep(1)  # ours has a thumbnail to make
        return took, held * 1000

    us, them = in_turn(bench.rounds(8), partial(measure, ours), partial(measure, bare))
    lines = "bare tool: read, decode, base64, POST"
    yield Figure("generate_reference_video, a 12 MB PNG", lines, "ms", [t for t, _ in us], [t for t, _ in them], 1.3)
    yield Figure("slowest ping meanwhile", "", "ms", [held for _, held in us], most=50)
    for name, images in cases:
        helds = []
        for _ in range(bench.rounds(5)):
            fresh = bench.ours(Stdio, REFVIDEO_IMAGE_DIRS=str(folder))
            helds.append(fresh.ask_pinging(GENERATE, **order(images))[1] * 1000)
            fresh.stop()
        yield Figure(f"slowest ping at a process's first submit, {name}", "", "ms", helds, most=50)


def jobs(bench: Bench) -> Iterator[Figure]:
    bench.router(least=3600, most=3600)
    for name, span in (("one day", DAY_SECONDS), ("one year", YEAR_SECONDS)):
        full, empty = bench.home(), bench.home()
        _fill(ledger_of(full), f"local@{bench.router_url.removeprefix('http://')}", span)

        def listed_at_start(home: Path) -> float:
            begun = time.perf_counter()
            server = bench.ours(Stdio, home)
            server.call(LIST)
            took = time.perf_counter() - begun
            server.stop()
            return took

        def measured(server: Stdio) -> tuple[float, float, float]:
            submitted = typical(10, lambda: server.call(GENERATE, **order()))
            listed = typical(20, lambda: server.call(LIST, limit=10))
            by_state = typical(20, lambda: server.call(LIST, limit=10, state="queued"))
            return submitted, listed, by_state

        rounds = bench.rounds(6)
        against = "the same, ledger empty before"
        for home in (full, empty):
            listed_at_start(home)
        us, them = in_turn(rounds, partial(listed_at_start, full), partial(listed_at_start, empty))
        yield Figure(f"{MANY_JOBS:,} jobs of {name}: start → list", against, "s", us, them, most=1.2)
        ours, theirs = bench.ours(Stdio, full), bench.ours(Stdio, empty)
        for server in (ours, theirs):
            measured(server)
        found = in_turn(rounds, partial(measured, ours), partial(measured, theirs))
        for place, what in enumerate(("submit: p50", "list: p50", "list by state: p50")):
            pairs = [[triple[place] for triple in side] for side in found]
            yield Figure(f"{MANY_JOBS:,} jobs of {name}: {what}", against, "ms", pairs[0], pairs[1], most=1.2)
        for server in (ours, theirs):
            server.stop()


def saving(bench: Bench) -> Iterator[Figure]:
    videos = bench.home()
    ours, bare = bench.ours(Stdio, REFVIDEO_OUTPUT_DIR=str(videos)), bench.bare("save", Stdio)

    def save() -> float:
        task, answer = finished(ours)
        ended = time.monotonic()
        Path(answer["structuredContent"]["videos"][0]["saved_to"]).unlink()
        return ended - bench.events()[task]["fetched"][0]

    def stream() -> float:
        task = ours.call(GENERATE, **order())["structuredContent"]["task_id"]  # saved by ours later
        begun = time.monotonic()
        bare.call("fetch", url=f"{bench.router_url}/videos/{task}", to=str(videos / "bare"))
        took = time.monotonic() - begun
        finished_later = ours.call(RESULT, task_id=task)
        Path(finished_later["structuredContent"]["videos"][0]["saved_to"]).unlink()
        return took

    bench.router()
    finished(ours)  # all that it needs is loaded by then
    before = ours.memory()
    bench.router(mb=VIDEO_MB)
    save()
    us, them = in_turn(bench.rounds(6), save, stream)
    yield Figure(f"saving {VIDEO_MB} MB", "bare stream to disk, fsync", "s", us, them, most=1.3, reason=SAVES)
    yield Figure("the most memory that saving adds", "", "MB", [ours.memory("VmHWM") - before], most=16)


def waiting(bench: Bench) -> Iterator[Figure]:
    server = bench.ours(Stdio)

    def submitted(count: int, least: float, most: float) -> list[str]:
        bench.router(least=least, most=most)
        return [server.call(GENERATE, **order())["structuredContent"]["task_id"] for _ in range(count)]

    random = submitted(min(WAITING_JOBS, 30 * bench.rounds(6)), 5, 60)
    of_30_s = submitted(10, 30, 30)
    waits = {task: {"task_id": task, "wait_seconds": 300} for task in random + of_30_s}
    calls = {server.send("tools/call", name=RESULT, arguments=wait): task for task, wait in waits.items()}
    answered: dict[str, float] = {}
    while len(answered) < len(calls):
        task = calls[server.read()["id"]]  # before the time is taken, which an assignment would do first
        answered[task] = time.monotonic()
    events = bench.events()
    late, pauses = [], []
    for task in random:
        end, polls = events[task]["done"][0], events[task]["polls"]
        late.append(answered[task] - end)
        pauses.append(min(poll for poll in polls if poll >= end) - max(poll for poll in polls if poll < end))
    what = "job done upstream → its waiting call answers, jobs of 5-60 s"
    yield Figure(what, "the poll interval then in force", "s", late, pauses, most=0.55)
    yield Figure("polls for a job of 30 s", "", "polls", [len(events[task]["polls"]) for task in of_30_s], most=8)


def locked(bench: Bench) -> Iterator[Figure]:
    bench.router()
    home = bench.home()
    server = bench.ours(Stdio, home)
    task, _ = finished(server)

    def reads() -> tuple[float, float]:
        return typical(30, lambda: server.call(RESULT, task_id=task)), typical(30, lambda: server.call(LIST))

    def reads_locked() -> tuple[float, float]:
        with closing(sqlite3.connect(ledger_of(home), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            return reads()

    reads()
    us, them = in_turn(bench.rounds(8), reads_locked, reads)
    for place, what in enumerate((RESULT, LIST)):
        ours, theirs = [pair[place] for pair in us], [pair[place] for pair in them]
        yield Figure(f"{what} while another program holds the write lock: p50", "idle", "ms", ours, theirs, most=2)


def _png_of_12_mb(folder: Path) -> Path:
    from PIL import Image

    path = folder / "hero.png"
    Image.frombytes("RGB", (2000, 2000), os.urandom(12_000_000)).save(path, compress_level=1)
    return path


def _fill(file: Path, account: str, span: float) -> None:
    """A ledger of many ended jobs, made by the ledger itself, in memory: each is a transaction of its own."""
    now = time.time()
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        ledger = Ledger(Path(folder) / "ledger.db")
        for number in range(MANY_JOBS):
            at = now - 60 - span * (number + 0.5) / MANY_JOBS
            pictures = [{"url": link, "sha256": f"{number:064x}"} for link in LINKS]
            done = number % 20 != 0
            ledger.import_job(
                Job(
                    f"{number:032x}",
                    account,
                    key=f"job-{number:032x}",
                    state="succeeded" if done else "failed",
                    task_id=f"{number:08x}-2b71-4d0a-9c55-0d9f1e7a4b26",
                    request={"prompt": "@hero waves", "duration": 5, "subjects": [{"id": "hero", "images": pictures}]},
                    fingerprint=f"{number:064x}",
                    pictures=f"{number:064x}",
                    seconds=5,
                    opened_at=at,
                    submit_deadline=at + 120,
                    changed_at=at + 60,
                    last_asked_at=at + 60,
                    answered_at=at + 60,
                    delivered=True,
                    told=True,
                    saved_to=f"/videos/{number}.mp4" if done else None,
                    reason=None if done else "TaskPromptPolicyViolation",
                    videos=(Video(f"https://cdn.example/{number}.mp4", at + 3660, "mp4", at + 3660),) if done else (),
                )
            )
        ledger.close()
        file.parent.mkdir(parents=True)
        shutil.copy(Path(folder) / "ledger.db", file)


ROWS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    row.__name__: row for row in (start, memory, result, submit, picture, jobs, saving, waiting, locked)
}
