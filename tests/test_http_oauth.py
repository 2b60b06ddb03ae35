"""`serve --http --auth oauth`: whoever has a token of the issuer for this server has an account, by any other none."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from command_line import call
from fake_router import jobs, said, told
from http_server import HttpServer, calling_with
from issuer import Issuer, new_key, public
from misbehaving_router import MisbehavingRouter
from refvideo_mcp.doors.identity import Denied
from refvideo_mcp.doors.oauth import OAuth

pytestmark = pytest.mark.anyio

PUBLIC = "https://mcp.example.com"
RESOURCE = f"{PUBLIC}/mcp"
METADATA = f"{PUBLIC}/.well-known/oauth-protected-resource/mcp"
NOBODY = "http://127.0.0.1:1"  # a router that is not reached
LINKED = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": ["https://example.com/cat.png"]}]}
JSON = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@asynccontextmanager
async def serving(home: Path, issuer: Issuer, router_url: str = NOBODY, **more: str) -> AsyncIterator[HttpServer]:
    settings = {"REFVIDEO_OAUTH_ISSUER": issuer.url, "REFVIDEO_PUBLIC_URL": PUBLIC, "REFVIDEO_LOG_LEVEL": "info"} | more
    async with HttpServer.running(home, router_url, "--auth", "oauth", **settings) as server:
        yield server


async def knock(server: HttpServer, token: str | None) -> httpx2.Response:
    shown = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(timeout=60) as http:
        return await http.post(server.url, content=json.dumps(PING), headers=JSON | shown)


def forged(header: dict[str, Any], claims: dict[str, Any], key: bytes) -> str:
    """A token as a library that is used with care would not make it."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = hmac.new(key, b".".join(parts), hashlib.sha256).digest() if key else b""
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


