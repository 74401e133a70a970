"""Two JSON schemas as one that demands what both demand, as nearly as one node can say it."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

#: Deeper than this the first schema wins: nobody reads a conflict there.
_MAX_DEPTH = 16
_MAX_COMPARISONS = 1_000_000


def merged(first: Schema, second: Schema, depth: int = 0) -> Schema:
    """Both schemas in one. Where they cannot be joined (two patterns, two formats), first wins."""
    result = dict(first)
    for key, value in second.items():
        if key not in result:
            result[key] = value
        elif (join := _JOINS.get(key)) is not None:
            result[key] = join(result[key], value, depth)
    return result


def _join_properties(first: object, second: object, depth: int) -> object:
    if not isinstance(first, dict) or not isinstance(second, dict) or depth > _MAX_DEPTH:
        return first
    joined = dict(first)
    for name, schema in second.items():
        mine = joined.setdefault(name, schema)
        if isinstance(mine, dict) and isinstance(schema, dict) and mine is not schema:
            joined[name] = merged(mine, schema, depth + 1)
    return joined


def _join_lists(first: Any, second: Any, _depth: int) -> Any:
    if not _are_short_lists(first, second):
        return first
    return first + [each for each in second if each not in first]


def _join_enums(first: Any, second: Any, _depth: int) -> Any:
    if not _are_short_lists(first, second):
        return first
    return [each for each in first if each in second] or first


def _join_types(first: object, second: object, _depth: int) -> object:
    kinds = first if isinstance(first, list) else [first]
    others = second if isinstance(second, list) else [second]
    common = [kind for kind in kinds if kind in others]
    if "integer" in others and "number" in kinds and "integer" not in common:
        common.append("integer")
    if not common:
        return first
    return common if len(common) > 1 else common[0]


def _larger(first: Any, second: Any, _depth: int) -> Any:
    return max(first, second) if _are_numbers(first, second) else first


def _smaller(first: Any, second: Any, _depth: int) -> Any:
    return min(first, second) if _are_numbers(first, second) else first


def _are_short_lists(first: object, second: object) -> bool:
    both = isinstance(first, list) and isinstance(second, list)
    # The members may be objects, so that joining is quadratic.
    return both and len(first) * len(second) <= _MAX_COMPARISONS  # type: ignore[arg-type]


def _are_numbers(*values: object) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)


_JOINS = {
    "properties": _join_properties,
    "$defs": _join_properties,
    "definitions": _join_properties,
    "required": _join_lists,
    "allOf": _join_lists,
    "enum": _join_enums,
    "type": _join_types,
    "minimum": _larger,
    "exclusiveMinimum": _larger,
    "minItems": _larger,
    "maximum": _smaller,
    "exclusiveMaximum": _smaller,
    "maxItems": _smaller,
}
