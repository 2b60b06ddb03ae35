"""An OAuth issuer on this machine: it publishes keys, and makes tokens, also such as no issuer would."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

__all__ = ["Issuer"]

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Issuer:
    """`asked` are the paths that it was asked for; while `is_down` it answers 500."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.named = url  # what it calls itself
        self.keys: dict[str, PrivateKey] = {"first": new_key()}
        self.asked: list[str] = []
        self.is_down = False

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["Issuer"]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                content = json.dumps(issuer._answer(self.path)).encode()
                self.send_response(500 if issuer.is_down else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            issuer = cls(f"http://127.0.0.1:{server.server_port}")
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield issuer
            finally:
                server.shutdown()
                thread.join()

    def _answer(self, path: str) -> dict[str, Any]:
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.named, "jwks_uri": f"{self.url}/keys"}
        return {"keys": [public(key) | {"kid": name, "use": "sig"} for name, key in self.keys.items()]}

    def token(self, subject: str | None = "a person", kid: str | None = "first", **changed: Any) -> str:
        """A good one but for what is changed: a claim, which is left out if None, or `key`, `algorithm`, `header`."""
        key, algorithm = changed.pop("key", None), changed.pop("algorithm", "RS256")
        header = ({"kid": kid} if kid else {}) | changed.pop("header", {})
        claims = {"iss": self.url, "sub": subject, "exp": time.time() + 300} | changed
        signing = key if key is not None or algorithm == "none" else self.keys[kid or "first"]
        told = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(told, signing, algorithm=algorithm, headers=header)


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public(key: PrivateKey) -> dict[str, Any]:
    """The JWK of its public half."""
    if isinstance(key, rsa.RSAPrivateKey):
        return RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
