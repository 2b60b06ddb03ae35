"""Advice about pictures, for a gateway that refuses them."""

from collections.abc import Mapping
from typing import Any

from refvideo_mcp.errors import SubmitRejected

__all__ = ["explained"]

WANTS_LINKS = (
    "If the pictures are good, this gateway may want public URLs: with the setting "
    "REFVIDEO_MEDIA_STORE=s3://bucket/prefix it gets links to the user's own bucket."
)


def explained(error: SubmitRejected, body: Mapping[str, Any]) -> SubmitRejected:
    """The router's refusal of a body; of one with data URIs, it may be for them: that it takes them is not documented.

    `body` is what was sent.
    """
    images = [image for subject in body["subjects"] for image in subject["images"]]
    if not (error.about_pictures and any(image.startswith("data:") for image in images)):
        return error
    return SubmitRejected(error.happened, error.advice + f" {WANTS_LINKS}", reason=error.reason)
