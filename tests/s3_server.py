"""An S3 server for the tests: moto's, in a process of its own, where its warnings and threads are not ours."""

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import httpx2

__all__ = ["S3", "running", "signature_of"]


@dataclass(frozen=True)
class S3:
    url: str

    def new_bucket(self) -> str:
        name = f"test-{uuid.uuid4().hex}"
        httpx2.put(f"{self.url}/{name}").raise_for_status()
        return name

    def keys(self, bucket: str) -> list[str]:
        """The names of the objects in a bucket."""
        return re.findall("<Key>(.*?)</Key>", httpx2.get(f"{self.url}/{bucket}").raise_for_status().text)

    @contextmanager
    def knowing_nobody(self) -> Iterator[None]:
        """Refuse everybody's credentials; otherwise it takes all of them."""
        httpx2.post(f"{self.url}/moto-api/reset-auth", content=b"0").raise_for_status()
        try:
            yield
        finally:
            httpx2.post(f"{self.url}/moto-api/reset-auth", content=b"inf").raise_for_status()


@contextmanager
def running() -> Iterator[S3]:
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,  # closed with this process, however it ends, and then the server ends too
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdin
        assert server.stdout
        yield S3(f"http://127.0.0.1:{int(server.stdout.readline())}")
        server.stdin.close()


def signature_of(link: str, secret: str) -> str:
    """The signature that AWS's own library gives a presigned link: the server does not check it."""
    from botocore.auth import S3SigV4QueryAuth  # type: ignore[import-untyped]
    from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
    from botocore.credentials import Credentials  # type: ignore[import-untyped]

    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    key, _, region, *_ = query["X-Amz-Credential"].split("/")
    auth = S3SigV4QueryAuth(Credentials(key, secret), "s3", region)
    request = AWSRequest("GET", link.partition("&X-Amz-Signature=")[0])
    request.context["timestamp"] = query["X-Amz-Date"]
    signature: str = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    return signature


if __name__ == "__main__":
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    sys.stdout.write(f"{server.get_host_and_port()[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()
