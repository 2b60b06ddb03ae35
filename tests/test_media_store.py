"""With REFVIDEO_MEDIA_STORE, pictures go to the user's own bucket and the router gets links to them."""

import hashlib
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.lowlevel
import httpx2
import pytest
from mcp import Client
from mcp.client import ClientRequestContext
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult

import s3_server
from fake_router import LOST, FakeRouter, Reply, process, refused, said, told
from pictures import SECRET, data_uri, decoded, noise, private_exif, saved, scene
from refvideo_mcp.errors import Refused
from refvideo_mcp.jobs import Clock
from refvideo_mcp.jobs import submit as submitting
from refvideo_mcp.settings import Settings

pytestmark = pytest.mark.anyio

KEY_ID, SECRET_KEY = "AKIATESTTESTTESTTEST", "aws-secret-of-the-tests"
ROUTER = "http://127.0.0.1:9"  # on this machine, as the store is: it can fetch from there
FOX = saved(scene(), "PNG")
FOX_NAME = f"{hashlib.sha256(FOX).hexdigest()}.png"
NOTHING_BOUGHT = "Nothing was bought. Ask the user to mend that, then try again."


@pytest.fixture(scope="module")
def s3() -> Iterator[s3_server.S3]:
    with s3_server.running() as server:
        yield server


@pytest.fixture
def bucket(s3: s3_server.S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of the test's own, and a working folder with a picture."""
    environment(monkeypatch, s3.url)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "fox.png").write_bytes(FOX)
    monkeypatch.chdir(tmp_path / "work")
    return s3.new_bucket()


def environment(monkeypatch: pytest.MonkeyPatch, endpoint: str, key_id: str = KEY_ID) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)


@pytest.fixture
def router() -> FakeRouter:
    return FakeRouter(Clock())


def with_store(router: FakeRouter, ledger: Path, store: str, **settings: Any) -> Client:
    return process(router, ledger, **{"base_url": ROUTER, "media_store": f"s3://{store}"} | settings)


async def submit(client: Client, *images: str, **arguments: Any) -> CallToolResult:
    subjects = [{"images": list(images) or ["fox.png"]}]
    return await client.call_tool("generate_reference_video", {"prompt": "@1 runs", "subjects": subjects} | arguments)


def sent(router: FakeRouter, post: int = -1) -> list[str]:
    """The images of a body that the router got."""
    images: list[str] = router.posts[post]["subjects"][0]["images"]
    return images


def written(ledger: Path) -> bytes:
    """All that the ledger holds, in whatever file."""
    return b"".join(file.read_bytes() for file in ledger.parent.glob(f"{ledger.name}*"))


async def test_a_picture_goes_to_the_bucket_and_the_router_gets_a_link_to_it(
    router: FakeRouter, ledger: Path, bucket: str
) -> None:
    async with with_store(router, ledger, f"{bucket}/for/video") as client:
        answer = await submit(client)

    [link] = sent(router)
    fetched = httpx2.get(link)
    assert (fetched.content, fetched.headers["Content-Type"]) == (FOX, "image/png")
    assert urlsplit(link).path == f"/{bucket}/for/video/{FOX_NAME}"
    assert f"Sent to 127.0.0.1:9 through s3://{bucket}: fox.png." in said(answer)
    assert "X-Amz" not in answer.model_dump_json()


async def test_the_link_lives_for_a_day_and_is_signed_as_aws_signs(
    router: FakeRouter, ledger: Path, bucket: str
) -> None:
    async with with_store(router, ledger, bucket) as client:
        await submit(client)

    [link] = sent(router)
    query = parse_qs(urlsplit(link).query)
    assert query["X-Amz-Expires"] == ["86400"]
    assert query["X-Amz-Credential"][0].endswith("/eu-central-1/s3/aws4_request")
    assert query["X-Amz-Signature"] == [s3_server.signature_of(link, SECRET_KEY)]


