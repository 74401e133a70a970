"""The two kinds of schema in a request: what Google refuses in them, and example values.

Path A is JSON Schema (``parametersJsonSchema``, ``responseJsonSchema``), path B the OpenAPI subset
(``parameters``, ``responseSchema``). [ai.google.dev structured-output; google-genai ``Schema``]
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MAX_DEPTH = 32
_OPTIONAL_DEPTH = 4
_MOST_ITEMS = 960  # python-genai#2170, vercel/ai#21192: more get a 400 without a reason
_GREATEST_COUNT = 10_000  # items or characters of an example value
_GREATEST_NUMBER = 1e15  # above this, floats have no fractions
_STRING_FORMATS = frozenset({"enum", "date-time", ""})
_SAMPLES = {
    "date-time": "2026-11-20T12:34:56Z",
    "date": "2026-11-20",
    "time": "12:34:56Z",
    "duration": "PT5M",
    "email": "sam@example.org",
    "uri": "https://example.org/page",
    "hostname": "example.org",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uuid": "6f1c2a52-6f0e-4c5e-9a55-0d1f7c1f5a10",
}
_WORDS = (
    "amber",
    "birch",
    "cobalt",
    "dune",
    "ember",
    "fjord",
    "grove",
    "harbour",
    "iris",
    "juniper",
)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _GREATEST_COUNT


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


#: The required types of keyword values that this module reads.
_KEYWORDS: Mapping[str, Callable[[object], bool]] = {
    "$ref": lambda value: isinstance(value, str),
    "type": lambda value: isinstance(value, str) or _is_names(value),
    "format": lambda value: isinstance(value, str),
    "enum": lambda value: isinstance(value, list),
    "required": _is_names,
    "propertyOrdering": _is_names,
    "multipleOf": lambda value: _is_number(value) and value > 0,  # type: ignore[operator]
    **dict.fromkeys(("properties", "$defs", "definitions"), lambda value: isinstance(value, dict)),
    **dict.fromkeys(
        ("anyOf", "oneOf", "allOf", "prefixItems"), lambda value: isinstance(value, list)
    ),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength"), _is_count),
}


def openapi_faults(schema: dict[str, Any], where: str, depth: int = 0) -> Iterator[str]:
    """Google's texts for the faults of a path B schema that has passed the field check."""
    if depth > _MAX_DEPTH:
        yield f"* {where}: the schema exceeds the maximum allowed nesting depth.\n"
        return
    if "anyOf" in schema and set(schema) - {"anyOf", "nullable"}:
        yield f"* {where}: when using any_of, it must be the only field set.\n"
    kind = schema.get("type")
    if kind == "ARRAY" and "items" not in schema:
        yield f"* {where}.items: missing field.\n"
    if kind == "STRING" and schema.get("format", "") not in _STRING_FORMATS:
        yield f"* {where}.format: only 'enum' and 'date-time' are supported for STRING type\n"
    if "enum" in schema and kind not in {"STRING", None}:
        yield f"* {where}.enum: only allowed for STRING type\n"
    for at, value in enumerate(schema.get("enum", ())):
        if not value:
            yield f"* {where}.enum[{at}]: cannot be empty\n"
    properties = schema.get("properties", {})
    for at, name in enumerate(schema.get("required", ())):
        if name not in properties:
            yield f"* {where}.required[{at}]: property is not defined\n"
    for name, child in properties.items():
        yield from openapi_faults(child, f"{where}.properties[{name}]", depth + 1)
    if "items" in schema:
        yield from openapi_faults(schema["items"], f"{where}.items", depth + 1)
    for at, child in enumerate(schema.get("anyOf", ())):
        yield from openapi_faults(child, f"{where}.any_of[{at}]", depth + 1)


def json_schema_faults(schema: object, where: str) -> Iterator[str]:
    """The faults of a path A schema: keywords of a wrong type, unresolved references."""
    if not isinstance(schema, dict):
        yield f"* {where}: must be a JSON Schema object.\n"
        return
    yield from _node_faults(schema, schema, where, 0)
    if _greatest_items(schema, schema, ()) > _MOST_ITEMS:
        yield "Request contains an invalid argument."


