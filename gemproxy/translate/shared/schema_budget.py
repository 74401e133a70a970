"""Bound the work on the schemas of one request.

A few kilobytes of JSON Schema can cause hours of work: references copy their targets, ``allOf``
merges them, and merging compares. So every repeated operation takes steps from one budget that all
schemas of a request share; beyond it the request is refused. A step
is about half a microsecond on the machine of ``docs/performance.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

#: Steps of one request in a thread: about 0.2 seconds.
MOST_STEPS = 400_000
#: Steps of one request in the reactor's thread: about 15 milliseconds.
FEW_STEPS = 30_000

#: Steps for one node of the result, and for a schema besides its nodes.
_NODE = 10
_SCHEMA = 10
#: Bytes of a copied value, and of the text that the client sent, for one step.
_BYTES = 32
_BYTES_READ = 16

_encode = msgspec.json.Encoder().encode


class OutOfSteps(Exception):
    """The budget is used up. The text names the operation."""


class SchemaBudget(msgspec.Struct, kw_only=True):
    """The remaining steps of one request.

    Every method raises :class:`OutOfSteps` if there are not enough. ``brief``: the limit is
    :data:`FEW_STEPS`, and the request is translated again with :data:`MOST_STEPS` if needed.
    """

    brief: bool = False
    #: Steps taken so far.
    used: int = 0
    #: The result for each schema, by its path, for a second translation.
    made: dict[str, Any] = {}
    #: By identity; the value is kept so that its identity stays unique.
    _weights: dict[int, tuple[Any, int]] = {}

    def text(self, length: int) -> None:
        """Take steps for reading a schema of this size."""
        self._take(_SCHEMA + length // _BYTES_READ, "bytes")

    def nodes(self, count: int) -> None:
        """Take steps for rewriting this number of nodes."""
        self._take(_NODE * count, "nodes with their references resolved")

    def entries(self, count: int) -> None:
        """Take steps for merging or searching this number of entries of objects and lists."""
        self._take(1 + (count >> 2), "entries to merge")

    def references(self, count: int) -> None:
        """Take steps for visiting this number of nodes while references are followed."""
        self._take(3 * count, "references to follow")

    def comparisons(self, value: object, count: int) -> None:
        """Take steps for comparing ``value`` with this number of others."""
        weight = self._weight(value) if isinstance(value, dict | list) else 0
        self._take(1 + (count >> 4) + (weight + 1) * count // 4, "values to compare")

    def copies(self, value: object) -> None:
        """Take steps for copying ``value``."""
        if isinstance(value, str):
            self._take(len(value) // _BYTES, "values to copy")
        elif isinstance(value, dict | list):
            self._take(1 + self._weight(value), "values to copy")

    def names(self, names: Iterable[str]) -> None:
        """Take steps for copying property names, which may be very long."""
        self._take(sum(map(len, names)) // _BYTES, "names to copy")

    def _weight(self, value: object) -> int:
        known = self._weights.get(id(value))
        if known is None:
            known = self._weights[id(value)] = value, len(_encode(value)) // _BYTES
        return known[1]

    def _take(self, steps: int, doing: str) -> None:
        self.used += steps
        limit = FEW_STEPS if self.brief else MOST_STEPS
        if self.used > limit:
            raise OutOfSteps(
                f"the schemas of one request may take {limit} steps of work, and these go"
                f" beyond: too many {doing}"
            )
