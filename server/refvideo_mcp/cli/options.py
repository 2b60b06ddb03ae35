"""A command's options, built from the arguments of the tool that does the same: no field is declared twice."""

import argparse
import math
from collections.abc import Callable, Mapping
from typing import Any

from refvideo_mcp.schemas import SpecModel, portable_schema

__all__ = ["add_json_option", "add_spec_options", "given", "number", "port"]

Written = Mapping[str, tuple[str, dict[str, Any]]]


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
