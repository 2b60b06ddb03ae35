"""The guard in `conftest.py` notices a key wherever a test could spill it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LEAKS = """
import logging, os
import httpx2, pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer
from marker import KEY

def test_log():
    logging.getLogger("refvideo_mcp.router").debug("sent with %s", KEY)

def test_traceback():
    try:
        raise ValueError(KEY)
    except ValueError:
        logging.getLogger("refvideo_mcp").exception("it broke")

def test_stdout():
    print(KEY)

def test_stderr_of_a_child():
    os.write(2, KEY.encode())

def test_file(tmp_path):
    (tmp_path / "ledger.db").write_bytes(b"\\0" + KEY.encode())

@pytest.mark.anyio
async def test_address():
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200))
    async with httpx2.AsyncClient(transport=transport) as client:
        await client.get("https://router.example/task-result", params={"key": KEY})

@pytest.mark.anyio
async def test_answer():
    server = MCPServer("leaky")
    server.add_tool(lambda: [KEY], name="leak")
    async with Client(server) as client:
        await client.call_tool("leak", {})
"""


def test_every_leak_fails_its_test(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("leaks")  # not `tmp_path`, which must not hold the key
    (folder / "test_leaks.py").write_text(LEAKS)
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "--basetemp", str(folder / "tmp"), "--tb=no", "-q"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert found.stdout.splitlines()[-1].startswith("7 passed, 7 errors in ")
