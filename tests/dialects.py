"""What the clients' models take for a tool: one table of published rules, each with where it is published.

A client sends its model the input schemas; some read the output schemas too, so both are held to the same rules. Rules
of the "strict" modes (every property required) are left out: MCP tools are not sent that way.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator, SchemaError
from jsonschema.protocols import Validator

Schema = dict[str, Any]
# For a tool, what is wrong with it.
Check = Callable[[Schema], Iterator[str]]

SERVER = "refvideo"


@dataclass(frozen=True)
class Rule:
    dialect: str
    says: str
    source: str
    check: Check


def complaints(tool: Schema) -> list[str]:
    """Every rule that the tool breaks, with the place."""
    return [f"{rule.dialect}: {rule.says}: {place}" for rule in RULES for place in rule.check(tool)]


def schemas(tool: Schema) -> Iterator[tuple[str, Schema]]:
    """The tool's schemas with their names; a missing one is empty."""
    for name in ("inputSchema", "outputSchema"):
        if name == "inputSchema" or name in tool:
            yield name, tool.get(name) or {}


def nodes(node: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """A schema and every schema inside it."""
    yield path, node
    for inner, child in children(node):
        yield from nodes(child, path + inner)


def children(node: Schema) -> Iterator[tuple[str, Schema]]:
    """The schemas directly inside, wherever keywords hold schemas."""
    for keyword in ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"):
        yield from ((f".{name}", child) for name, child in (node.get(keyword) or {}).items())
    for keyword in ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames"):
        if isinstance(node.get(keyword), dict):
            yield f".{keyword}", node[keyword]
    for keyword in ("anyOf", "allOf", "oneOf", "prefixItems", "items"):
        if isinstance(node.get(keyword), list):
            yield from ((f".{keyword}[{place}]", child) for place, child in enumerate(node[keyword]))


def every(broken: Callable[[Schema], bool]) -> Check:
    """A rule for every schema at any depth."""
    return lambda tool: (path for name, schema in schemas(tool) for path, node in nodes(schema, name) if broken(node))


def top(broken: Callable[[Schema], bool]) -> Check:
    """A rule for the outermost schemas."""
    return lambda tool: (name for name, schema in schemas(tool) if broken(schema))


def named(pattern: str, prefix: str = "") -> Check:
    """A rule for the tool's name, as the model gets it."""
    return lambda tool: iter([] if re.fullmatch(pattern, prefix + tool["name"]) else [prefix + tool["name"]])


def keys(pattern: str) -> Check:
    """A rule for the names of properties."""
    return lambda tool: (
        f"{path}.{key}"
        for name, schema in schemas(tool)
        for path, node in nodes(schema, name)
        for key in node.get("properties") or {}
        if not re.fullmatch(pattern, key)
    )


def valid(draft: type[Validator]) -> Check:
    """The schemas are themselves valid by that draft of JSON Schema."""

    def check(tool: Schema) -> Iterator[str]:
        for name, schema in schemas(tool):
            try:
                draft.check_schema(schema)
            except SchemaError as error:
                yield f"{name}: {error.message}"

    return check


def depth(node: Schema) -> int:
    """How many levels of objects are in one another."""
    return _is(node, "object") + max((depth(child) for _, child in children(node)), default=0)


def has(*keywords: str) -> Callable[[Schema], bool]:
    return lambda node: any(keyword in node for keyword in keywords)


def _is(node: Schema, kind: str) -> bool:
    return node.get("type") == kind


GENAI = "https://googleapis.github.io/js-genai/release_docs/interfaces/types.FunctionDeclaration.html"
COPILOT = (
    "https://github.com/microsoft/vscode-copilot-chat/blob/main/src/extension/tools/common/toolSchemaNormalizer.ts"
)
PROFILE = "https://jsonschemaprofiles.unitvectorylabs.com/schemas/openai"
JSON_SCHEMA_OF_GEMINI = {
    *("$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items", "prefixItems"),
    *("minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties", "additionalProperties", "required"),
    *("propertyOrdering", "default"),  # `default` is ignored there, and documented as such for the older `parameters`
}

RULES = [
    Rule(
        "OpenAI",
        "a name is 1-64 of a-z, A-Z, 0-9, _ and -",
        "https://github.com/microsoft/semantic-kernel/issues/5320",
        named(r"[a-zA-Z0-9_-]{1,64}"),
    ),
    Rule(
        "OpenAI",
        "the top is an object without oneOf, anyOf, allOf, enum or not",
        "https://github.com/langchain-ai/langchainjs/issues/9804",
        top(lambda schema: not _is(schema, "object") or has("oneOf", "anyOf", "allOf", "enum", "not")(schema)),
    ),
    Rule(
        "OpenAI",
        "an array says what its items are",
        "https://github.com/spring-projects/spring-ai/issues/2561",
        every(lambda node: _is(node, "array") and "items" not in node),
    ),
    Rule(
        "OpenAI",
        "allOf, not, if, then, else and dependent… are not permitted",
        PROFILE,
        every(has("allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas")),
    ),
    Rule("OpenAI", "at most 10 levels of nesting", PROFILE, top(lambda schema: depth(schema) > 10)),
    Rule(
        "OpenAI",
        "at most 1000 enum values in a schema",
        PROFILE,
        top(lambda schema: sum(len(node.get("enum", ())) for _, node in nodes(schema, "")) > 1000),
    ),
    Rule(
        "Gemini",
        "a name begins with a letter or _ and has at most 64 of a-z, A-Z, 0-9, _, . and -",
        GENAI,
        named(r"[a-zA-Z_][a-zA-Z0-9_.-]{0,63}"),
    ),
    Rule(
        "Gemini",
        "a parameter's name begins with a letter or _ and has at most 64 of a-z, A-Z, 0-9 and _",
        GENAI,
        keys(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}"),
    ),
    Rule(
        "Gemini",
        "parametersJsonSchema describes an object with properties",
        "https://googleapis.github.io/java-genai/javadoc/google-genai/com.google.genai.types/-function-declaration/"
        "parameters-json-schema.html",
        top(lambda schema: not _is(schema, "object") or not isinstance(schema.get("properties"), dict)),
    ),
    Rule(
        "Gemini",
        "only these JSON Schema keywords are supported",
        "https://github.com/googleapis/python-genai/blob/main/google/genai/types.py (response_json_schema)",
        every(lambda node: bool(node.keys() - JSON_SCHEMA_OF_GEMINI)),
    ),
    Rule(
        "Gemini",
        "beside $ref nothing else may be set",
        "https://github.com/googleapis/python-genai/blob/main/google/genai/types.py (response_json_schema)",
        every(lambda node: "$ref" in node and any(not key.startswith("$") for key in node)),
    ),
    Rule(
        "Gemini",
        "every schema says its type",
        "https://github.com/google-gemini/gemini-cli/issues/2282",
        every(lambda node: "type" not in node and "$ref" not in node),
    ),
    Rule(
        "Gemini",
        "a type is one word, never a list with null in it",
        "https://github.com/github/copilot-cli/issues/4623",
        every(lambda node: not isinstance(node.get("type", ""), str)),
    ),
    Rule(
        "Gemini",
        "an enum holds texts only",
        "https://github.com/microsoft/azure-devops-mcp/issues/145",
        every(lambda node: any(not isinstance(value, str) for value in node.get("enum", ()))),
    ),
    Rule(
        "Anthropic",
        "a name, as Claude's clients lengthen it, is 1-64 of a-z, A-Z, 0-9, _ and -",
        "https://apis.io/schemas/claude/claude-messages-tool/ and "
        "https://docs.claude.com/en/api/agent-sdk/custom-tools (mcp__server__tool)",
        named(r"[a-zA-Z0-9_-]{1,64}", prefix=f"mcp__{SERVER}__"),
    ),
    Rule(
        "Anthropic",
        "a property's name is 1-64 of a-z, A-Z, 0-9, _, . and -",
        "https://github.com/anthropics/claude-code/issues/79418",
        keys(r"[a-zA-Z0-9_.-]{1,64}"),
    ),
    Rule(
        "Anthropic",
        "no oneOf, allOf or anyOf at the top",
        "https://github.com/anthropics/claude-code/issues/5878",
        top(has("oneOf", "allOf", "anyOf")),
    ),
    Rule(
        "Anthropic",
        "no $ref in a custom tool's schema",
        "https://platform.claude.com/docs/en/managed-agents/self-hosted-sandboxes",
        every(has("$ref")),
    ),
    Rule(
        "Anthropic",
        "schemas match JSON Schema draft 2020-12",
        "https://github.com/acomagu/vscode-as-mcp-server/issues/6",
        valid(Draft202012Validator),
    ),
    Rule("VS Code", "schemas match JSON Schema draft 7", COPILOT, valid(Draft7Validator)),
    Rule(
        "VS Code",
        "the top is an object with properties",
        COPILOT,
        top(lambda schema: not _is(schema, "object") or not schema.get("properties")),
    ),
    Rule(
        "VS Code",
        "a tool has a description",
        COPILOT,
        lambda tool: iter([] if tool.get("description") else [tool["name"]]),
    ),
    Rule(
        "VS Code", "an array says what its items are", COPILOT, every(lambda n: _is(n, "array") and not n.get("items"))
    ),
    Rule("VS Code", "items is one schema, not a list", COPILOT, every(lambda n: isinstance(n.get("items"), list))),
    Rule(
        "VS Code",
        "a description has at most 1024 characters",
        COPILOT,
        every(lambda node: len(node.get("description", "")) > 1024),
    ),
    Rule(
        "VS Code",
        "no oneOf, anyOf, allOf, not, if, then or else at the top",
        COPILOT,
        top(has("oneOf", "anyOf", "allOf", "not", "if", "then", "else")),
    ),
    Rule(
        "VS Code",
        "what is required is a property",
        COPILOT,
        every(lambda node: bool(set(node.get("required", ())) - set(node.get("properties", ())))),
    ),
    Rule(
        "VS Code",
        "a name has only a-z, 0-9, _ and -",
        "https://git.drupalcode.org/project/mcp_server/-/work_items/3585896",
        named(r"[a-z0-9_-]+"),
    ),
]
