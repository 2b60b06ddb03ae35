"""`--subject ID=PICTURE,PICTURE`: how a person or thing is written on a command line."""

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["subjects_of"]

# No id holds these: `https://host/?a=b` and `C:\a=b.png` are pictures whose id is left to their position.
_ID = re.compile(r"\s*([^=/\\:,]*)=(.*)", re.DOTALL)
_ADDRESS = re.compile(r"\s*(https?|data):", re.IGNORECASE)


def subjects_of(values: Sequence[str]) -> list[Any]:
    """The `subjects` that the values of several `--subject` mean; an id that comes again gets more pictures.

    A value in braces is a subject as JSON, which can say everything: a voice, a path with a comma in it.
    """
    subjects: list[Any] = []
    named: dict[str, dict[str, Any]] = {}
    for value in values:
        if value.lstrip().startswith("{"):
            subjects.append(value)
            continue
        match = _ID.fullmatch(value)
        name = match[1].strip().removeprefix("@") if match else None
        pictures = _pictures(match[2] if match else value)
        if name is not None and name in named:
            named[name]["images"] += pictures
            continue
        subject: dict[str, Any] = {"images": pictures} if name is None else {"id": name, "images": pictures}
        subjects.append(subject)
        if name is not None:
            named[name] = subject
    return subjects


def _pictures(text: str) -> list[str]:
    """The pictures between the commas, some of which belong to a picture: one to each data URI, any number to a URL."""
    pictures: list[str] = []
    for part in text.split(","):
        if pictures and _goes_on(pictures[-1], part):
            pictures[-1] += f",{part}"
        else:
            pictures.append(part)
    return pictures


def _goes_on(picture: str, part: str) -> bool:
    address = _ADDRESS.match(picture)
    if address is None:
        return False
    return "," not in picture if address[1].lower() == "data" else not _ADDRESS.match(part)