async def test_what_is_uploaded_is_upright_and_clean(
    router: FakeRouter, ledger: Path, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "work" / "phone.jpg").write_bytes(saved(scene(320, 240), "JPEG", exif=private_exif(orientation=6)))
    async with with_store(router, ledger, bucket) as client:
        await submit(client, "phone.jpg")

    [link] = sent(router)
    content = httpx2.get(link).content
    assert SECRET.encode() not in content
    assert decoded(content).size == (240, 320)
    assert not decoded(content).getexif()


async def test_data_uris_are_uploaded_and_urls_pass_as_they_are(router: FakeRouter, ledger: Path, bucket: str) -> None:
    url = "https://pictures.example/back.png"
    async with with_store(router, ledger, bucket) as client:
        answer = await submit(client, data_uri(FOX), url, "fox.png")

    first, second, third = sent(router)
    assert httpx2.get(first).content == FOX
    assert second == url
    assert first == third, "one picture is uploaded once"
    assert "fox.png." in said(answer)


async def test_a_call_with_urls_only_needs_no_store(router: FakeRouter, ledger: Path, bucket: str) -> None:
    async with with_store(router, ledger, f"{bucket}-is-gone") as client:
        answer = await submit(client, "https://pictures.example/back.png")
    assert not answer.is_error
    assert sent(router) == ["https://pictures.example/back.png"]


async def test_uploaded_pictures_need_not_fit_into_the_routers_20_mb(
    router: FakeRouter, ledger: Path, bucket: str, tmp_path: Path
) -> None:
    large = saved(noise(2700, 2600), "PNG", compress_level=0)
    assert len(large) > 21_000_000
    (tmp_path / "work" / "large.png").write_bytes(large)
    async with with_store(router, ledger, bucket) as client:
        answer = await submit(client, "large.png")
    assert httpx2.get(sent(router)[0]).content == large
    assert "warnings" not in told(answer)


