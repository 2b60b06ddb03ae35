"""A balance that a gateway tells is shown to people; where it tells none at once, nothing is said of it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from a_place import Place

TOLD = '{"credit_balance": 123456}'


@contextmanager
def gateway(status: int, body: str, slow: threading.Event | None = None) -> Iterator[str]:
    """The address of a router that knows no task, and answers so at /v3/user; `slow`: not before that is set."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            is_user = self.path == "/v3/user"
            if is_user and slow is not None:
                slow.wait(30)
            told = body if is_user else json.dumps({"code": 404, "reason": "TASK_NOT_FOUND"})
            self.send_response(status if is_user else 404)
            self.end_headers()
            self.wfile.write(told.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            if slow is not None:
                slow.set()
            server.shutdown()
            thread.join()


def lines(found: dict[str, Any]) -> dict[str, Any]:
    return {check["name"]: check for check in found["checks"]}


def test_doctor_and_list_show_the_balance(tmp_path: Path) -> None:
    with gateway(200, TOLD) as address:
        place = Place(tmp_path, address)
        checked = lines(json.loads(place.run("doctor", "--json").stdout))
        listed = json.loads(place.run("list", "--json").stdout)
    host = address.removeprefix("http://")
    assert (checked["balance"]["ok"], checked["balance"]["found"]) == (True, f"12.35, says {host}")
    assert checked["clock"]["found"] == "as the router's"
    assert listed["balance"] == 12.3456
    assert listed["jobs"] == []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, TOLD),
        (500, TOLD),
        (200, "<html>"),
        (200, "[]"),
        (200, "{}"),
        (200, '{"credit_balance": "123456"}'),
        (200, '{"credit_balance": true}'),
        (200, '{"credit_balance": null}'),
        (200, '{"credit_balance": NaN}'),
        (200, '{"credit_balance": 1e300}'),
    ],
)
def test_of_anything_odd_nothing_is_said(tmp_path: Path, status: int, body: str) -> None:
    with gateway(status, body) as address:
        place = Place(tmp_path, address)
        checked, listed = place.run("doctor", "--json"), place.run("list", "--json")
    assert "balance" not in lines(json.loads(checked.stdout))
    assert "balance" not in json.loads(listed.stdout)
    assert listed.returncode == 0


def test_a_gateway_that_is_slow_to_tell_is_waited_for_two_seconds(tmp_path: Path) -> None:
    with gateway(200, TOLD, threading.Event()) as address:
        begun = time.monotonic()
        listed = Place(tmp_path, address).run("list", "--json")
        took = time.monotonic() - begun
    assert "balance" not in json.loads(listed.stdout)
    assert took < 20, "the gateway would have taken 30 s"
