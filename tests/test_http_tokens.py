"""`serve --http --auth tokens`: who has a token has an account, and nobody else comes in."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest

from command_line import call
from fake_router import jobs, said, told
from http_server import HttpServer, calling_with
from marker import KEY
from misbehaving_router import MisbehavingRouter
from refvideo_mcp.doors.tokens import digest_of, new_token

pytestmark = pytest.mark.anyio

ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
LINKED = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a script", "version": "1"}},
}
JSON = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
NOBODY = "http://127.0.0.1:1"  # a router that is not reached


class Office:
    """A server whose callers are alice and bob, and the file that says so."""

    def __init__(self, server: HttpServer, file: Path, tokens: dict[str, str]) -> None:
        self.server, self.url, self.file, self.tokens = server, server.url, file, tokens

    @classmethod
    @asynccontextmanager
    async def open(cls, home: Path, router_url: str, *options: str, **settings: str) -> AsyncIterator["Office"]:
        tokens = {name: new_token() for name in ("alice", "bob")}
        file = home / "tokens"
        file.write_text("".join(f"{name} = sha256:{digest_of(token)}\n" for name, token in tokens.items()))
        settings |= {"REFVIDEO_TOKENS_FILE": str(file)}
        async with HttpServer.running(home, router_url, "--auth", "tokens", *options, **settings) as server:
            yield cls(server, file, tokens)

    async def knock(self, token: str | None = None, **headers: str) -> httpx2.Response:
        shown = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(timeout=60) as http:
            return await http.post(self.url, content=json.dumps(HELLO), headers=JSON | shown | headers)

    async def until_status(self, token: str, status: int) -> None:
        with anyio.fail_after(10):
            while (await self.knock(token)).status_code != status:  # noqa: ASYNC110  # another process reads the file
                await anyio.sleep(0.1)


async def raw(url: str, head: list[str], body: bytes = b"") -> bytes:
    """What a server answers to exactly this, until it has nothing more to say for a second."""
    address, answer = urlsplit(url), b""
    async with await anyio.connect_tcp(address.hostname or "", address.port or 0) as connection:
        await connection.send("\r\n".join([*head, "", ""]).encode() + body)
        while True:
            try:
                with anyio.fail_after(1):
                    answer += await connection.receive()
            except (anyio.EndOfStream, TimeoutError):
                return answer


@ERAS
async def test_each_token_opens_an_account_of_its_own(tmp_path: Path, era: str) -> None:
    async with (
        MisbehavingRouter() as router,
        Office.open(tmp_path, router.url) as office,
        calling_with(office.url, office.tokens["alice"], mode=era) as alice,
        calling_with(office.url, office.tokens["bob"], mode=era) as bob,
    ):
        started = await alice.call_tool("generate_reference_video", LINKED)
        foreign = await bob.call_tool("get_task_result", {"task_id": told(started)["task_id"]})
        finished = await alice.call_tool("get_task_result", {"task_id": told(started)["task_id"]})
        lists = [await jobs(client) for client in (alice, bob)]
    assert told(finished)["videos"][0]["url"] == router.video_url("task-1")
    assert (foreign.is_error, said(foreign)) == (True, "This account has no job task-1. It has no jobs yet.")
    assert [[job["task_id"] for job in told(found)["jobs"]] for found in lists] == [["task-1"], []]


async def test_a_cancel_is_about_a_request_of_its_own_account(tmp_path: Path) -> None:
    """The ids of requests are counted by each client, so others have the same."""
    call = {"name": "generate_reference_video", "arguments": LINKED}
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    answers = []
    async with MisbehavingRouter() as router, Office.open(tmp_path, router.url) as office:
        for name, message in [
            ("alice", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}),
            ("bob", cancel),
            ("alice", {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}),
        ]:
            headers = JSON | {"Authorization": f"Bearer {office.tokens[name]}"}
            async with httpx2.AsyncClient(timeout=60) as http:
                answers.append(await http.post(office.url, content=json.dumps(message), headers=headers))
    assert [re.findall(r"task-\d", answer.text)[:1] for answer in answers] == [["task-1"], [], ["task-2"]]


async def test_without_a_token_that_is_known_nothing_is_read_and_no_login_is_begun(tmp_path: Path) -> None:
    """A client that were told of an authorization server would send its user there, and there is none."""
    async with Office.open(tmp_path, NOBODY) as office:
        host = f"Host: {urlsplit(office.url).netloc}"
        alice = f"Authorization: Bearer {office.tokens['alice']}"
        large = [host, "Content-Type: application/json", f"Content-Length: {30_000_000}"]
        answers = {
            name: (await raw(office.url, ["POST /mcp HTTP/1.1", *large, *shown])).decode()
            for name, shown in {
                "none": [],
                "unknown": [f"Authorization: Bearer {new_token()}"],
                "another scheme": ["Authorization: Basic YWxpY2U6"],
                "two": [alice, alice],
                "two in one": [f"{alice}, Bearer {office.tokens['bob']}"],
                "its hash": [f"Authorization: Bearer {digest_of(office.tokens['alice'])}"],
                "its beginning": [alice[:-1]],
                "in the address": [],
            }.items()
        }
        elsewhere = [
            (await raw(office.url, [f"POST {path} HTTP/1.1", *large])).split()[1].decode()
            for path in ("/", "/mcp/", "/sse", "/.well-known/oauth-protected-resource/mcp", "//mcp", "/mcp%2f")
        ]
        in_the_address = await raw(office.url, [f"POST /mcp?token={office.tokens['alice']} HTTP/1.1", *large])
    statuses = {name: answer.split()[1] for name, answer in answers.items()}
    assert statuses == dict.fromkeys(answers, "401")
    assert in_the_address.split()[1] == b"401"
    assert set(elsewhere) == {"401"}
    challenges = {re.findall(r"(?i)www-authenticate: (.*)\r", answer)[0] for answer in answers.values()}
    assert challenges == {
        "Bearer",
        'Bearer error="invalid_token", error_description="This token is not, or no longer, one of this server\'s: ask '
        'its operator."',
        'Bearer error="invalid_token", error_description="The header Authorization must be Bearer and one token, '
        'once."',
    }
    assert answers["none"].endswith("This server wants a token: the header Authorization must be Bearer and the token.")


async def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    async with Office.open(tmp_path, NOBODY) as office:
        alice, carol = office.tokens["alice"], new_token()
        assert (await office.knock(carol)).status_code == 401
        office.file.write_text(f"carol = sha256:{digest_of(carol)}\n")
        await office.until_status(carol, 200)
        assert (await office.knock(alice)).status_code == 401


async def test_a_file_that_broke_leaves_who_was_in_it_and_is_told_of(tmp_path: Path) -> None:
    async with Office.open(tmp_path, NOBODY) as office:
        office.file.write_text(f"carol = {new_token()}\n")
        with anyio.fail_after(10):
            while "cannot be used" not in (tmp_path / "stderr").read_text():
                assert (await office.knock(office.tokens["alice"])).status_code == 200
                await anyio.sleep(0.1)
        office.file.unlink()
        with anyio.fail_after(10):
            while "No such file" not in (tmp_path / "stderr").read_text():
                assert (await office.knock(office.tokens["alice"])).status_code == 200
                await anyio.sleep(0.1)
        stderr = (tmp_path / "stderr").read_text()
    assert f"{office.file} cannot be used: line 1 is not: account = sha256:HEX. The tokens that it had before" in stderr


async def test_an_account_s_own_router_key_is_used_and_no_secret_is_logged(tmp_path: Path) -> None:
    token = new_token()
    (tmp_path / "own").write_text(f"alice = sha256:{digest_of(token)} router_key=ALICE_KEY  # her team pays\n")
    settings = {"REFVIDEO_TOKENS_FILE": str(tmp_path / "own"), "ALICE_KEY": "alice-pays-0123", "MYROUTER_API_KEY": ""}
    settings["REFVIDEO_LOG_LEVEL"] = "debug"
    async with (
        MisbehavingRouter() as router,
        HttpServer.running(tmp_path, router.url, "--auth", "tokens", **settings) as server,
        calling_with(server.url, token) as client,
    ):
        router.api_key = "alice-pays-0123"
        started = await client.call_tool("generate_reference_video", LINKED)
    stderr = (tmp_path / "stderr").read_text()
    assert told(started)["task_id"] == "task-1"
    assert [secret for secret in (token, digest_of(token), "alice-pays-0123", KEY) if secret in stderr] == []


def test_the_command_shows_the_token_once_and_prints_the_line(tmp_path: Path) -> None:
    made = call("token", "alice")
    token = re.fullmatch(r"The token of alice, which is shown only now: (refvideo_[\w-]{43})\n", made.stderr)
    assert token
    assert made.stdout == f"alice = sha256:{digest_of(token[1])}\n"
    assert call("token", "alice").stdout != made.stdout


@pytest.mark.parametrize("name", ["local", "oauth-1", "a b", "", "x" * 65, "é", "a=b", "-x"])
def test_names_that_mean_something_else_or_cannot_be_written_name_no_account(name: str) -> None:
    made = call("token", "--", name)
    assert (made.returncode, made.stdout) == (2, "")
    assert "cannot name an account." in made.stderr


LINE = f"alice = sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        ("# nobody\n\n", "it names no account"),
        (f"{LINE}\nbob = 12345\n", "line 2 is not: account = sha256:HEX"),
        (f"local = sha256:{'0' * 64}", "line 1 is not: account = sha256:HEX"),
        (f"{LINE}\nbob = sha256:{'0' * 64}\n", "line 2 has a token that an earlier line has"),
        (f"{LINE} router_key=ALICE_KEY", "line 1 names ALICE_KEY, which is not set"),
        (f"{LINE} router_key = ALICE_KEY", "line 1 is not: account = sha256:HEX"),
        ("\udcff", "it is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_from_the_start_starts_no_server(
    tmp_path: Path, content: str | None, why: str
) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_bytes(content.encode(errors="surrogateescape"))
    ended = call("serve", "--http", "--port", "0", "--auth", "tokens", REFVIDEO_TOKENS_FILE=str(file))
    assert (ended.returncode, ended.stderr) == (
        2,
        f"refvideo-mcp: REFVIDEO_TOKENS_FILE ({file}) cannot be used: {why}.\n",
    )


def test_an_address_that_others_reach_is_not_served_to_everybody() -> None:
    refusals = [call("serve", "--http", "--host", host) for host in ("0.0.0.0", "::", "192.0.2.1", "example.com")]
    assert {(refusal.returncode, refusal.stderr.split("would")[1]) for refusal in refusals} == {
        (
            2,
            " be let in. Add --auth tokens or --auth oauth, or leave --host out: then programs on this machine are "
            "served.\n",
        )
    }
    assert call("serve", "--http", "--auth", "tokens").stderr == (
        "refvideo-mcp: --auth tokens needs REFVIDEO_TOKENS_FILE.\n"
    )


async def test_names_and_origins_are_compared_whole(tmp_path: Path) -> None:
    options = ["--allowed-host", "mcp.example.com", "--allowed-host", "proxy.example:8443"]
    options += ["--allowed-origin", "https://app.example.com"]
    async with Office.open(tmp_path, NOBODY, *options) as office:
        port = urlsplit(office.url).port

        async def status(host: str, *origins: str) -> int:
            body = json.dumps(HELLO).encode()
            head = ["POST /mcp HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {office.tokens['alice']}"]
            head += [f"{name}: {value}" for name, value in JSON.items()] + [f"Content-Length: {len(body)}"]
            answer = await raw(office.url, [*head, *(f"Origin: {origin}" for origin in origins)], body)
            return int(answer.split()[1])

        hosts = {
            host: await status(host)
            for host in (
                *(f"127.0.0.1:{port}", "localhost:1", "LOCALHOST", f"[::1]:{port}", "mcp.example.com:443"),
                *(
                    "MCP.example.com",
                    "proxy.example:8443",
                    "proxy.example",
                    "proxy.example:443",
                    "localhost:1.evil.com",
                ),
                *(
                    "127.0.0.1:@evil",
                    "127.0.0.1.evil.com",
                    "localhost@evil.com",
                    "mcp.example.com.evil.com",
                    "",
                    "evil",
                ),
                *("xmcp.example.com", "mcp.example.com:", "mcp.example.com:1:2", "localhost:", "0.0.0.0"),
            )
        }
        origins = {
            origin: await status("localhost", origin)
            for origin in (
                *("https://app.example.com", "http://localhost:6274", "http://127.0.0.1", "http://app.example.com"),
                *(
                    "https://app.example.com:444",
                    "https://app.example.com.evil.com",
                    "null",
                    "http://localhost.evil.com",
                ),
                *("http://localhost:1@evil.com", "https://localhost", "http://localhost:1.evil.com", "", "*"),
            )
        }
        two = [
            await status("localhost", *pair)
            for pair in (
                ("https://app.example.com", "https://evil.com"),
                ("https://evil.com", "https://app.example.com"),
                ("https://app.example.com", "https://app.example.com"),
            )
        ]
    good = {f"127.0.0.1:{port}", "localhost:1", "LOCALHOST", f"[::1]:{port}", "mcp.example.com:443", "MCP.example.com"}
    good |= {"proxy.example:8443"}
    assert {host for host, code in hosts.items() if code == 200} == good
    assert {code for host, code in hosts.items() if host not in good} <= {400, 421}
    good = {"https://app.example.com", "http://localhost:6274", "http://127.0.0.1"}
    assert {origin for origin, code in origins.items() if code == 200} == good
    assert {code for origin, code in origins.items() if origin not in good} == {403}
    assert two == [403, 403, 403]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--allowed-host", "https://mcp.example.com"), ("--allowed-host", "*"), ("--allowed-origin", "app.example.com")],
)
def test_what_is_no_name_or_origin_is_said_at_the_start(option: str, value: str) -> None:
    ended = call("serve", "--http", "--port", "0", option, value)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"refvideo-mcp: {option} {value} is no ")


async def test_a_known_web_page_may_ask_first_and_read_why_it_is_refused(tmp_path: Path) -> None:
    """A browser asks without the token, and hides from the page what the answer does not show it."""
    page = {"Origin": "https://app.example.com"}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, mcp-method"}
    async with Office.open(tmp_path, NOBODY, "--allowed-origin", page["Origin"]) as office:
        async with httpx2.AsyncClient() as http:
            allowed = await http.options(office.url, headers=page | asks)
            foreign = await http.options(office.url, headers={"Origin": "https://evil.example"} | asks)
        refused = await office.knock(**page)
    assert (allowed.status_code, foreign.status_code, refused.status_code) == (200, 403, 401)
    assert {allowed.headers["Access-Control-Allow-Origin"], refused.headers["Access-Control-Allow-Origin"]} == {
        page["Origin"]
    }
    assert "authorization" in allowed.headers["Access-Control-Allow-Headers"]
    assert refused.headers["Access-Control-Expose-Headers"] == "WWW-Authenticate"
    assert "Access-Control-Allow-Origin" not in foreign.headers


async def test_whoever_watches_over_the_process_needs_neither_token_nor_name(tmp_path: Path) -> None:
    async with Office.open(tmp_path, NOBODY) as office:
        at = office.url.removesuffix("/mcp")
        async with httpx2.AsyncClient(headers={"Host": "10.0.0.7:8766"}) as http:
            well = [(await http.get(f"{at}/{name}")).status_code for name in ("healthz", "readyz")]
    (tmp_path / "broken" / "state" / "refvideo-mcp" / "ledger.db").mkdir(parents=True)
    async with Office.open(tmp_path / "broken", NOBODY) as office:
        at = office.url.removesuffix("/mcp")
        async with httpx2.AsyncClient() as http:
            ill = [(await http.get(f"{at}/{name}")).status_code for name in ("healthz", "readyz")]
    assert (well, ill) == ([200, 200], [200, 503])
