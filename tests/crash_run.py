"""Kills the stdio server with SIGKILL at random moments around its POSTs, and counts what becomes of the jobs.

`python tests/crash_run.py --rounds 200`. Several users at once, each with a ledger of their own, share one router. In
each round a new server checks what the last one left behind, the call that got no answer is repeated, and the next
job is submitted; then the server is killed. Some are stopped for a moment before, as by a paused container, and some
lose their ledger's file to somebody who moves it away. In every second round the first call of a new server is
cancelled early instead, and repeated at once. Ends with 1, and the random seed to repeat it, if a job was lost or paid
for twice.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.streams.text import TextReceiveStream
from mcp import Client, MCPError

from refvideo_mcp.ledger import Job, Ledger
from stdio_server import StdioServer

ANSWER_SECONDS = (0.0, 0.3)  # how long the router thinks about a POST
LATEST_KILL_SECONDS = 0.5
LATEST_CANCEL_SECONDS = 0.8
STOPPED, MOVED = 0.3, 0.2  # how often
PATIENCE_SECONDS = 1.5  # for a repeated call, which may have to wait for an answer that nobody gets any more


@dataclass
class Call:
    """One job that a user wants. `told` is the task id that the agent read, if the server lived long enough."""

    prompt: str
    made: int = 0
    given_up: int = 0
    told: str | None = None
    killed: str = ""  # when, as far as it shows from outside
    moved: bool = False  # the ledger's file was moved away, and with it what was known of earlier calls


@dataclass
class User:
    home: Path
    dice: random.Random
    calls: list[Call] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)


@dataclass
class Upstream:
    """What the router counted, by prompt."""

    posts: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, list[str]] = field(default_factory=dict)
    torn: int = 0  # POSTs whose body broke off

    @classmethod
    def read(cls, stats: Path) -> "Upstream":
        found = cls()
        for event in map(json.loads, stats.read_text(encoding="utf-8").splitlines() if stats.exists() else []):
            if event["event"] == "accepted":
                found.accepted.setdefault(event["prompt"], []).append(event["task_id"])
            elif event["prompt"] is None:
                found.torn += 1
            else:
                found.posts[event["prompt"]] += 1
        return found


async def play(user: User, url: str, stats: Path, rounds: int) -> None:
    for number in range(rounds):
        if number % 2:
            await cancel_early(user, url, number)
            continue
        async with StdioServer.running(user.home, url) as server, Client(server.pipes()) as client:
            await look_back(user, client, stats)
            call = Call(f"@1 waves, {user.home.name}, round {number}", moved=user.dice.random() < MOVED)
            user.calls.append(call)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(make, call, client)
                await anyio.sleep(user.dice.uniform(0, LATEST_KILL_SECONDS))
                if user.dice.random() < STOPPED:
                    server.process.send_signal(signal.SIGSTOP)
                    await anyio.sleep(user.dice.uniform(0, LATEST_KILL_SECONDS))
                    server.process.send_signal(signal.SIGCONT)
                    await anyio.sleep(user.dice.uniform(0, LATEST_KILL_SECONDS))
                if call.moved:
                    move_away(server.ledger, number)
                    await anyio.sleep(user.dice.uniform(0, LATEST_KILL_SECONDS))
                server.process.kill()
                await server.ended()
    async with StdioServer.running(user.home, url) as server, Client(server.pipes()) as client:
        await look_back(user, client, stats)
        await look_for_every_job(user, client)


def move_away(ledger: Path, number: int) -> None:
    for end in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            ledger.with_name(f"{ledger.name}{end}").rename(ledger.with_name(f"moved-{number}.db{end}"))


async def cancel_early(user: User, url: str, number: int) -> None:
    """The first call of a server, which takes long, given up and repeated by a client in a hurry."""
    call = Call(f"@1 waits, {user.home.name}, round {number}", killed="not at all")
    user.calls.append(call)
    async with StdioServer.running(user.home, url) as server, Client(server.pipes()) as client:
        with anyio.move_on_after(user.dice.uniform(0, LATEST_CANCEL_SECONDS)) as patience:
            await make(call, client)
        if patience.cancelled_caught:
            call.given_up += 1
            await make(call, client)
        assert call.told, call


async def make(call: Call, client: Client) -> None:
    """The call, as an agent makes it: it knows of a job only if an answer comes."""
    call.made += 1
    subjects = [{"id": "1", "images": ["https://example.com/cat.png"]}]
    try:
        result = await client.call_tool("generate_reference_video", {"prompt": call.prompt, "subjects": subjects})
    except MCPError:
        return  # killed
    call.told = (result.structured_content or {}).get("task_id")


async def look_back(user: User, client: Client, stats: Path) -> None:
    """See what the kill left behind, and repeat the call if it got no answer."""
    listed = await client.call_tool("list_reference_videos", {"limit": 3})
    # The HTTP client is imported at its first request: that would take the time in which we want to kill.
    await client.call_tool("get_task_result", {"task_id": "none-such", "wait_seconds": 0})
    call, upstream = next((call for call in user.calls if not call.killed), None), Upstream.read(stats)
    if call is None:
        return
    assert listed.structured_content
    recorded = any(job["prompt"] == call.prompt for job in listed.structured_content["jobs"])
    if call.told:
        call.killed = "after the answer"
    elif call.prompt in upstream.accepted:
        call.killed = "after the POST"
    elif upstream.posts[call.prompt]:
        call.killed = "in the POST"
    else:
        call.killed = "before the POST" if recorded else "before the ledger"
    if call.told is None:
        with anyio.move_on_after(PATIENCE_SECONDS) as patience:
            await make(call, client)
        call.given_up += patience.cancelled_caught


async def look_for_every_job(user: User, client: Client) -> None:
    """What is listed can be asked for, by its task id or its key."""
    listed = await client.call_tool("list_reference_videos", {"limit": 50})
    assert listed.structured_content

    async def look(job: dict[str, Any]) -> None:
        handle = job.get("task_id") or job["idempotency_key"]
        result = await client.call_tool("get_task_result", {"task_id": handle, "wait_seconds": 0})
        (text, *_) = result.content
        # A submission listed a moment ago may have become uncertain since.
        lost = job["state"] in ("submitting", "uncertain") and "may have been accepted" in getattr(text, "text", "")
        if result.is_error and not lost:
            user.unreachable.append(f"NOT FOUND: {handle}, {job['state']}: {text}")

    async with anyio.create_task_group() as tasks:
        for job in listed.structured_content["jobs"]:
            tasks.start_soon(look, job)


def remembered(user: User, url: str) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for file in (user.home / "state" / "refvideo-mcp").glob("*.db"):
        ledger = Ledger(file)
        try:
            for job in ledger.newest(f"local@{url.removeprefix('http://')}", 1000):
                found.setdefault(job.prompt or "", []).append(job.at(time.time()))
        finally:
            ledger.close()
    return found


def judge(users: list[User], url: str, upstream: Upstream) -> tuple[dict[str, int], list[str]]:
    """The counts, and what must not be."""
    counts: Counter[str] = Counter()
    wrong = [line for user in users for line in user.unreachable]
    for user in users:
        rows = remembered(user, url)
        for call in user.calls:
            jobs, posts = rows.get(call.prompt, []), upstream.posts[call.prompt]
            accepted = upstream.accepted.get(call.prompt, [])
            counts[f"killed {call.killed}"] += 1
            counts["ledgers moved away"] += call.moved
            counts["calls"] += call.made
            counts["repeated calls"] += call.made > 1
            counts["calls given up"] += call.given_up
            counts["POSTs"] += posts
            counts["accepted"] += len(accepted)
            for task_id in accepted:
                known = any(job.task_id == task_id for job in jobs)
                state = next((job.state for job in jobs if job.state in ("uncertain", "submitting")), None)
                if known or state:
                    counts["accepted, known by task id" if known else f"accepted, {state}"] += 1
                else:
                    wrong.append(f"LOST: {task_id} ({call.prompt})")
            if posts > 1 and not call.moved:
                rows_of = ", ".join(f"{job.id} {job.state} {job.opened_at:.3f}" for job in jobs)
                wrong.append(
                    f"PAID TWICE: {call.prompt}, killed {call.killed}: {posts} POSTs, {call.made} calls, {rows_of}"
                )
            if call.told and call.told not in accepted:
                wrong.append(f"INVENTED: {call.told}")
    counts["POSTs"] += upstream.torn
    if counts["POSTs"] > counts["calls"]:
        wrong.append(f"{counts['POSTs']} POSTs for {counts['calls']} calls")
    return counts, wrong


async def run(rounds: int, users: int, seed: int, folder: Path) -> int:
    stats = folder / "stats.jsonl"
    program = Path(__file__).with_name("misbehaving_router.py")
    delay = [str(seconds) for seconds in ANSWER_SECONDS]
    command = [sys.executable, str(program), "--stats", str(stats), "--answer-delay", *delay]
    started = time.monotonic()
    crowd = [User(folder / f"user-{n}", random.Random(f"{seed}-{n}")) for n in range(users)]
    async with await anyio.open_process(command, stderr=None) as router:
        try:
            assert router.stdout
            url = (await TextReceiveStream(router.stdout).receive()).strip()
            async with anyio.create_task_group() as tasks:
                for number, user in enumerate(crowd):
                    tasks.start_soon(play, user, url, stats, rounds // users + (number < rounds % users))
        finally:
            router.kill()
    counts, wrong = judge(crowd, url, Upstream.read(stats))
    head = f"{rounds} rounds, {users} users, seed {seed}, {time.monotonic() - started:.0f} s"
    lines = [head, *(f"{count:6} {what}" for what, count in sorted(counts.items())), *wrong]
    lines.append(f"FAILED; try again with --seed {seed}" if wrong else "nothing lost, nothing paid twice")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crash-run-") as folder:
        return anyio.run(run, options.rounds, options.users, options.seed, Path(folder))


if __name__ == "__main__":
    raise SystemExit(main())
