"""Presigned-like links: who may fetch a file, and until when."""

import hashlib
import hmac
import secrets
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response


class Links:
    """Signs links with a secret of its own, and refuses what a storage service would refuse."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(self, path: str, expires: int) -> str:
        """The path with its query. `expires` is in seconds since the epoch."""
        return f"{path}?{urlencode({'expires': expires, 'signature': self._signature(path, str(expires))})}"

    def refusal(self, request: Request, now: float) -> Response | None:
        """Why this request gets no file, or None."""
        expires = request.query_params.get("expires", "")
        signature = request.query_params.get("signature", "")
        if "authorization" in request.headers:
            return xml_error(403, "AccessDenied", "A presigned link takes no Authorization header")
        expected = self._signature(request.url.path, expires)
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            return xml_error(403, "SignatureDoesNotMatch", "The signature does not match the link")
        if now >= int(expires):
            return xml_error(403, "AccessDenied", "Request has expired")
        return None

    def _signature(self, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()


def xml_error(status: int, code: str, message: str) -> Response:
    """An error as a storage service words it."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(body, status_code=status, media_type="application/xml")
