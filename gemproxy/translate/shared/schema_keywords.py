"""Keywords of a schema node that contain no further schemas.

Each function changes the node for Gemini, which has the unchanged keywords already; some also read
the client's node.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gemproxy.translate.shared.schema_budget import SchemaBudget

Schema = dict[str, Any]

#: Keywords that Gemini does not enforce, but that a model can follow in the description.
_DESCRIBED = (
    "pattern",
    "minLength",
    "maxLength",
    "multipleOf",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "default",
)
_ANNOTATIONS = ("description", "title")
_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})


#: Keywords for which ``null`` is a meaningful value.
_VALUES = frozenset({"const", "default"})
_KINDS: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
    type(None): "null",
}
_SHAPES = ("enum", "anyOf", "oneOf", "allOf", "$ref", "properties", "items")


def without_nulls(node: Schema) -> Schema:
    """The node without keywords that are ``null``: some generators write absent ones so."""
    if None not in node.values():
        return node
    kept = {key: value for key, value in node.items() if value is not None or key in _VALUES}
    if kept.get("const", "") is None and not _may_be_null(kept):
        del kept["const"]
    return kept


def _may_be_null(node: Schema) -> bool:
    """Whether ``null`` is a keyword's value, as in ``"const": null``, and not an absent keyword."""
    kind = node.get("type")
    if kind is not None:
        return "null" in (kind if isinstance(kind, list) else [kind])
    return not any(key in node for key in _SHAPES)


def infer_type(clean: Schema, budget: SchemaBudget) -> None:
    """The ``type`` for an ``enum`` without one: Google needs both."""
    values = clean.get("enum")
    if "type" in clean or not isinstance(values, list) or not values:
        return
    budget.entries(len(values))
    kinds = dict.fromkeys(_KINDS[type(value)] for value in values if type(value) in _KINDS)
    if "number" in kinds:
        kinds.pop("integer", None)
    if kinds:
        clean["type"] = list(kinds) if len(kinds) > 1 else next(iter(kinds))


def clean_words(clean: Schema, node: Schema, budget: SchemaBudget) -> None:
    """Rewrite ``const``, ``type`` and descriptions, and describe what Gemini does not enforce."""
    if "const" in node:
        budget.copies(node["const"])
        clean["enum"] = [node["const"]]
    _clean_type(clean, budget)
    for key in _ANNOTATIONS:
        if not isinstance(clean.get(key, ""), str):
            del clean[key]
    notes = []
    for key in _DESCRIBED:
        value = node.get(key)
        if value is not None and value is not False:
            budget.copies(value)
            notes.append(f"{key}: {_shown(value)}")
    if notes:
        clean["description"] = f"{clean.get('description', '')} ({', '.join(notes)})".lstrip()


def _clean_type(clean: Schema, budget: SchemaBudget) -> None:
    kind = clean.pop("type", None)
    if isinstance(kind, str) and kind.lower() in _TYPES:
        # Gemini's own older dialect wrote types in capitals.
        clean["type"] = kind.lower()
    elif isinstance(kind, list):
        budget.entries(2 * len(kind))
        kinds = [each.lower() for each in kind if isinstance(each, str) and each.lower() in _TYPES]
        if kinds:
            clean["type"] = kinds if len(kinds) > 1 else kinds[0]


def _shown(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def clean_bounds(clean: Schema, node: Schema) -> None:
    """``exclusiveMinimum`` and ``exclusiveMaximum``, as numbers or as draft 4's booleans."""
    for bound, exclusive, step in (
        ("minimum", "exclusiveMinimum", 1),
        ("maximum", "exclusiveMaximum", -1),
    ):
        limit = node.get(exclusive)
        if limit is True:
            limit = node.get(bound)
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            continue
        # For whole numbers there is an exact equivalent, for others the nearest is one too wide.
        whole = clean.get("type") == "integer" and (isinstance(limit, int) or limit.is_integer())
        limit = int(limit) + step if whole else limit
        other = clean.get(bound)
        tighter = max if step > 0 else min
        clean[bound] = tighter(limit, other) if isinstance(other, int | float) else limit


def allow_null(clean: Schema) -> None:
    """OpenAPI's ``nullable``: the value may be null as well."""
    if "anyOf" in clean:
        if {"type": "null"} not in clean["anyOf"]:
            clean["anyOf"].append({"type": "null"})
        return
    kinds = clean.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and "null" not in kinds:
        clean["type"] = [*kinds, "null"]
    if isinstance(clean.get("enum"), list) and None not in clean["enum"]:
        clean["enum"] = [*clean["enum"], None]
