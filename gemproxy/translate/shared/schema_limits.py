"""The sum of ``maxItems`` over a schema, which Google bounds without a word.

Above about 960 in sum, with references followed, it answers a bare 400 ("Request contains an
invalid argument."). So the largest ones are told in the description instead.
Source: googleapis/python-genai#2170, vercel/ai#21192.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from gemproxy.translate.shared.schema_budget import SchemaBudget

Schema = dict[str, Any]

MOST_ITEMS = 900
#: A definition counts each time that it is referred to; more often than this is too often anyway.
_MOST_USES = MOST_ITEMS + 1
_ROOT = "#"


class ItemLimits:
    """The ``maxItems`` of one schema under way, and which definition refers to which."""

    def __init__(self, budget: SchemaBudget) -> None:
        self._budget = budget
        self._limited: list[tuple[str, Schema]] = []
        self._references: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def limits(self, node: Schema, definition: str) -> None:
        """``node``, which is about to become a part of ``definition``, may have a ``maxItems``."""
        if _items(node):
            self._limited.append((definition, node))

    def refers(self, definition: str, target: str) -> None:
        """``definition`` refers to ``target``."""
        self._references[definition][target] += 1

    def lower(self) -> None:
        """Take away as many limits as are too much, the largest first."""
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
            told = f"(maxItems: {int(limit) if limit == int(limit) else limit})"
            node["description"] = f"{node.get('description', '')} {told}".lstrip()
            if left <= MOST_ITEMS:
                return

    def _uses(self) -> Mapping[str, int]:
        """How often each definition stands in the schema once references are followed.

        A reference that leads back to where it is followed from counts no further.
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
        """Each definition before those that it refers to, cycles apart."""
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