async def test_each_person_of_the_issuer_has_an_account_of_their_own(tmp_path: Path) -> None:
    with Issuer.running() as issuer:
        alice, bob = (issuer.token(name, aud=RESOURCE) for name in ("alice", "bob"))
        async with (
            MisbehavingRouter() as router,
            serving(tmp_path, issuer, router.url) as server,
            calling_with(server.url, alice) as hers,
            calling_with(server.url, bob) as his,
        ):
            started = await hers.call_tool("generate_reference_video", LINKED)
            foreign = await his.call_tool("get_task_result", {"task_id": told(started)["task_id"]})
            later = issuer.token("alice", aud=[RESOURCE, "https://other.example"], exp=time.time() + 600)
            async with calling_with(server.url, later) as again:
                found = await jobs(again)
    assert said(foreign) == "This account has no job task-1. It has no jobs yet."
    assert [job["task_id"] for job in told(found)["jobs"]] == ["task-1"]
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_no_token_but_a_good_one_opens_the_door(tmp_path: Path) -> None:
    with Issuer.running() as issuer, Issuer.running() as other:
        issuer.keys["curve"] = ec.generate_private_key(ec.SECP256R1())
        pem = (
            issuer.keys["first"]
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        claims = {"iss": issuer.url, "sub": "alice", "aud": RESOURCE, "exp": time.time() + 300}
        own = new_key()
        good = {
            "RS256": issuer.token(aud=RESOURCE),
            "ES256": issuer.token(kid="curve", algorithm="ES256", aud=RESOURCE),
            "it expired a moment ago, by our clock": issuer.token(aud=RESOURCE, exp=time.time() - 5),
        }
        bad = {
            "expired": issuer.token(aud=RESOURCE, exp=time.time() - 60),
            "it never expires": issuer.token(aud=RESOURCE, exp=None),
            "not yet": issuer.token(aud=RESOURCE, nbf=time.time() + 600),
            "another audience": issuer.token(aud="https://other.example/mcp"),
            "an audience that begins so": issuer.token(aud=f"{RESOURCE}2"),
            "our address without its path": issuer.token(aud=PUBLIC),
            "no audience": issuer.token(),
            "another issuer": issuer.token(aud=RESOURCE, iss=other.url),
            "of another issuer": other.token(aud=RESOURCE),
            "its keys, our issuer's name": other.token(aud=RESOURCE, iss=issuer.url),
            "no issuer": issuer.token(aud=RESOURCE, iss=None),
            "nobody": issuer.token(None, aud=RESOURCE),
            "an empty name": issuer.token("", aud=RESOURCE),
            "not signed": issuer.token(aud=RESOURCE, algorithm="none"),
            "not signed, in capitals": forged({"alg": "NONE", "kid": "first"}, claims, b""),
            "signed with the public key": forged({"alg": "HS256", "kid": "first"}, claims, pem),
            "signed with the published key": forged(
                {"alg": "HS256", "kid": "first"}, claims, json.dumps(public(issuer.keys["first"])).encode()
            ),
            "the algorithm of another key": issuer.token(
                aud=RESOURCE, key=ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"
            ),
            "PS256": issuer.token(aud=RESOURCE, algorithm="PS256"),
            "an unknown key": issuer.token(kid="second", key=own, aud=RESOURCE),
            "no key's name": issuer.token(kid=None, aud=RESOURCE),
            "a key in the token": issuer.token(aud=RESOURCE, key=own, header={"jwk": public(own)}),
            "a key elsewhere": issuer.token(aud=RESOURCE, key=own, header={"jku": f"{other.url}/keys"}),
            "a changed word": re.sub(
                r"\.(.)", lambda found: f".{'f' if found[1] == 'e' else 'e'}", good["RS256"], count=1
            ),
            "without its signature": good["RS256"].rpartition(".")[0] + ".",
            "opaque": "2YotnFZFEjr1zCsicMWpAA",
            "a name of a key that is no word": forged({"alg": "RS256", "kid": ["first"]}, claims, b"x"),
        }
        async with serving(tmp_path, issuer) as server:
            let_in = {name: (await knock(server, token)).status_code for name, token in good.items()}
            answers = {name: await knock(server, token) for name, token in bad.items()}
        stderr = (tmp_path / "stderr").read_text()
    assert let_in == dict.fromkeys(good, 200)
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(bad, 401)
    assert {'error="invalid_token"' in answer.headers["WWW-Authenticate"] for answer in answers.values()} == {True}
    assert answers["expired"].text == "The token has expired: log in again."
    assert answers["opaque"].text == (
        "The token is no JWT, and this server cannot look others up: its issuer must give out JWTs."
    )
    assert other.asked == []
    assert [name for name, token in (good | bad).items() if token in stderr] == []
    assert "Traceback" not in stderr


async def test_clients_are_told_where_a_token_is_to_be_had(tmp_path: Path) -> None:
    with Issuer.running() as issuer:
        async with serving(tmp_path, issuer, REFVIDEO_OAUTH_SCOPES="video:make video:see") as server:
            without = await knock(server, None)
            lacking = await knock(server, issuer.token(aud=RESOURCE, scope="openid video:see"))
            enough = [
                (await knock(server, issuer.token(aud=RESOURCE, **scopes))).status_code
                for scopes in (
                    {"scope": "video:see openid video:make"},
                    {"scp": "video:see video:make"},
                    {"scp": ["video:see", "video:make"]},
                )
            ]
            async with httpx2.AsyncClient() as http:
                at = server.url.removesuffix("/mcp") + METADATA.removeprefix(PUBLIC)
                document = (await http.get(at)).json()
    where = f'resource_metadata="{METADATA}", scope="video:make video:see"'
    assert (without.status_code, without.headers["WWW-Authenticate"]) == (401, f"Bearer {where}")
    assert (lacking.status_code, lacking.headers["WWW-Authenticate"]) == (
        403,
        f'Bearer error="insufficient_scope", error_description="The token lacks the scope video:make.", {where}',
    )
    assert enough == [200, 200, 200]
    assert document == {
        "resource": RESOURCE,
        "authorization_servers": [issuer.url],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["video:make", "video:see"],
    }


async def test_an_audience_may_be_other_than_the_address(tmp_path: Path) -> None:
    """Entra and Cognito make tokens out to a name of their own."""
    with Issuer.running() as issuer:
        async with serving(tmp_path, issuer, REFVIDEO_OAUTH_AUDIENCE="api://refvideo") as server:
            statuses = [
                (await knock(server, issuer.token(aud=aud))).status_code for aud in ("api://refvideo", RESOURCE)
            ]
    assert statuses == [200, 401]


async def test_an_issuer_that_does_not_answer_is_no_reason_to_log_in_again(tmp_path: Path) -> None:
    with Issuer.running() as issuer:
        issuer.is_down = True
        async with serving(tmp_path, issuer) as server:
            refused = await knock(server, issuer.token(aud=RESOURCE))
    assert (refused.status_code, refused.text) == (
        503,
        f"{issuer.url} does not answer, so nobody can be let in: try again in a minute.",
    )
    assert "WWW-Authenticate" not in refused.headers


async def test_an_issuer_of_another_name_is_not_believed(tmp_path: Path) -> None:
    with Issuer.running() as issuer:
        issuer.named = "https://evil.example"
        async with serving(tmp_path, issuer) as server:
            assert (await knock(server, issuer.token(aud=RESOURCE))).status_code == 503


def test_what_is_missing_is_said_at_the_start() -> None:
    ended = call("serve", "--http", "--auth", "oauth", REFVIDEO_OAUTH_ISSUER="https://login.example")
    assert (ended.returncode, ended.stderr) == (
        2,
        "refvideo-mcp: --auth oauth needs REFVIDEO_OAUTH_ISSUER and REFVIDEO_PUBLIC_URL.\n",
    )
    wrong = call(
        "serve", "--http", "--auth", "oauth", REFVIDEO_OAUTH_ISSUER="login.example", REFVIDEO_PUBLIC_URL=PUBLIC
    )
    assert wrong.stderr == "refvideo-mcp: REFVIDEO_OAUTH_ISSUER must begin with https://, as in the tokens.\n"


class Steady:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_new_keys_are_heard_of_and_old_ones_forgotten() -> None:
    steady = Steady()
    with Issuer.running() as issuer:
        oauth = OAuth(issuer.url, RESOURCE, RESOURCE, (), steady)
        old = issuer.token(aud=RESOURCE)
        account = await oauth.account_of(old)
        issuer.keys = {"second": new_key()}
        new = issuer.token(aud=RESOURCE, kid="second")
        with pytest.raises(Denied):  # made-up names of keys do not make us ask for each
            await oauth.account_of(new)
        assert await oauth.account_of(old) == account
        steady.now += 31
        assert await oauth.account_of(new) == account
        with pytest.raises(Denied, match="not signed with a key"):
            await oauth.account_of(old)
        assert len(issuer.asked) == 4


async def test_known_keys_count_for_an_hour_while_the_issuer_is_down() -> None:
    steady = Steady()
    with Issuer.running() as issuer:
        oauth = OAuth(issuer.url, RESOURCE, RESOURCE, (), steady)
        token = issuer.token(aud=RESOURCE)
        await oauth.account_of(token)
        issuer.is_down = True
        steady.now += 3000
        await oauth.account_of(token)
        steady.now += 40
        with pytest.raises(Denied, match="does not answer") as refusal:
            await oauth.account_of(issuer.token(aud=RESOURCE, kid="second", key=new_key()))
        assert refusal.value.status == 503
        steady.now += 600
        with pytest.raises(Denied, match="does not answer"):
            await oauth.account_of(token)
