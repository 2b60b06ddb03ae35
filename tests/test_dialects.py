"""Every client's model takes the tools as they are; `dialects.py` has the rules and where they are published."""

from copy import deepcopy
from typing import Any

import pytest

from dialects import RULES, complaints
from listing import ERAS, listing

pytestmark = pytest.mark.anyio

TOOL: dict[str, Any] = {
    "name": "wave",
    "description": "Waves.",
    "inputSchema": {
        "type": "object",
        "properties": {"times": {"type": "array", "items": {"type": "string"}, "description": "When."}},
        "required": ["times"],
        "additionalProperties": False,
    },
    "outputSchema": {"type": "object", "properties": {"waved": {"type": "boolean", "description": "Whether."}}},
}
DEEP: dict[str, Any] = {"type": "string"}
for _ in range(10):
    DEEP = {"type": "object", "properties": {"inner": DEEP}}


@pytest.mark.parametrize("era", ERAS)
async def test_every_tool_keeps_every_rule_of_every_dialect(era: str) -> None:
    found = {tool["name"]: complaints(tool) for tool in (await listing(era))["tools"]}
    assert found == {name: [] for name in found}
    assert len(found) == 3


def test_every_rule_names_the_page_it_is_from() -> None:
    assert [rule.says for rule in RULES if not rule.source.startswith("https://")] == []
    assert {rule.dialect for rule in RULES} == {"OpenAI", "Gemini", "Anthropic", "VS Code"}


def with_property(schema: Any, name: str = "times", where: str = "inputSchema") -> dict[str, Any]:
    tool = deepcopy(TOOL)
    tool[where]["properties"][name] = schema
    return tool


def with_top(where: str = "inputSchema", **changes: Any) -> dict[str, Any]:
    tool = deepcopy(TOOL)
    tool[where] |= changes
    return tool


BAD: list[tuple[dict[str, Any], set[str]]] = [
    (TOOL | {"name": "wave now"}, {"OpenAI", "Gemini", "Anthropic", "VS Code"}),
    (TOOL | {"name": "w" * 65}, {"OpenAI", "Gemini", "Anthropic"}),
    (TOOL | {"name": "w" * 50}, {"Anthropic"}),
    (TOOL | {"name": "Wave"}, {"VS Code"}),
    (TOOL | {"name": "1wave"}, {"Gemini"}),
    (TOOL | {"description": ""}, {"VS Code"}),
    (TOOL | {"inputSchema": {"type": "object"}}, {"Gemini", "VS Code"}),
    (TOOL | {"inputSchema": {"type": "string"}}, {"OpenAI", "Gemini", "VS Code"}),
    (with_top(anyOf=[{"type": "object", "required": ["times"]}]), {"OpenAI", "Anthropic", "VS Code"}),
    (with_top("outputSchema", allOf=[{"type": "object"}]), {"OpenAI", "Gemini", "Anthropic", "VS Code"}),
    (with_top(required=["times", "place"]), {"VS Code"}),
    (with_top(required="times"), {"Anthropic", "VS Code"}),
    (with_property({"type": "array"}), {"OpenAI", "VS Code"}),
    (with_property({"type": "array", "items": [{"type": "string"}]}), {"Anthropic", "VS Code"}),
    (with_property({"type": ["string", "null"]}), {"Gemini"}),
    (with_property({"anyOf": [{"type": "string"}, {"type": "null"}]}), {"Gemini"}),
    (with_property({"type": "integer", "enum": [1, 2]}), {"Gemini"}),
    (with_property({"type": "string", "pattern": "a+"}), {"Gemini"}),
    (with_property({"$ref": "#/$defs/Time"}), {"Anthropic"}),
    (with_property({"$ref": "#/$defs/Time", "description": "When."}), {"Anthropic", "Gemini"}),
    (with_property({"type": "string", "not": {"type": "string"}}), {"OpenAI", "Gemini"}),
    (with_property({"type": "string"}, "at[]"), {"Gemini", "Anthropic"}),
    (with_property({"type": "string"}, "a.b"), {"Gemini"}),
    (with_property({"type": "string"}, "a" * 65), {"Gemini", "Anthropic"}),
    (with_property({"type": "string", "description": "x" * 1025}), {"VS Code"}),
    (with_property({"type": "strin"}), {"Anthropic", "VS Code"}),
    (with_property({"type": "string", "enum": [str(n) for n in range(1001)]}), {"OpenAI"}),
    (with_property(DEEP), {"OpenAI"}),
    (with_property({"type": "array"}, "waves", "outputSchema"), {"OpenAI", "VS Code"}),
]


def test_a_plain_tool_breaks_no_rule() -> None:
    assert complaints(TOOL) == []


@pytest.mark.parametrize(("tool", "dialects"), BAD, ids=range(len(BAD)))
def test_a_tool_that_a_dialect_refuses_is_caught(tool: dict[str, Any], dialects: set[str]) -> None:
    assert {complaint.split(":")[0] for complaint in complaints(tool)} == dialects


def test_every_rule_has_been_seen_to_catch_something() -> None:
    assert [rule.says for rule in RULES if not any(list(rule.check(tool)) for tool, _ in BAD)] == []
