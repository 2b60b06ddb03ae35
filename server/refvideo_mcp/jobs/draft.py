"""A call made ready: what is sent, and what is remembered of it — pictures by hash and size, never their bytes."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread

from refvideo_mcp.images import LoadedRequest, Picture
from refvideo_mcp.jobs.casting import Order, OwnCast, ToKeep
from refvideo_mcp.jobs.services import Services
from refvideo_mcp.ledger import Draft
from refvideo_mcp.schemas import warnings_for

__all__ = ["Prepared", "draft_of", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """The request with its pictures, the draft for the ledger, and whom the cast is to keep."""

    loaded: LoadedRequest
    draft: Draft
    keep: tuple[ToKeep, ...] = ()


async def prepare(
    services: Services,
    account: str,
    order: Order,
    roots: Sequence[Path] = (),
    *,
    key: str | None = None,
    save_to: str | None = None,
) -> Prepared:
    """Read and check everything that a call names. `roots` are the client's folders.

    Raises:
        Refused: a picture or `save_to` cannot be used, or a subject not be kept; nothing was sent.
    """
    destination = await services.consent.destination(save_to, roots) if save_to else None
    loaded = await services.images.load(order.request, roots, ready=order.lent, keep_whole=bool(order.keep))
    keep = order.to_keep(loaded)
    await OwnCast(services, account).check(keep)
    make = partial(draft_of, account, loaded, key, str(destination) if destination else None)
    # Hashing 20 MB would hold up a ping.
    draft = await anyio.to_thread.run_sync(make) if loaded.pictures else make()
    return Prepared(loaded, draft, keep)


def draft_of(account: str, loaded: LoadedRequest, key: str | None = None, save_to: str | None = None) -> Draft:
    """A draft of what is sent."""
    body = loaded.request.body()
    warnings = (*warnings_for(loaded.request), *loaded.warnings)
    digests = [
        [_digest(image, loaded.pictures.get(image)) for image in subject["images"]] for subject in body["subjects"]
    ]
    subjects = [subject | {"images": images} for subject, images in zip(body["subjects"], digests, strict=True)]
    request = body | {"subjects": subjects}
    draft = Draft(
        account,
        request,
        _hash(request),
        _hash(digests),
        body["duration"],
        sources={loaded.pictures[image].sha256: source for image, source in loaded.sources.items()},
        warnings=warnings,
        save_to=save_to,
    )
    return draft if key is None else replace(draft, key=key, key_given=True)


def _digest(image: str, picture: Picture | None) -> dict[str, Any]:
    if picture is not None:
        return {"sha256": picture.sha256, "bytes": len(picture.content)}
    # The query of a URL may be a secret: it counts, but only by its hash.
    shown = urlsplit(image)._replace(query="", fragment="", netloc=urlsplit(image).netloc.rpartition("@")[2]).geturl()
    return {"url": shown, "sha256": hashlib.sha256(image.encode()).hexdigest()}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
