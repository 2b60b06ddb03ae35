"""What callers write where the meaning is plain, read as what they mean. A guess is not plain: it is refused.

Each function takes a value as it came and gives what the spec's own types take; what it does not understand it passes
on, to be refused there in the spec's words.
"""

import json
import re
from typing import Any

from pydantic import BeforeValidator

__all__ = [
    "as_list",
    "at_most",
    "bare_id",
    "from_json",
    "is_nothing",
    "number",
    "numbered",
    "place",
    "ratio",
    "resolution",
    "seconds",
    "text",
    "unwrapped",
    "word",
    "yes",
]

_SECONDS = re.compile(r"([0-9]+)(\.0+)?\s*(s|secs?|seconds?)", re.IGNORECASE)
# Also the multiplication sign, and the colon of Chinese keyboards.
_RATIO = re.compile(r"0*([1-9][0-9]{0,4})\s*[:x/\u00d7\uff1a]\s*0*([1-9][0-9]{0,4})")

_QUOTES = ('""', "''", "``", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb")
# Marks that copying puts around a text. Those that turn it around are none.
_MARKS = "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u2060\u2066\u2067\u2068\u2069\ufeff"
# What programs write where they have nothing, and what stands where they filled nothing in; a home folder is something.
_NOTHING = re.compile(
    r"|null|none|nil|undefined|\(null\)|\$\{(?!(?-i:(env:)?(HOME|USERPROFILE)|userHome)\})[^}]*\}|\{\{[^}]*\}\}|%\w+%",
    re.IGNORECASE,
)


def unwrapped(text: str) -> str:
    """What is written, without the quotes, spaces and invisible marks that copying has put around it."""
    while True:
        before, text = text, text.strip().strip(_MARKS)
        if len(text) > 1 and text[0] + text[-1] in _QUOTES:
            text = text[1:-1]
        if text == before:
            return text


def is_nothing(text: str) -> bool:
    """Whether it is no value, but a word for none, or a placeholder that nobody has filled in."""
    return _NOTHING.fullmatch(unwrapped(text)) is not None


def from_json(value: str) -> Any:
    """A list or an object that arrived as JSON text."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def as_list(value: Any) -> Any:
    """A list that arrived as JSON text, or a single item without its brackets."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = from_json(value)
    return value if isinstance(value, list) else [value]


def numbered(value: Any) -> Any:
    """Subjects; one without an id is named by its position, counted from 1."""
    subjects = [from_json(item) if isinstance(item, str) else item for item in as_list(value)]
    return [
        {**item, "id": str(place)} if isinstance(item, dict) and item.get("id") is None else item
        for place, item in enumerate(subjects, 1)
    ]


def text(value: Any) -> Any:
    """An id that is all digits may come as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def bare_id(value: Any) -> Any:
    """`@hero` and 1 are plain ways to write the ids `hero` and `1`."""
    value = text(value)
    return re.sub(r"^[@\s]+|\s+$", "", value) if isinstance(value, str) else value


def word(value: Any) -> Any:
    """One of our words, however its letters are."""
    return value.strip().lower() if isinstance(value, str) else value


def yes(value: Any) -> Any:
    """One of our words, where true means yes."""
    return "yes" if value is True or word(value) in ("true", "1", "on") else word(value)


def number(value: Any) -> Any:
    """pydantic reads "5" and 5.0 itself, but True as 1, too."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def place(value: Any) -> Any:
    """A path; some callers write whether there is one."""
    return None if isinstance(value, bool) or word(value) in ("true", "false") else value


def seconds(value: Any) -> Any:
    """A length of time; its unit may stand beside it."""
    match = _SECONDS.fullmatch(value.strip()) if isinstance(value, str) else None
    return match[1] if match else number(value)


def at_most(most: int) -> BeforeValidator:
    """More than allowed means as much as possible."""

    def cut(value: Any) -> Any:
        if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
            value = int(value)
        return min(value, most) if isinstance(value, int | float) else value

    return BeforeValidator(cut)


def resolution(value: Any) -> Any:
    return re.sub(r"^([0-9]+)\s*p?$", r"\1p", str(value).strip().lower()) if isinstance(value, str | int) else value


def ratio(value: str) -> str:
    match = _RATIO.fullmatch(value.strip().lower())
    if not match:
        raise ValueError("must be two positive whole numbers, width:height, such as 16:9, 9:16 or 1:1")
    return f"{match[1]}:{match[2]}"
