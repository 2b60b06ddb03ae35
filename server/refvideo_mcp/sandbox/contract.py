"""What the router refuses in the body of a submit: contract.schema.json, and what no schema can say."""

import base64
import json
import re
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .reasons import Refusal

if TYPE_CHECKING:
    from jsonschema import Draft4Validator, ValidationError

MAX_BODY_BYTES = 20_000_000
_MOST_ERRORS = 20
_DATA_URI = re.compile(r"data:image/(png|jpeg|jpg|webp);base64,")
_TYPES = {
    "string": "must be a string",
    "integer": "must be an integer",
    "boolean": "must be true or false",
    "object": "must be an object",
}


def check_body(body: bytes) -> dict[str, Any]:
    """The submitted request, if it keeps every rule. Raises Refusal otherwise; `details` names the fields."""
    if len(body) > MAX_BODY_BYTES:
        raise Refusal("INVALID_REQUEST_BODY", "body: more than 20 MB")
    request = _object(body)
    errors = islice(_validator().iter_errors(request), _MOST_ERRORS)
    problems = dict.fromkeys(line for error in errors for line in _problems(error))
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


@cache
def _validator() -> "Draft4Validator":
    from jsonschema import Draft4Validator  # the last draft in which 5.0 is no integer

    return Draft4Validator(json.loads(Path(__file__).with_name("contract.schema.json").read_text(encoding="utf-8")))


def _problems(error: "ValidationError") -> Iterator[str]:
    """In the router's words, which name the field and never repeat its value."""
    where = "".join(f"[{step}] " if isinstance(step, int) else f"{step}: " for step in error.absolute_path)
    found, schema = cast(Any, error.instance), cast(Any, error.schema)
    match error.validator:
        case "required":
            yield from (f"{where}{name}: is required" for name in schema["required"] if name not in found)
        case "additionalProperties":
            yield from (f"{where}{name}: unknown field" for name in found if name not in schema["properties"])
        case _ if found is None:
            yield f"{where}must not be null"
        case keyword:
            words = _TYPES.get(schema["type"]) if keyword == "type" else None
            yield where + (words or schema["description"])


def _decode(uri: str, where: str) -> None:
    from PIL import Image

    match = _DATA_URI.match(uri)
    if not match:
        raise Refusal("INVALID_IMAGE_FORMAT", f"{where}: must begin data:image/(png|jpeg|webp);base64,")
    try:
        content = base64.b64decode(uri[match.end() :], validate=True)
        with Image.open(BytesIO(content), formats=["PNG", "JPEG", "WEBP"]) as picture:
            if picture.format != match[1].upper().replace("JPG", "JPEG"):
                raise Refusal("INVALID_IMAGE_FORMAT", f"{where}: is not the {match[1]} that it says it is")
            if picture.width * picture.height > (Image.MAX_IMAGE_PIXELS or 0):
                raise Refusal("IMAGE_EXCEEDS_MAX_RESOLUTION", f"{where}: too many pixels")
            picture.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refusal("IMAGE_EXCEEDS_MAX_RESOLUTION", f"{where}: too many pixels") from None
    # A broken picture raises anything from SyntaxError to struct.error inside Pillow.
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError):
        raise Refusal("INVALID_IMAGE_FORMAT", f"{where}: does not decode as a picture") from None
