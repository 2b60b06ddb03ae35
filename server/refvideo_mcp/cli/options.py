"""Options and their values; of a command that does what a tool does, they are built from the tool's arguments."""

import argparse
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from refvideo_mcp.schemas import SpecModel, portable_schema

__all__ = ["add_json_option", "add_spec_options", "given", "number", "port", "subjects_of"]

Written = Mapping[str, tuple[str, dict[str, Any]]]

# No id holds these: `https://host/?a=b` and `C:\a=b.png` are pictures whose id is left to their position.
_ID = re.compile(r"\s*([^=/\\:,]*)=(.*)", re.DOTALL)
# One of the cast, as a prompt names it. `@/path` and `@fox.png` are pictures, as some programs write them.
_MEMBER = re.compile(r"\s*@([^=/\\:,.~\"'`]+)")
_ADDRESS = re.compile(r"\s*(https?|data):", re.IGNORECASE)


def add_spec_options(parser: argparse.ArgumentParser, model: type[SpecModel], written: Written) -> None:
    """An option per field of the model, which checks the values: it says better than argparse what is wrong.

    `written` has the fields that are written differently here: the option's name, and what `add_argument` takes.
    """
    for name, field in portable_schema(model)["properties"].items():
        option, different = written.get(name, (f"--{name.replace('_', '-')}", {}))
        parser.add_argument(option, **({"dest": name, "help": _help(field)} | _kind(field) | different))


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON document")


def number(least: float, most: float = math.inf) -> Callable[[str], float]:
    """What argparse reads a number with: a finite one in that range."""

    def read(text: str) -> float:
        value = float(text)  # argparse tells of a ValueError by this function's name
        if not (least <= value <= most and math.isfinite(value)):
            limits = f"from {least:g}" + (f" to {most:g}" if math.isfinite(most) else "")
            raise argparse.ArgumentTypeError(f"{text} is no number {limits}")
        return value

    read.__name__ = "number"
    return read


def port(text: str) -> int:
    """What argparse reads a port with; 0 takes a free one."""
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port: they go from 0 to 65535")
    return value


def given(options: argparse.Namespace, model: type[SpecModel]) -> dict[str, Any]:
    """The arguments that were given, by the model's names."""
    values = {name: getattr(options, name, None) for name in portable_schema(model)["properties"]}
    return {name: value for name, value in values.items() if value is not None}


def subjects_of(values: Sequence[str]) -> list[Any]:
    """The `subjects` that the values of several `--subject` mean; an id that comes again gets more pictures.

    `@fox` alone is one of the cast.

    A value in braces is a subject as JSON, which can say everything: a voice, a path with a comma in it.
    """
    subjects: list[Any] = []
    named: dict[str, dict[str, Any]] = {}
    for value in values:
        if value.lstrip().startswith("{"):
            subjects.append(value)
            continue
        if member := _MEMBER.fullmatch(value):
            subjects.append({"id": member[1].strip()})
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


def _help(field: dict[str, Any]) -> str:
    description: str = field["description"]
    default = f" (default {field['default']})" if field.get("default") else ""
    return f"{description.rstrip('.')}{default}".replace("%", "%%")


def _kind(field: dict[str, Any]) -> dict[str, Any]:
    if field["type"] == "boolean":
        return {"action": "store_const", "const": True}
    if field["type"] == "integer":
        return {"metavar": "N"}
    return {"metavar": "|".join(field["enum"])} if "enum" in field else {}
