"""Reference images: a path, URL or data URI becomes what the router takes."""

import base64
import binascii
import io
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio.to_thread

from refvideo_mcp.errors import Refused, clean
from refvideo_mcp.spec import ReferenceVideoRequest

__all__ = ["with_images"]

MAX_BYTES = 20 * 1024 * 1024
_FORMATS = ("PNG", "JPEG", "WEBP")


async def with_images(request: ReferenceVideoRequest) -> ReferenceVideoRequest:
    """The request with every local picture read and turned into a data URI; URLs stay as they are.

    Raises:
        Refused: a picture cannot be read or is none; nothing was sent.
    """

    def resolved() -> ReferenceVideoRequest:
        subjects = [
            subject.model_copy(update={"images": [_resolve(image) for image in subject.images]})
            for subject in request.subjects
        ]
        return request.model_copy(update={"subjects": subjects})

    return await anyio.to_thread.run_sync(resolved)


def _resolve(source: str) -> str:
    scheme = source.split(":", 1)[0].lower() if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", source) else ""
    if scheme in ("http", "https"):
        return _public_url(source)
    if scheme == "data":
        return _checked(_decoded(source), "The data URI")
    if scheme not in ("", "file"):
        raise Refused(f"Pictures cannot be read from {clean(scheme, 20)}: addresses.", "Use a path or an https URL.")
    path = Path(unquote(urlsplit(source).path) if scheme else source).expanduser()
    return _checked(_read(path), clean(str(path.absolute()), 200))


def _public_url(source: str) -> str:
    try:
        host = urlsplit(source).hostname
    except ValueError:
        host = None
    if not host:
        raise Refused(f"{clean(source, 80)} is not an address that the router can fetch.", "Use a public https URL.")
    return source


def _decoded(uri: str) -> bytes:
    match = re.match(r"data:[^,]{0,100};base64,", uri)
    try:
        return base64.b64decode(uri[match.end() :], validate=True) if match else b""
    except binascii.Error:
        return b""


def _read(path: Path) -> bytes:
    shown = clean(str(path.absolute()), 200)
    try:
        if not path.is_file():
            raise Refused(f"There is no picture at {shown}.", "Ask the user for the right path. Nothing was sent.")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise Refused(f"{shown} cannot be read.", "Ask the user for another path. Nothing was sent.") from error


def _checked(content: bytes, shown: str) -> str:
    from PIL import Image

    if len(content) > MAX_BYTES:
        raise Refused(f"{shown} is larger than 20 MB.", "Use a smaller picture. Nothing was sent.")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            picture.load()
            kind = str(picture.format).lower()
    except Exception as error:  # Pillow's decoders raise many kinds for a broken file
        raise Refused(f"{shown} is no PNG, JPEG or WebP picture.", "Use another file. Nothing was sent.") from error
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
