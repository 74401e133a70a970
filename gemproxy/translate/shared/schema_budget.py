"""What the schemas of one request may cost.

A few kilobytes of JSON Schema can ask for hours of work: references copy what they point at,
``allOf`` merges it, and merging compares. So everything that is done again and again takes steps
from one budget, which all schemas of a request share, and beyond it the request is refused. A step
is about half a microsecond on the machine of ``docs/performance.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

#: Steps of one request, where its translation may take its time: about 0.2 seconds.
MOST_STEPS = 400_000
#: Steps of one request whose translation holds up everybody else: about 15 milliseconds.
FEW_STEPS = 30_000

#: Steps for one node of the result, and for a schema besides its nodes.
_NODE = 10
_SCHEMA = 10
#: Bytes of a copied value, and of the text that the client sent, for one step.
_BYTES = 32
_BYTES_READ = 16

_encode = msgspec.json.Encoder().encode


class OutOfSteps(Exception):
    """The budget is used up. The text says what was being done, for people."""


class SchemaBudget(msgspec.Struct, kw_only=True):
    """The steps that are left to the schemas of one request.

    Every method raises :class:`OutOfSteps` where there are not enough. ``brief`` tells that the
    request is translated once more, with :data:`MOST_STEPS`, where :data:`FEW_STEPS` do not do.
    """

    brief: bool = False
    #: The steps that were taken.
    used: int = 0
    #: What was made of each schema, by its path: a second translation needs it again.
    made: dict[str, Any] = {}
    #: By identity; the value is kept, so that no other one gets its identity.
    _weights: dict[int, tuple[Any, int]] = {}

    def text(self, length: int) -> None:
        """A schema of so many bytes is read."""
        self._take(_SCHEMA + length // _BYTES_READ, "bytes")

    def nodes(self, count: int) -> None:
        """So many nodes are rewritten."""
        self._take(_NODE * count, "nodes with their references resolved")

    def entries(self, count: int) -> None:
        """So many entries of objects and lists are merged or looked through."""
        self._take(1 + (count >> 2), "entries to merge")

    def references(self, count: int) -> None:
        """So many nodes or references are looked at while references are followed."""
        self._take(3 * count, "references to follow")

    def comparisons(self, value: object, count: int) -> None:
        """``value`` is compared with so many others."""
        weight = self._weight(value) if isinstance(value, dict | list) else 0
        self._take(1 + (count >> 4) + (weight + 1) * count // 4, "values to compare")

    def copies(self, value: object) -> None:
        """``value`` is written once more."""
        if isinstance(value, str):
            self._take(len(value) // _BYTES, "values to copy")
        elif isinstance(value, dict | list):
            self._take(1 + self._weight(value), "values to copy")

    def names(self, names: Iterable[str]) -> None:
        """Names of properties, which may be as long as a body, are written once more."""
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
