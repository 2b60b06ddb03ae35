"""Hours of a working day in minutes: mixed work on both doors at once, with a router and clients that misbehave."""

import queue
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from bench.clients import Http, IsError, Server, Stdio
from bench.rows import GENERATE, LIST, RESULT, order
from bench.servers import Bench, ledger_of
from bench.table import Figure

__all__ = ["soak"]

EARLY_MINUTES = 5.0
WORKERS = 4
FAULTS = 0.1
PAUSE_SECONDS = 0.1
SAMPLES = 15
REMEMBERS = (
    "a process keeps what it knows of its last 1,000 jobs, and SQLite the statements and pages that they needed; "
    "whether it grows after that, the row with the later minute says."
)


def soak(bench: Bench, minutes: float) -> Iterator[Figure]:
    """Samples every 2 s; the last half a minute is held against one from minute 5 on (or a third of it all)."""
    bench.router(least=1, most=20, faults=FAULTS, mb=0.2)
    homes = {"stdio": bench.home(), "HTTP": bench.home()}
    pipe = bench.ours(Stdio, homes["stdio"], REFVIDEO_OUTPUT_DIR=str(bench.home()))
    servers: dict[str, Server] = {"stdio": pipe, "HTTP": bench.ours(Http, homes["HTTP"])}
    end = time.monotonic() + minutes * 60
    work = _Work(end)
    lines = _Lines(pipe)
    threads = [threading.Thread(target=work.on_pipe, args=(lines,)) for _ in range(WORKERS)]
    threads += [threading.Thread(target=work.on_http, args=(servers["HTTP"],)) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    samples: list[tuple[float, dict[str, list[float]]]] = []
    begun = time.monotonic()
    while time.monotonic() < end:
        time.sleep(2)
        found = {door: _sample(server, ledger_of(homes[door])) for door, server in servers.items()}
        samples.append((time.monotonic() - begun, found))
    for thread in threads:
        thread.join()
    early, later = min(EARLY_MINUTES, minutes / 3), minutes * 2 / 3

    def around(minute: float) -> list[dict[str, list[float]]]:
        after = [found for at, found in samples if at >= minute * 60]
        return after[: min(SAMPLES, len(samples) // 6)]

    last = [found for _, found in samples[-len(around(0)) :]]
    kinds = (
        (0, "memory", "MB", 1.1, early, REMEMBERS),
        (0, "memory", "MB", 1.1, later, ""),
        (1, "descriptors", "", 1.2, early, ""),
        (2, "threads", "", 1.2, early, ""),
        (3, "the ledger's file, a job", "kB", 1.1, early, ""),
        (4, "the ledger's log", "MB", 1.1, early, ""),
    )
    for door in servers:
        for place, kind, unit, most, since, reason in kinds:
            ends, begins = ([found[door][place] for found in side] for side in (last, around(since)))
            what = f"soak of {minutes:g} minutes, {work.calls[door]:,} calls on {door}: {kind} at the end"
            yield Figure(what, f"minute {since:.1f}", unit, ends, begins, most, reason=reason)


def _sample(server: Server, ledger: Path) -> list[float]:
    jobs = 1
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
        jobs = database.execute("SELECT count(*) FROM refvideo_jobs").fetchone()[0] or 1
    log = ledger.with_name(ledger.name + "-wal")
    sizes = [file.stat().st_size if file.exists() else 0 for file in (ledger, log)]
    return [server.memory(), server.descriptors(), server.threads(), sizes[0] / jobs / 1e3, sizes[1] / 1e6]


class _Lines:
    """One pipe for several threads: each gets its own answers."""

    def __init__(self, server: Stdio) -> None:
        self.server = server
        self._writing = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self, tool: str, arguments: dict[str, Any], *, patience: float) -> dict[str, Any] | None:
        """The answer; None, and the call is cancelled, if it takes longer."""
        answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with self._writing:
            message = self.server.message("tools/call", {"name": tool, "arguments": arguments})
            number = message["id"]
            self._waiting[number] = answers
            self.server.say(message)
        try:
            return answers.get(timeout=patience)
        except queue.Empty:
            cancel = {"requestId": number, "reason": "tired"}
            with self._writing:
                self.server.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel})
            return None
        finally:
            self._waiting.pop(number, None)

    def rubbish(self) -> None:
        with self._writing:
            self.server.write(b'{"jsonrpc": "2.0", "id":\n')

    def _read(self) -> None:
        with suppress(EOFError, ValueError, OSError):
            while True:
                answer = self.server.read()
                if waiting := self._waiting.get(answer.get("id") or 0):
                    waiting.put(answer)


class _Work:
    """What the clients of one day do, in any order, until `end`."""

    def __init__(self, end: float) -> None:
        self.calls = {"stdio": 0, "HTTP": 0}
        self._end = end
        self._tasks: list[str] = []

    def on_pipe(self, lines: _Lines) -> None:
        while time.monotonic() < self._end:
            tool, arguments = self._next()
            answer = lines.ask(tool, arguments, patience=random.choice([0.5, 60]))
            self._note("stdio", (answer or {}).get("result"))
            if random.random() < FAULTS:
                lines.rubbish()

    def on_http(self, server: Http) -> None:
        while time.monotonic() < self._end:
            tool, arguments = self._next()
            request = server.request("tools/call", name=tool, arguments=arguments)
            with suppress(OSError, IsError, ValueError), closing(server.connected()) as connection:
                if random.random() < FAULTS:
                    connection.sendall(request[: random.randrange(len(request))])
                    continue  # it hangs up before all was said
                connection.settimeout(random.choice([0.5, 60]))  # or before all was heard
                connection.sendall(request)
                self._note("HTTP", server.answer(connection))

    def _next(self) -> tuple[str, dict[str, Any]]:
        time.sleep(random.uniform(0, 2 * PAUSE_SECONDS))
        kind = random.random()
        if kind < 0.4 or not self._tasks:
            return GENERATE, order()
        if kind < 0.8:
            task = random.choice(self._tasks[-50:])
            return RESULT, {"task_id": task, "wait_seconds": random.choice([0, 5])}
        if kind < 0.9:
            return LIST, {"limit": 10}
        return random.choice([(GENERATE, {"prompt": ""}), (RESULT, {"task_id": "nobody's"})])

    def _note(self, door: str, result: dict[str, Any] | None) -> None:
        self.calls[door] += 1
        if result and (task := (result.get("structuredContent") or {}).get("task_id")):
            self._tasks.append(task)
