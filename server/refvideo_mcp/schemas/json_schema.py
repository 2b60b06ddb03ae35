"""JSON Schema that every tool dialect accepts, built from the models.

OpenAI, Gemini, Anthropic and VS Code disagree on the rest, so there is no `$ref`, `anyOf`, `null` or `title` in it.
"""

from functools import cache
from typing import Any

from pydantic import BaseModel

__all__ = ["portable_schema"]


@cache
def portable_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON Schema, flat. Treat it as read-only: it is shared."""
    schema = model.model_json_schema()
    return _flat(schema, schema.pop("$defs", {}), top=True)


def _flat(node: dict[str, Any], definitions: dict[str, Any], *, top: bool = False) -> dict[str, Any]:
    if "anyOf" in node:  # an optional field: one real branch and null
        (branch,) = (b for b in node["anyOf"] if b.get("type") != "null")
        node = branch | {k: v for k, v in node.items() if k != "anyOf"}
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        node = target | {k: v for k, v in node.items() if k != "$ref"}
    flat = {k: v for k, v in node.items() if k not in ("title", "default")}
    if top:
        flat.pop("description", None)  # the class docstring is for developers
    if node.get("default") is not None:
        flat["default"] = node["default"]
    if "properties" in flat:
        flat["properties"] = {name: _flat(child, definitions) for name, child in flat["properties"].items()}
    if "items" in flat:
        flat["items"] = _flat(flat["items"], definitions)
        if "properties" in flat["items"]:
            flat["items"].pop("description", None)
    return flat
