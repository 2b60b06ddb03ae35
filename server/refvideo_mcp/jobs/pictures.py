"""The pictures in a router's body: data URIs, or links in their place."""

import base64
from collections.abc import Mapping
from typing import Any

from refvideo_mcp.errors import SubmitRejected

__all__ = ["contents", "explained", "inline", "with_links"]

WANTS_LINKS = (
    "If the pictures are good, this gateway may want public URLs: with the setting "
    "REFVIDEO_MEDIA_STORE=s3://bucket/prefix it gets links to the user's own bucket."
)


def inline(body: Mapping[str, Any]) -> list[str]:
    """The data URIs in a body."""
    images = [image for subject in body["subjects"] for image in subject["images"]]
    return [image for image in images if image.startswith("data:")]


def contents(body: Mapping[str, Any]) -> list[bytes]:
    """The pictures that are in the body itself."""
    return [base64.b64decode(image.partition(",")[2]) for image in inline(body)]


def with_links(body: Mapping[str, Any], links: Mapping[str, str]) -> dict[str, Any]:
    """The body with a link for every data URI."""
    subjects = [
        {**subject, "images": [links.get(image, image) for image in subject["images"]]} for subject in body["subjects"]
    ]
    return {**body, "subjects": subjects}


def explained(error: SubmitRejected, body: Mapping[str, Any]) -> SubmitRejected:
    """The router's refusal of a body; of one with data URIs, it may be for them: that it takes them is not documented.

    `body` is what was sent.
    """
    if not (error.about_pictures and inline(body)):
        return error
    return SubmitRejected(error.happened, error.advice + f" {WANTS_LINKS}", reason=error.reason)
