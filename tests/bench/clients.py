"""MCP clients without an SDK: lines over pipes, HTTP/1.1 over sockets. What is measured is the server's work alone."""

import itertools
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["LEGACY", "MODERN", "Http", "IsError", "Server", "Stdio", "get"]

LEGACY, MODERN = "2025-11-25", "2026-07-28"
CLIENT = {"name": "bench", "version": "1"}
META = "io.modelcontextprotocol/"
SLOWEST_START_SECONDS = 60.0
KEPT_ALIVE_SECONDS = 3.0  # uvicorn closes an idle connection after 5


class IsError(Exception):
    """An answer that is an error; its text."""


class Server:
    """A server as a child process, and what the kernel says of it."""

    speaks_on_stdout = True

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path, era: str = LEGACY) -> None:
        self.era = era
        self._numbers = itertools.count(1)
        with (folder / "stderr").open("ab") as stderr:
            stdout = subprocess.PIPE if self.speaks_on_stdout else stderr
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, env=env, cwd=folder
            )

    def call(self, tool: str, **arguments: Any) -> Any:
        result = self.ask("tools/call", name=tool, arguments=arguments)
        if result.get("isError"):
            raise IsError(result["content"][0]["text"])
        return result

    def begin(self) -> None:
        """Whatever comes before the first question."""
        raise NotImplementedError

    def ask(self, method: str, **params: Any) -> Any:
        """What it answers."""
        raise NotImplementedError

    def flood(self, count: int, width: int, tool: str, **arguments: Any) -> float:
        """Calls a second, with so many at once."""
        raise NotImplementedError

    def message(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        if self.era == MODERN:
            meta = {"protocolVersion": MODERN, "clientInfo": CLIENT, "clientCapabilities": {}}
            params = {**params, "_meta": {META + name: value for name, value in meta.items()}}
        return {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": params}

    def memory(self, field: str = "VmRSS") -> float:
        """In MB; `VmHWM` is the most that it ever was."""
        return self._status(field) / 1024

    def threads(self) -> int:
        return self._status("Threads")

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stop(self) -> float:
        """Kill it; the seconds of CPU that it took in all."""
        self.process.send_signal(signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        if self.process.returncode is not None:
            return 0.0  # it has ended by itself
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_utime + usage.ru_stime

    def _status(self, field: str) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{field}:\s+(\d+)", text, re.MULTILINE)
        assert found
        return int(found[1])


class Stdio(Server):
    def begin(self) -> None:
        if self.era == LEGACY:
            self.ask("initialize", protocolVersion=LEGACY, capabilities={}, clientInfo=CLIENT)
            self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def ask(self, method: str, **params: Any) -> Any:
        number = self.send(method, **params)
        while (answer := self.read())["id"] != number:
            pass
        return _result(answer)

    def send(self, method: str, **params: Any) -> int:
        message = self.message(method, params)
        self.say(message)
        return int(message["id"])

    def say(self, message: Mapping[str, Any]) -> None:
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        """The next answer."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(b"{"):  # some of the peers greet there
                answer: dict[str, Any] = json.loads(line)
                if "method" not in answer:
                    return answer
        raise EOFError(f"{self.process.args!r} has ended")

    def flood(self, count: int, width: int, tool: str, **arguments: Any) -> float:
        begun = time.perf_counter()
        for number in range(count + width):
            if number >= width:
                _checked(self.read())
            if number < count:
                self.send("tools/call", name=tool, arguments=arguments)
        return count / (time.perf_counter() - begun)

    def ask_pinging(self, tool: str, **arguments: Any) -> tuple[float, float]:
        """The seconds of one call, and those of the slowest ping meanwhile. Only the older revisions know pings."""
        begun = time.perf_counter()
        call, took, slowest = self.send("tools/call", name=tool, arguments=arguments), 0.0, 0.0
        while not took:
            pinged = time.perf_counter()
            ping = self.send("ping")
            while (answer := self.read())["id"] != ping:
                if answer["id"] == call:
                    _checked(answer)
                    took = time.perf_counter() - begun
            slowest = max(slowest, time.perf_counter() - pinged)
            time.sleep(0.002)
        return took, slowest


class Http(Server):
    """`command` gets the port as its last argument."""

    speaks_on_stdout = False

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path, era: str = LEGACY) -> None:
        self.port = _free_port()
        super().__init__([*command, str(self.port)], env, folder, era)
        self._socket: socket.socket | None = None
        self._used = 0.0

    def begin(self) -> None:
        end = time.monotonic() + SLOWEST_START_SECONDS
        while self._socket is None:  # until it listens
            try:
                self._reconnect()
            except ConnectionRefusedError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.02)

    def connected(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, method: str, **params: Any) -> Any:
        if self._socket is None or time.monotonic() - self._used > KEPT_ALIVE_SECONDS:
            self._reconnect()
        assert self._socket is not None
        self._socket.sendall(self.request(method, **params))
        result = self.answer(self._socket)
        self._used = time.monotonic()
        return result

    def answer(self, connection: socket.socket) -> Any:
        came = bytearray()
        while not _is_whole(came):
            came += _received(connection)
        return _result(_json(came))

    def request(self, method: str, **params: Any) -> bytes:
        body = json.dumps(self.message(method, params)).encode()
        headers = {
            "Host": f"127.0.0.1:{self.port}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": self.era,
            "Mcp-Method": method,
            **({"Mcp-Name": params["name"]} if "name" in params else {}),
            "Content-Length": str(len(body)),
        }
        return (
            "".join(["POST /mcp HTTP/1.1\r\n", *(f"{k}: {v}\r\n" for k, v in headers.items()), "\r\n"]).encode() + body
        )

    def flood(self, count: int, width: int, tool: str, **arguments: Any) -> float:
        request = self.request("tools/call", name=tool, arguments=arguments)
        with selectors.DefaultSelector() as selector:
            for _ in range(width):
                selector.register(self.connected(), selectors.EVENT_READ, bytearray())
            begun, sent, done = time.perf_counter(), 0, 0
            for key in selector.get_map().values():
                key.fileobj.sendall(request)  # type: ignore[union-attr]  # a socket, as registered
                sent += 1
            while done < sent:
                for key, _ in selector.select():
                    key.data.extend(_received(key.fileobj))  # type: ignore[arg-type]
                    if _is_whole(key.data):
                        _checked(_json(key.data))
                        key.data.clear()
                        done += 1
                        if sent < count:
                            key.fileobj.sendall(request)  # type: ignore[union-attr]
                            sent += 1
            took = time.perf_counter() - begun
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
        return count / took

    def stop(self) -> float:
        if self._socket is not None:
            self._socket.close()
        return super().stop()

    def _reconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._used = self.connected(), time.monotonic()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def get(url: str) -> Any:
    """What a GET of an http URL brings."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port))) as connection:
        connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        came = bytearray()
        while not _is_whole(came):
            came += _received(connection)
    return _json(came)


def _received(connection: socket.socket) -> bytes:
    chunk = connection.recv(2**18)
    if not chunk:
        raise ConnectionResetError("the server hung up")
    return chunk


def _is_whole(came: bytes | bytearray) -> bool:
    head, end, body = came.partition(b"\r\n\r\n")
    if length := re.search(rb"(?i)content-length: *(\d+)", head):
        return bool(end) and len(body) >= int(length[1])
    return body.endswith(b"\r\n0\r\n\r\n")


def _json(came: bytes | bytearray) -> Any:
    """The body of an answer, be it plain or the one event of a stream."""
    body = bytes(came).partition(b"\r\n\r\n")[2]
    event = re.search(rb"^data: (\{.*\})\r?$", body, re.MULTILINE)
    return json.loads(event[1] if event else body)


def _result(answer: Mapping[str, Any]) -> Any:
    if "error" in answer:
        raise IsError(answer["error"]["message"])
    return answer["result"]


def _checked(answer: Mapping[str, Any]) -> None:
    result = _result(answer)
    if result.get("isError"):
        raise IsError(result["content"][0]["text"])
