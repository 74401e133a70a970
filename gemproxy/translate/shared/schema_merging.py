"""Merge two JSON schemas into one that requires what both require, as far as one node can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gemproxy.translate.shared.schema_budget import SchemaBudget

Schema = dict[str, Any]

#: Below this depth the first schema is used unchanged: conflicts there are rare.
_MAX_DEPTH = 16
#: Larger integers can be chosen so that their hashes collide; hashes of strings cannot.
_LARGEST_HASHED = 2**60


def merged(first: Schema, second: Schema, budget: SchemaBudget, depth: int = 0) -> Schema:
    """Merge two schemas. Of keywords that cannot be merged (two patterns) the first one is kept.

    Raises :class:`~gemproxy.translate.shared.schema_budget.OutOfSteps`.
    """
    budget.entries(len(first) + len(second))
    result = dict(first)
    for key, value in second.items():
        if key not in result:
            result[key] = value
        elif (join := _JOINS.get(key)) is not None:
            result[key] = join(result[key], value, budget, depth)
    return result


def _join_properties(first: object, second: object, budget: SchemaBudget, depth: int) -> object:
    if not isinstance(first, dict) or not isinstance(second, dict) or depth > _MAX_DEPTH:
        return first
    budget.entries(len(first) + len(second))
    joined = dict(first)
    for name, schema in second.items():
        mine = joined.setdefault(name, schema)
        if isinstance(mine, dict) and isinstance(schema, dict) and mine is not schema:
            joined[name] = merged(mine, schema, budget, depth + 1)
    return joined


class _Members:
    """The members of a list, for repeated membership tests with Python's equality."""

    def __init__(self, members: list[Any], budget: SchemaBudget) -> None:
        budget.entries(len(members))
        self._budget = budget
        self._hashed = {each for each in members if _is_hashed(each)}
        self._others = [each for each in members if not _is_hashed(each)]

    def __contains__(self, value: object) -> bool:
        if isinstance(value, str):
            return value in self._hashed
        # Equal numbers may be written differently, such as 1 and 1.0.
        if self._others:
            self._budget.comparisons(value, len(self._others))
        hashed = isinstance(value, int | float) and value in self._hashed
        return hashed or value in self._others


def _is_hashed(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, int) and -_LARGEST_HASHED < value < _LARGEST_HASHED
    )


def _join_lists(first: Any, second: Any, budget: SchemaBudget, _depth: int) -> Any:
    if not _are_lists(first, second):
        return first
    known = _Members(first, budget)
    budget.entries(len(first) + len(second))
    return first + [each for each in second if each not in known]


def _join_enums(first: Any, second: Any, budget: SchemaBudget, _depth: int) -> Any:
    if not _are_lists(first, second):
        return first
    known = _Members(second, budget)
    budget.entries(len(first))
    return [each for each in first if each in known] or first


def _join_types(first: object, second: object, budget: SchemaBudget, _depth: int) -> object:
    kinds = first if isinstance(first, list) else [first]
    others = _Members(second if isinstance(second, list) else [second], budget)
    budget.entries(len(kinds))
    common = [kind for kind in kinds if kind in others]
    if "integer" in others and "number" in kinds and "integer" not in common:
        common.append("integer")
    if not common:
        return first
    return common if len(common) > 1 else common[0]


def _larger(first: Any, second: Any, _budget: SchemaBudget, _depth: int) -> Any:
    return max(first, second) if _are_numbers(first, second) else first


def _smaller(first: Any, second: Any, _budget: SchemaBudget, _depth: int) -> Any:
    return min(first, second) if _are_numbers(first, second) else first


def _are_lists(*values: object) -> bool:
    return all(isinstance(each, list) for each in values)


def _are_numbers(*values: object) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)


_JOINS: dict[str, Callable[[Any, Any, SchemaBudget, int], Any]] = {
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