def _greatest_items(node: object, root: dict[str, Any], followed: tuple[str, ...]) -> float:
    """The sum of all ``maxItems``, with references followed; a cycle is followed once."""
    if not isinstance(node, dict) or len(followed) > _MAX_DEPTH:
        return 0
    reference = node.get("$ref")
    if isinstance(reference, str):
        if reference in followed:
            return 0
        return _greatest_items(_resolved(reference, root), root, (*followed, reference))
    total = node.get("maxItems", 0) if _is_count(node.get("maxItems")) else 0
    for path, child in _children(node):
        if not path.startswith(("$defs", "definitions")):
            total += _greatest_items(child, root, followed)
    return float(total)


def _node_faults(node: object, root: dict[str, Any], where: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        yield f"* {where}: the schema exceeds the maximum allowed nesting depth.\n"
        return
    if isinstance(node, bool):
        return
    if not isinstance(node, dict):
        yield f"* {where}: must be a JSON Schema object.\n"
        return
    yield from _keyword_faults(node, where)
    reference = node.get("$ref")
    if isinstance(reference, str) and not isinstance(_resolved(reference, root), dict):
        yield f"* {where}: reference to undefined schema at {reference}\n"
    if "$ref" in node and any(not key.startswith("$") for key in node):
        yield f"* {where}: beside $ref only fields starting with $ may be set.\n"
    for path, child in _children(node):
        yield from _node_faults(child, root, f"{where}.{path}", depth + 1)


def _keyword_faults(node: dict[str, Any], where: str) -> Iterator[str]:
    for keyword, fits in _KEYWORDS.items():
        if keyword in node and not fits(node[keyword]):
            yield f"* {where}.{keyword}: invalid value\n"


def _children(node: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas directly inside ``node``, with their paths."""
    for keyword in ("properties", "$defs", "definitions"):
        if isinstance(node.get(keyword), dict):
            yield from ((f"{keyword}[{name}]", child) for name, child in node[keyword].items())
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if isinstance(node.get(keyword), list):
            yield from ((f"{keyword}[{at}]", child) for at, child in enumerate(node[keyword]))
    for keyword in ("items", "additionalProperties"):
        if keyword in node:
            yield keyword, node[keyword]


@dataclass
class _Making:
    """The state of one example: the whole schema, the random source, and the remaining values."""

    root: Mapping[str, Any]
    dice: random.Random
    left: int = _GREATEST_COUNT


def example(schema: object, dice: random.Random) -> Any:
    """An example value for ``schema`` of either path; depends only on the random source.

    ``pattern`` and ``not`` are not supported: a string under them may not match. If a schema needs
    more than 10,000 values, or recurses without end, the excess is None.
    """
    root = schema if isinstance(schema, dict) else {}
    return _value(schema, _Making(root, dice), 0)


def _value(schema: object, making: _Making, depth: int) -> Any:
    making.left -= 1
    if making.left < 0 or depth > _MAX_DEPTH * 2:
        return None
    if not isinstance(schema, dict):
        return _text({}, making.dice)  # the schema `true`, or none: any value is valid
    schema = _flattened(schema, making.root)
    if "type" in schema:
        # Without a type Google ignores both. [pydantic-ai#3610, #3751, vercel/ai#6421]
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return making.dice.choice(schema["enum"])
    for keyword in ("anyOf", "oneOf"):
        if schema.get(keyword):
            return _value(_branch(schema[keyword], making.dice, depth), making, depth + 1)
    return _typed(_type_of(schema), schema, making, depth)


def _typed(kind: str, schema: dict[str, Any], making: _Making, depth: int) -> Any:
    if kind == "object":
        return _object(schema, making, depth)
    if kind == "array":
        return _array(schema, making, depth)
    if kind in {"integer", "number"}:
        return _number(schema, making.dice, whole=kind == "integer")
    if kind == "boolean":
        return making.dice.random() < 0.5
    return None if kind == "null" else _text(schema, making.dice)


def _flattened(schema: dict[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """``schema`` with its reference resolved and its ``allOf`` merged."""
    for _ in range(_MAX_DEPTH):
        target = _resolved(schema["$ref"], root) if isinstance(schema.get("$ref"), str) else None
        if not isinstance(target, dict):
            break
        schema = {**target, **{key: item for key, item in schema.items() if key != "$ref"}}
    merged = {key: item for key, item in schema.items() if key != "allOf"}
    for part in schema.get("allOf", ()):
        if isinstance(part, dict):
            merged = _merged(merged, _flattened(part, root))
    return merged


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = {**one, **other}
    for key in ("properties", "$defs"):
        if key in one and key in other:
            both[key] = {**one[key], **other[key]}
    if "required" in one and "required" in other:
        both["required"] = [*one["required"], *other["required"]]
    return both


def _resolved(reference: str, root: Mapping[str, Any]) -> Any:
    """The target of ``#/$defs/Name``; None if there is none."""
    if not reference.startswith("#"):
        return None
    node: Any = root
    for step in reference[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _branch(branches: list[Any], dice: random.Random, depth: int) -> Any:
    """One of the alternatives; at a large depth the simplest one, so that a recursion ends."""
    if depth <= _OPTIONAL_DEPTH:
        return dice.choice(branches)
    plain = [b for b in branches if isinstance(b, dict) and _type_of(b) not in {"object", "array"}]
    return (plain or branches)[0]


def _type_of(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if isinstance(kind, str):
        return kind.lower()
    if "properties" in schema or "$ref" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "string"


def _object(schema: dict[str, Any], making: _Making, depth: int) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    required = set(schema.get("required") or ())
    order = [*(schema.get("propertyOrdering") or ()), *properties, *sorted(required)]
    return {
        name: _value(properties.get(name), making, depth + 1)
        for name in dict.fromkeys(order)
        if name in required or (name in properties and depth < _OPTIONAL_DEPTH)
    }


def _array(schema: dict[str, Any], making: _Making, depth: int) -> list[Any]:
    fixed = schema.get("prefixItems") or ()
    least = int(schema.get("minItems") or 0)
    most = int(schema.get("maxItems", max(least, 2)))
    wanted = least if depth >= _OPTIONAL_DEPTH else max(least, min(most, len(fixed) or 2))
    items = schema.get("items")
    if items is False:
        wanted = min(wanted, len(fixed))
    return [
        _value(fixed[at] if at < len(fixed) else items, making, depth + 1)
        for at in range(min(wanted, making.left))
    ]


def _number(schema: dict[str, Any], dice: random.Random, *, whole: bool) -> float:
    step = schema.get("multipleOf") or (1 if whole else 0.5)
    low, high = _bounds(schema, step)
    if max(abs(low), abs(high)) > _GREATEST_NUMBER:
        return int(low) if whole else low
    first = math.ceil(low / step)
    last = max(first, math.floor(high / step))
    value = dice.randint(first, last) * step
    if not low <= value <= high:
        value = low  # no multiple of the step lies between the bounds
    return int(value) if whole else value


def _bounds(schema: dict[str, Any], step: float) -> tuple[float, float]:
    low = schema.get("minimum")
    if "exclusiveMinimum" in schema:
        low = max(low if low is not None else -math.inf, schema["exclusiveMinimum"] + step)
    high = schema.get("maximum")
    if "exclusiveMaximum" in schema:
        high = min(high if high is not None else math.inf, schema["exclusiveMaximum"] - step)
    if low is None:
        low = min(1, high) if high is not None else 1
    return low, high if high is not None else low + 99


def _text(schema: dict[str, Any], dice: random.Random) -> str:
    sample = _SAMPLES.get(schema.get("format", ""))
    text = sample or f"{dice.choice(_WORDS)} {dice.choice(_WORDS)}"
    least = int(schema.get("minLength") or 0)
    while len(text) < min(least, _GREATEST_COUNT):
        text += f" {dice.choice(_WORDS)}"
    return text[: int(schema["maxLength"])] if "maxLength" in schema else text
