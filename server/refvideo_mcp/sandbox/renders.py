"""Films wanted, in the making and made: a queue, two workers, and a folder of files named by content."""

import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path

from .film import Film
from .jobs import Newest

_WORKERS = 2
_MOST_BYTES = 1 << 30
_LONGEST_SECONDS = 600


class Renders:
    """Renders each film once, in a child process, and keeps the newest 1 GiB of files."""

    # A child process and not a thread: rendering doubles the delays of the event loops beside it (two films on two
    # cores: 99 % below 8 ms in threads, below 4 ms in children), a child can be killed when the server stops, and a
    # picture that crashes a decoder takes no MCP server with it.

    def __init__(self, folder: Path | None) -> None:
        # One for each user: another user's folder cannot be written, and should not be trusted.
        user = os.getuid() if hasattr(os, "getuid") else "user"
        self._folder = folder or Path(tempfile.gettempdir()) / f"refvideo-sandbox-cache-{user}"
        self.suffix = ".mp4" if find_spec("av") else ".gif"
        self._queue: queue.Queue[str] = queue.Queue()
        self._lock = threading.Lock()
        self._pending: set[str] = set()
        self._failures: Newest[str] = Newest()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._workers: list[threading.Thread] = []
        self._closed = False

    def want(self, film: Film) -> str:
        """Sees to it that the film gets rendered. Returns its key at once."""
        key = film.key
        made = self.path(key)
        with self._lock:
            if made or key in self._pending:
                return key
            self._pending.add(key)
            self._failures.pop(key, None)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._order(key).write_bytes(film.to_json())
        except OSError as error:
            self._finish(key, f"cannot write to {self._folder}: {error}")
            return key
        self._queue.put(key)
        with self._lock:
            while len(self._workers) < _WORKERS:
                # Daemons: a process that ends does not wait for its films.
                worker = threading.Thread(target=self._work, name="sandbox-render", daemon=True)
                self._workers.append(worker)
                worker.start()
        return key

    def path(self, key: str) -> Path | None:
        """The finished file, or None."""
        file = self._file(key, self.suffix)
        try:
            os.utime(file)  # the oldest are deleted first
        except OSError:
            return None
        return file

    def failure(self, key: str) -> str | None:
        """Why the film could not be rendered, or None."""
        return self._failures.get(key)

    def knows(self, key: str) -> bool:
        """Whether the film waits, is being rendered, is made or has failed, and is not deleted since."""
        return key in self._pending or key in self._failures or self.path(key) is not None

    def join(self) -> None:
        """Waits until every film wanted so far is rendered."""
        self._queue.join()

    def close(self) -> None:
        """Ends the children; nothing more is rendered."""
        with self._lock:
            self._closed = True
            children = list(self._children)
        for child in children:
            child.kill()

    def _file(self, key: str, suffix: str) -> Path:
        return self._folder / f"refclip-{key}{suffix}"

    def _order(self, key: str) -> Path:
        # On disk and not in memory: a thousand waiting orders may carry 20 MB of pictures each.
        return self._file(key, f".{os.getpid()}.json")

    def _work(self) -> None:
        while True:
            key = self._queue.get()
            try:
                self._finish(key, self._render(key))
            except OSError as error:
                self._finish(key, str(error))
            finally:
                self._queue.task_done()

    def _finish(self, key: str, failure: str | None) -> None:
        with self._lock:
            self._pending.discard(key)
            if failure is not None:
                self._failures[key] = failure

    def _render(self, key: str) -> str | None:
        order, made = self._order(key), self._file(key, self.suffix)
        handle, name = tempfile.mkstemp(dir=self._folder, prefix="refclip-", suffix=f".part{self.suffix}")
        os.close(handle)
        part = Path(name)
        try:
            failure = None if made.exists() else self._run(order, part)
            if failure is None and not made.exists():
                # On Windows a file that someone reads cannot be replaced; it has the same content anyway.
                with contextlib.suppress(PermissionError):
                    part.replace(made)
        finally:
            part.unlink(missing_ok=True)
            order.unlink(missing_ok=True)
        self._prune()
        return failure

    def _run(self, order: Path, part: Path) -> str | None:
        # Our own module, with a path of our own making: no one else's words are in the command.
        command = [sys.executable, "-P", "-m", "refvideo_mcp.sandbox.film", str(part)]
        with order.open("rb") as request, self._lock:
            if self._closed:
                return "the sandbox was closed"
            child = subprocess.Popen(  # noqa: S603
                command,
                stdin=request,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            self._children.add(child)
        try:
            _, said = child.communicate(timeout=_LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            _, said = child.communicate()
        finally:
            with self._lock:
                self._children.discard(child)
        if child.returncode == 0:
            return None
        lines = said.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the renderer ended with {child.returncode}"

    def _prune(self) -> None:
        files = []
        for file in self._folder.glob("refclip-*"):
            with contextlib.suppress(OSError):
                status = file.stat()
                files.append((status.st_mtime, status.st_size, file))
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if total <= _MOST_BYTES:
                return
            with contextlib.suppress(OSError):
                file.unlink()
            total -= size