async def test_the_preview_still_gets_its_thumbnails(
    router: FakeRouter, ledger: Path, bucket: str, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    async with with_store(router, ledger, bucket, cache_dir=cache) as client:
        await submit(client, "fox.png", "https://pictures.example/back.png")
        with anyio.fail_after(30):
            while not list(cache.glob("preview-*.jpg")):
                await anyio.lowlevel.checkpoint()
    [thumbnail] = cache.glob("preview-*.jpg")
    assert decoded(thumbnail.read_bytes()).size == (256, 192)


async def test_the_question_about_a_folder_says_where_its_pictures_go(
    router: FakeRouter, ledger: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "work"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "fox.png").write_bytes(FOX)
    questions = []

    async def user(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="decline")

    async with with_store(router, ledger, bucket, elicitation_callback=user) as client:
        await submit(client, "../elsewhere/fox.png")
    assert questions == [f"Send pictures from {tmp_path / 'elsewhere'} to 127.0.0.1:9 through s3://{bucket}?"]


class TestOneJob:
    """Links differ from call to call; what makes two calls one job is what is in the pictures."""

    async def test_the_same_key_is_the_same_job_even_when_the_store_is_gone(
        self, router: FakeRouter, ledger: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with with_store(router, ledger, bucket) as client:
            first = await submit(client, idempotency_key="order-2026-11-23-0007")
            environment(monkeypatch, "http://127.0.0.1:9", key_id="AKIAOTHER")
            again = await submit(client, idempotency_key="order-2026-11-23-0007")

        assert told(again)["task_id"] == told(first)["task_id"] == "task-1"
        assert "nothing new was bought" in said(again)
        assert "Sent to" not in said(again)
        assert len(router.posts) == 1

    async def test_an_identical_call_after_a_lost_answer_is_refused_and_uploads_nothing(
        self, router: FakeRouter, ledger: Path, bucket: str, s3: s3_server.S3
    ) -> None:
        router.submission = LOST
        async with with_store(router, ledger, bucket) as client:
            await submit(client)
        elsewhere = s3.new_bucket()
        async with with_store(router, ledger, elsewhere) as client:
            answer = await submit(client)

        assert answer.is_error
        assert said(answer).startswith("An identical job (job-")
        assert len(router.posts) == 1
        assert s3.keys(elsewhere) == []

    async def test_one_picture_under_two_links_has_one_fingerprint(
        self, router: FakeRouter, ledger: Path, bucket: str, s3: s3_server.S3, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        router.submission = refused(400, "ILLEGAL_PROMPT")
        async with with_store(router, ledger, bucket) as client:
            await submit(client)
            environment(monkeypatch, s3.url, key_id="AKIAOTHER")
            await submit(client)

        assert sent(router, 0) != sent(router, 1)
        with closing(sqlite3.connect(ledger)) as connection:
            rows = connection.execute("SELECT fingerprint FROM refvideo_jobs").fetchall()
        assert len(rows) == 2
        assert len(set(rows)) == 1

    async def test_a_call_beyond_the_allowance_uploads_nothing(
        self, router: FakeRouter, ledger: Path, bucket: str, s3: s3_server.S3
    ) -> None:
        async with with_store(router, ledger, bucket, max_seconds_per_day=3) as client:
            answer = await submit(client)
        assert answer.is_error
        assert s3.keys(bucket) == []


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """The address of a store that answers every request in this way."""

    class Answer(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class TestRefusals:
    """Nothing is bought unless the pictures are where the router can fetch them."""

    @staticmethod
    async def refusal(router: FakeRouter, ledger: Path, store: str, **settings: Any) -> str:
        """The error that an agent reads; the router got nothing, and nothing is remembered."""
        async with with_store(router, ledger, store, **settings) as client:
            answer = await submit(client)
        assert answer.is_error
        assert router.posts == []
        with closing(sqlite3.connect(ledger)) as connection:
            assert connection.execute("SELECT count(*) FROM refvideo_jobs").fetchone() == (0,)
        return said(answer)

    async def test_a_bucket_that_does_not_exist(self, router: FakeRouter, ledger: Path, bucket: str) -> None:
        assert await self.refusal(router, ledger, "no-such-bucket-here/prefix") == (
            "The pictures could not be uploaded to s3://no-such-bucket-here: there is no such bucket "
            f"(REFVIDEO_MEDIA_STORE). {NOTHING_BOUGHT}"
        )

    async def test_credentials_that_are_wrong(
        self, router: FakeRouter, ledger: Path, bucket: str, s3: s3_server.S3
    ) -> None:
        with s3.knowing_nobody():
            text = await self.refusal(router, ledger, bucket)
        assert text == (
            f"The pictures could not be uploaded to s3://{bucket}: the AWS credentials are wrong "
            f"(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN). {NOTHING_BOUGHT}"
        )

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("AWS_SECRET_ACCESS_KEY", None),
            ("AWS_ENDPOINT_URL", "not an address"),
            ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "perhaps"),
        ],
    )
    async def test_settings_that_make_no_sense(
        self,
        router: FakeRouter,
        ledger: Path,
        bucket: str,
        monkeypatch: pytest.MonkeyPatch,
        variable: str,
        value: str | None,
    ) -> None:
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
        assert await self.refusal(router, ledger, bucket) == (
            f"The pictures could not be uploaded to s3://{bucket}: no usable AWS settings "
            f"(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL). {NOTHING_BOUGHT}"
        )

    async def test_a_store_that_is_gone(
        self, router: FakeRouter, ledger: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        environment(monkeypatch, f"http://127.0.0.1:{port}")
        assert await self.refusal(router, ledger, bucket) == (
            f"The pictures could not be uploaded to s3://{bucket}: it could not be reached, or the connection broke "
            f"(AWS_ENDPOINT_URL). {NOTHING_BOUGHT}"
        )

    async def test_a_store_that_never_answers(
        self, router: FakeRouter, ledger: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with with_store(router, ledger, bucket) as client:
            await submit(client, "https://pictures.example/first.png")  # what is slow only once is over
            monkeypatch.setattr(submitting, "ANSWER_SECONDS", 2.0)  # real seconds: the store is outside of our clock
            with socket.create_server(("127.0.0.1", 0)) as silent:
                environment(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
                answer = await submit(client)
        assert said(answer) == (
            f"Uploading the pictures to s3://{bucket} took too long. Nothing was bought: use smaller or nearer files."
        )
        assert len(router.posts) == 1

    @pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://s3.example.com", "https://nas.local"])
    async def test_a_store_that_the_router_cannot_fetch_from(
        self, router: FakeRouter, ledger: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, endpoint: str
    ) -> None:
        environment(monkeypatch, endpoint)
        assert await self.refusal(router, ledger, bucket, base_url="https://router.example") == (
            f"The pictures could not be uploaded to s3://{bucket}: the router can fetch only from a public https "
            f"address (AWS_ENDPOINT_URL). {NOTHING_BOUGHT}"
        )

    async def test_a_missing_extra_is_named(
        self, router: FakeRouter, ledger: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "obstore.store", None)
        assert await self.refusal(router, ledger, bucket) == (
            "REFVIDEO_MEDIA_STORE is set, but this server cannot upload pictures yet. "
            f"Ask the user to run {sys.executable} -m pip install obstore. Nothing was sent or bought."
        )

    @pytest.mark.parametrize(
        ("status", "code", "why"),
        [
            (400, "ExpiredToken", "the AWS credentials have expired"),
            (403, "RequestTimeTooSkewed", "the clock of this machine is wrong"),
            (301, "PermanentRedirect", "the bucket is in another region (AWS_REGION)"),
            (400, "AuthorizationHeaderMalformed", "the bucket is in another region (AWS_REGION)"),
            (403, "AccessDenied", "the AWS credentials do not allow s3:PutObject there"),
            (503, "SlowDown", "it answered with an error"),
        ],
    )
    async def test_other_answers_of_s3_are_said_in_plain_words(
        self,
        router: FakeRouter,
        ledger: Path,
        bucket: str,
        monkeypatch: pytest.MonkeyPatch,
        status: int,
        code: str,
        why: str,
    ) -> None:
        with answering(status, f"<Error><Code>{code}</Code><Message>{SECRET_KEY}</Message></Error>") as url:
            environment(monkeypatch, url)
            text = await self.refusal(router, ledger, bucket)
        assert text == f"The pictures could not be uploaded to s3://{bucket}: {why}. {NOTHING_BOUGHT}"


class TestSecrets:
    """Who has a presigned link has the picture."""

    async def test_the_link_is_in_no_ledger_no_log_and_no_answer(
        self, router: FakeRouter, ledger: Path, bucket: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        async with with_store(router, ledger, bucket) as client:
            answer = await submit(client)
            listed = await client.call_tool("list_reference_videos", {})
        for text in (answer.model_dump_json(), listed.model_dump_json(), caplog.text, repr(written(ledger))):
            assert "X-Amz" not in text
            assert SECRET_KEY not in text
        assert hashlib.sha256(FOX).hexdigest().encode() in written(ledger)

    async def test_a_router_that_repeats_the_link_does_not_give_it_away(
        self, router: FakeRouter, ledger: Path, bucket: str
    ) -> None:
        link = "https://b.example/fox.png?X-Amz-Expires=86400&X-Amz-Signature=0123abcd"
        message = {"reason": "INVALID_IMAGE_FORMAT", "message": f'subjects[0].images[0]: cannot read "{link}"'}
        router.submission = Reply(400, message, accepts=False)
        async with with_store(router, ledger, bucket) as client:
            answer = await submit(client)
        assert 'cannot read "https://b.example/fox.png?…"' in said(answer)
        assert b"0123abcd" not in written(ledger)


class TestHint:
    """That this gateway takes data URIs is not documented: a refusal of one says what else there is."""

    HINT = (
        "If the pictures are good, this gateway may want public URLs: with the setting "
        "REFVIDEO_MEDIA_STORE=s3://bucket/prefix it gets links to the user's own bucket."
    )

    @staticmethod
    def invalid(message: str) -> Reply:
        return Reply(400, {"reason": "INVALID_REQUEST_BODY", "message": message}, accepts=False)

    @pytest.mark.parametrize(
        "reply",
        [
            refused(400, "INVALID_IMAGE_FORMAT"),
            refused(400, "IMAGE_FILE_EXCEEDS_MAX_SIZE"),
            Reply(413, "<h1>413 Request Entity Too Large</h1>", accepts=False),
            invalid("subjects[0].images[0] must be a valid string"),
            invalid("Field validation failed: not a valid URL"),
            Reply(422, {"detail": "image_url"} | {"message": "image_url: scheme"}, accepts=False),
        ],
    )
    async def test_a_refused_data_uri_makes_the_error_name_the_setting(
        self, router: FakeRouter, ledger: Path, bucket: str, reply: Reply
    ) -> None:
        router.submission = reply
        async with process(router, ledger) as client:
            answer = await submit(client)
        assert answer.is_error
        assert said(answer).endswith(f"try again. {self.HINT}")

    @pytest.mark.parametrize(
        "reply",
        [
            refused(400, "ILLEGAL_PROMPT"),
            refused(400, "IMAGE_EXCEEDS_MAX_RESOLUTION"),
            refused(400, "INVALID_IMAGE_SIZE"),
            invalid("duration must be at most 8"),
            Reply(400, {"reason": "ILLEGAL_IMAGE_CONTENT", "message": "the image shows too much"}, accepts=False),
        ],
    )
    async def test_a_refusal_for_something_else_does_not(
        self, router: FakeRouter, ledger: Path, bucket: str, reply: Reply
    ) -> None:
        router.submission = reply
        async with process(router, ledger) as client:
            answer = await submit(client)
        assert answer.is_error
        assert "REFVIDEO_MEDIA_STORE" not in said(answer)

    @pytest.mark.parametrize("image", ["https://pictures.example/fox.png", "fox.png"])
    async def test_nor_does_the_refusal_of_a_link(
        self, router: FakeRouter, ledger: Path, bucket: str, image: str
    ) -> None:
        router.submission = refused(400, "INVALID_IMAGE_FORMAT")
        async with with_store(router, ledger, bucket) as client:
            answer = await submit(client, image)
        assert answer.is_error
        assert "REFVIDEO_MEDIA_STORE" not in said(answer)


class TestSetting:
    @pytest.mark.parametrize("store", ["s3://mine", "s3://mine/", "s3://my.bucket-1/refvideo/pictures"])
    async def test_a_bucket_with_or_without_a_prefix(self, store: str) -> None:
        assert Settings.read({"REFVIDEO_MEDIA_STORE": f" {store} "}).media_store == store

    @pytest.mark.parametrize(
        "store", ["mine", "s3://", "s3:///x", "https://mine.s3.amazonaws.com", "s3://id:secret@mine", "s3://mine/../x"]
    )
    async def test_anything_else_is_refused_and_not_repeated(self, store: str) -> None:
        with pytest.raises(Refused) as error:
            Settings.read({"REFVIDEO_MEDIA_STORE": store})
        assert str(error.value) == "REFVIDEO_MEDIA_STORE must be s3://bucket or s3://bucket/prefix."

    async def test_the_sandbox_gets_the_pictures_themselves(self) -> None:
        settings = Settings.read({"REFVIDEO_MEDIA_STORE": "s3://mine", "MYROUTER_API_KEY": "sandbox"})
        assert settings.media_store == ""
