"""Wrong arguments, in sentences an agent can act on. None of pydantic's wording or links gets through."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import ValidationError

from refvideo_mcp.errors import InvalidCall, clean
from refvideo_mcp.schemas.json_schema import portable_schema
from refvideo_mcp.schemas.request import SpecModel

__all__ = ["read_arguments"]

Model = TypeVar("Model", bound=SpecModel)

# Vidu itself and the sibling endpoints say `large`; people say `low`.
_SYNONYMS = {"large": "high", "low": "small"}
_KINDS = {"string": "text", "boolean": "true or false"}

# What programs add to any tool's arguments for themselves, as `_plain` writes it. A name that an agent may have meant
# for one of ours does not belong here.
_INJECTED = frozenset(
    {
        *("action", "chatinput", "sessionid", "tool", "toolcallid"),  # n8n; SiYuan: _sessionID
        "taskprogress",  # Cline
        *("toolaction", "toolsummary", "waitforprevious", "waitforprevioustools"),  # Gemini CLI, Antigravity
        *("securitycontext", "securityrisk"),  # CrewAI, OpenHands
        "randomstring",  # Cursor, for tools that need no argument
        *("meta", "usercontext"),
    }
)


def read_arguments(model: type[Model], raw: dict[str, Any], names: Mapping[str, str] | None = None) -> Model:
    """Validate a tool's raw arguments; what clients add to them for themselves is left out.

    `names` says how the reader writes an argument, where that is not by its own name.

    Raises:
        InvalidCall: with every problem at once: the field, what is wrong and the allowed values.
    """
    theirs = {name for name in raw if _plain(name) in _INJECTED and name not in model.model_fields}
    try:
        return model.model_validate({name: value for name, value in raw.items() if name not in theirs})
    except ValidationError as error:
        schema = portable_schema(model)
        problems = error.errors(include_url=False, include_context=True)
        sentences = list(dict.fromkeys(_sentence(problem, schema, names or {}) for problem in problems))
        shown = " ".join(sentences[:8]) + (f" ({len(sentences) - 8} more.)" if len(sentences) > 8 else "")
        raise InvalidCall(shown, "Nothing was sent or bought: correct this and try again.") from None


def _sentence(problem: Any, schema: dict[str, Any], names: Mapping[str, str]) -> str:
    where, field, parent = _place(problem["loc"], schema, names)
    match problem["type"]:
        case "missing":
            return f"{where} is missing: {field.get('description', 'it is required')}"
        case "extra_forbidden":
            name = str(problem["loc"][-1])
            near = _nearest(name, parent.get("properties", {}))
            known = f"did you mean `{near}`?" if near else f"known: {', '.join(parent.get('properties', {}))}."
            return f"{where} is not an argument; {known}"
        case "value_error":
            message = str(problem["ctx"]["error"])
            return f"{where} {message}." if problem["loc"] else f"{message}."
        case _:
            return f"{where} must be {_expected(field)}{_instead(problem['input'], field)}."


def _plain(name: str) -> str:
    return name.replace("_", "").casefold()


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The one name that may have been meant: `ratio` is a part of it, or it is nearly spelled so."""
    parts = set(name.casefold().split("_"))
    whole = [other for other in known if parts <= set(other.split("_"))]
    if len(whole) == 1:
        return whole[0]
    spelled = {_plain(other): other for other in known}
    near = get_close_matches(_plain(name), spelled, n=1, cutoff=0.7)
    return spelled[near[0]] if near else None


def _place(
    loc: tuple[str | int, ...], schema: dict[str, Any], names: Mapping[str, str]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The field's name as the reader would write it, its schema, and the schema of the object around it."""
    where, field, parent = "", schema, schema
    for step in loc:
        if isinstance(step, int):
            where, field = f"{where}[{step}]", field.get("items", {})
        else:
            where = f"{where}.{clean(step, 60)}" if where else clean(names.get(step, step), 60)
            parent, field = field, field.get("properties", {}).get(step, {})
    return f"`{where}`" if where else "The arguments", field, parent


def _expected(field: dict[str, Any]) -> str:
    kind = field.get("type")
    if "enum" in field:
        return "one of " + ", ".join(field["enum"])
    if kind == "integer":
        bounds = f" from {field['minimum']} to {field['maximum']}" if {"minimum", "maximum"} <= set(field) else ""
        return f"a whole number{bounds}"
    if kind == "array":
        return f"a list with at least {field.get('minItems', 0)} entry"
    if kind == "object":
        return "an object with " + ", ".join(field.get("properties", {}))
    return _KINDS.get(str(kind), "something else")


def _instead(given: Any, field: dict[str, Any]) -> str:
    if "enum" not in field or not isinstance(given, str):
        return ""
    near = get_close_matches(given.lower(), field["enum"], n=1)
    use = _SYNONYMS.get(given.lower()) or (near[0] if near else None)
    return f"; for `{clean(given, 40)}` use `{use}`" if use in field["enum"] else ""
