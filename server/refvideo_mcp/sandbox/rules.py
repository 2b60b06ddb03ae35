"""What the router refuses in the body of a submit. Written from the router's documents, from nothing else."""

import base64
import binascii
import json
import re
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from .reasons import Refusal

MAX_BODY_BYTES = 20_000_000

_RATIO = re.compile(r"(\d{1,4}):(\d{1,4})", re.ASCII)
_DATA_URI = re.compile(r"data:image/(png|jpeg|jpg|webp);base64,")

Check = Callable[[Any], str | None]


def check_body(body: bytes) -> dict[str, Any]:
    """The submitted request, if it keeps every rule. Raises Refusal otherwise; `details` names the fields."""
    if len(body) > MAX_BODY_BYTES:
        raise Refusal("INVALID_REQUEST_BODY", "body: more than 20 MB")
    request = _object(body)
    problems = list(_problems(request, _FIELDS, ""))
    if problems:
        raise Refusal("INVALID_REQUEST_BODY", "; ".join(problems))
    for subject_number, subject in enumerate(request["subjects"]):
        for image_number, image in enumerate(subject["images"]):
            if image.startswith("data:"):
                _decode(image, f"subjects[{subject_number}].images[{image_number}]")
    return request


def _object(body: bytes) -> dict[str, Any]:
    try:
        # Two things Python's parser lets through are no JSON: NaN, and half a surrogate pair.
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise Refusal("INVALID_REQUEST_BODY", "body: not valid JSON") from None
    if not isinstance(value, dict):
        raise Refusal("INVALID_REQUEST_BODY", "body: must be a JSON object")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _problems(value: dict[str, Any], fields: dict[str, tuple[bool, Check]], prefix: str) -> list[str]:
    found = [f"{prefix}{name}: unknown field" for name in value if name not in fields]
    for name, (required, check) in fields.items():
        if name not in value:
            problem = "is required" if required else None
        elif value[name] is None:
            problem = "must not be null"
        else:
            problem = check(value[name])
        if problem:
            found.append(f"{prefix}{name}: {problem}")
    return found


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "must be a string"


def _filled_text(value: Any) -> str | None:
    return _text(value) or (None if value.strip() else "must not be empty")


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _integer(value: Any) -> str | None:
    return None if type(value) is int else "must be an integer"


def _duration(value: Any) -> str | None:
    return _integer(value) or (None if 1 <= value <= 10 else "must be between 1 and 10")


def _one_of(*words: str) -> Check:
    def check(value: Any) -> str | None:
        return None if value in words and isinstance(value, str) else f"must be one of {', '.join(words)}"

    return check


def parse_ratio(value: str) -> tuple[int, int] | None:
    """`"16:9"` as (16, 9); None if it is not two positive whole numbers."""
    match = _RATIO.fullmatch(value)
    if not match or not int(match[1]) or not int(match[2]):
        return None
    return int(match[1]), int(match[2])


def _ratio(value: Any) -> str | None:
    return _text(value) or (None if parse_ratio(value) else "must be W:H, such as 16:9")


def _image(value: Any) -> str | None:
    problem = _filled_text(value)
    if problem or value.startswith("data:"):
        return problem
    try:
        url = urlsplit(value)
        usable = url.scheme in ("http", "https") and bool(url.hostname)
    except ValueError:
        usable = False
    return None if usable else "must be an http(s) URL or data:image/…;base64,…"


def _images(value: Any) -> str | None:
    if not isinstance(value, list) or not value:
        return "must be an array of at least one string"
    problems = ((number, _image(image)) for number, image in enumerate(value))
    return next((f"[{number}] {problem}" for number, problem in problems if problem), None)


def _subjects(value: Any) -> str | None:
    if not isinstance(value, list) or not value:
        return "must be an array of at least one subject"
    for number, subject in enumerate(value):
        if not isinstance(subject, dict):
            return f"[{number}] must be an object"
        problems = _problems(subject, _SUBJECT_FIELDS, "")
        if problems:
            return f"[{number}] " + ", ".join(problems)
    return None


_SUBJECT_FIELDS: dict[str, tuple[bool, Check]] = {
    "id": (True, _filled_text),
    "images": (True, _images),
    "voice_id": (False, _text),
}

_FIELDS: dict[str, tuple[bool, Check]] = {
    "prompt": (True, _filled_text),
    "subjects": (True, _subjects),
    "duration": (True, _duration),
    "resolution": (False, _one_of("540p", "720p", "1080p")),
    "aspect_ratio": (False, _ratio),
    "movement_amplitude": (False, _one_of("auto", "small", "medium", "high")),
    "seed": (False, _integer),
    "audio": (False, _boolean),
    "bgm": (False, _boolean),
    "watermark": (False, _boolean),
}


def _decode(uri: str, where: str) -> None:
    from PIL import Image

    match = _DATA_URI.match(uri)
    if not match:
        raise Refusal("INVALID_IMAGE_FORMAT", f"{where}: must begin data:image/(png|jpeg|webp);base64,")
    said = "JPEG" if match[1] == "jpg" else match[1].upper()
    try:
        content = base64.b64decode(uri[match.end() :], validate=True)
        with Image.open(BytesIO(content), formats=["PNG", "JPEG", "WEBP"]) as picture:
            is_said = picture.format == said
            too_large = picture.width * picture.height > (Image.MAX_IMAGE_PIXELS or 0)
            if is_said and not too_large:
                picture.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refusal("IMAGE_EXCEEDS_MAX_RESOLUTION", f"{where}: too many pixels") from None
    # A broken picture raises anything from SyntaxError to struct.error inside Pillow.
    except (binascii.Error, OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError):
        raise Refusal("INVALID_IMAGE_FORMAT", f"{where}: does not decode as a picture") from None
    if not is_said:
        raise Refusal("INVALID_IMAGE_FORMAT", f"{where}: is not the {match[1]} that it says it is")
    if too_large:
        raise Refusal("IMAGE_EXCEEDS_MAX_RESOLUTION", f"{where}: too many pixels")
