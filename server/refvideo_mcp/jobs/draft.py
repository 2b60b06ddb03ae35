"""What is remembered of a request: its pictures by hash and size, never their bytes."""

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from refvideo_mcp.ledger import Draft

__all__ = ["draft_of"]


def draft_of(account: str, body: dict[str, Any], warnings: tuple[str, ...], key: str | None = None) -> Draft:
    """A draft of the router's body `body`, which holds URLs and data URIs."""
    digests = [[_digest(image) for image in subject["images"]] for subject in body["subjects"]]
    subjects = [subject | {"images": images} for subject, images in zip(body["subjects"], digests, strict=True)]
    request = body | {"subjects": subjects}
    draft = Draft(account, request, _hash(request), _hash(digests), body["duration"], warnings=warnings)
    return draft if key is None else replace(draft, key=key, key_given=True)


def _digest(image: str) -> dict[str, Any]:
    if image.startswith("data:"):
        content = base64.b64decode(image.partition(",")[2])
        return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    # The query of a URL may be a secret: it counts, but only by its hash.
    shown = urlsplit(image)._replace(query="", fragment="", netloc=urlsplit(image).netloc.rpartition("@")[2]).geturl()
    return {"url": shown, "sha256": hashlib.sha256(image.encode()).hexdigest()}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
