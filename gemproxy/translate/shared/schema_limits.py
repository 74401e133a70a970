"""Limit the sum of ``maxItems`` in a schema, for which Google has an undocumented bound.

Above a sum of about 960, with references followed, Google answers a bare 400 ("Request contains an
invalid argument."). So the largest limits are moved to the description. Source:
googleapis/python-genai#2170, vercel/ai#21192.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from gemproxy.translate.shared.schema_budget import SchemaBudget

Schema = dict[str, Any]

MOST_ITEMS = 900
#: A definition counts once for each reference to it; more than this is above the bound anyway.
_MOST_USES = MOST_ITEMS + 1
_ROOT = "#"


class ItemLimits:
    """Collects the ``maxItems`` of one schema, and the references between its definitions."""

    def __init__(self, budget: SchemaBudget) -> None:
        self._budget = budget
        self._limited: list[tuple[str, Schema]] = []
        self._references: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def limits(self, node: Schema, definition: str) -> None:
        """Note the ``maxItems`` of ``node``, if any; ``node`` will be a part of ``definition``."""
        if _items(node):
            self._limited.append((definition, node))

    def refers(self, definition: str, target: str) -> None:
        """Note a reference from ``definition`` to ``target``."""
        self._references[definition][target] += 1

    def lower(self) -> None:
        """Move the largest limits to descriptions until the sum is within the bound."""
        if not self._limited:
            return
        uses = self._uses() if self._references else {_ROOT: 1}
        left = sum(_items(node) * uses.get(place, 0) for place, node in self._limited)
        if left <= MOST_ITEMS:
            return
        self._budget.entries(4 * len(self._limited))
        for place, node in sorted(self._limited, key=_by_items, reverse=True):
            times = uses.get(place, 0)
            if not times:
                continue
            left -= _items(node) * times
            limit = node.pop("maxItems")
            note = f"(maxItems: {int(limit) if limit == int(limit) else limit})"
            node["description"] = f"{node.get('description', '')} {note}".lstrip()
            if left <= MOST_ITEMS:
                return

    def _uses(self) -> Mapping[str, int]:
        """How often each definition occurs in the schema once references are followed.

        The recursion of a cyclic reference is not counted.
        """
        uses: dict[str, int] = defaultdict(int)
        uses[_ROOT] = 1
        order = self._in_order()
        places = {definition: place for place, definition in enumerate(order)}
        for place, definition in enumerate(order):
            self._budget.references(1 + len(self._references[definition]))
            for target, times in self._references[definition].items():
                if places[target] <= place:
                    continue
                uses[target] = min(uses[target] + uses[definition] * times, _MOST_USES)
        return uses

    def _in_order(self) -> list[str]:
        """Each definition before those that it refers to, ignoring cycles."""
        order: list[str] = []
        seen = {_ROOT}
        waiting = [(_ROOT, iter(tuple(self._references[_ROOT])))]
        while waiting:
            definition, targets = waiting[-1]
            target = next((each for each in targets if each not in seen), None)
            self._budget.references(1)
            if target is None:
                order.append(definition)
                waiting.pop()
            else:
                seen.add(target)
                waiting.append((target, iter(tuple(self._references[target]))))
        return order[::-1]


def _items(node: Schema) -> int:
    limit = node.get("maxItems")
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0:
        return 0
    return int(min(limit, 2**62))


def _by_items(limited: tuple[str, Schema]) -> int:
    return _items(limited[1])
