"""A line of members in the order of their places, the first at its head.

A sorted list, since it can be walked along in order and an item found its place by bisection; with
ten thousand members a turn costs as much as on a heap. (With a hundred thousand it costs ten times
as much where the weights differ, since the list's end moves up.)
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar

M = TypeVar("M")

Item = tuple[int, int, M]
"""A member behind its place: its pass, and its order, which is unique and settles ties."""

# The list is shortened once so many have left, since all others move up for it.
_MOST_GONE = 64


class SortedQueue(Generic[M]):
    """See the module."""

    __slots__ = ("_gone", "_items")

    def __init__(self, items: Iterable[Item[M]] = ()) -> None:
        self._items = sorted(items)
        self._gone = 0  # of the list's first items

    def copy(self) -> SortedQueue[M]:
        """The same members at the same places."""
        twin: SortedQueue[M] = SortedQueue()
        twin._items = self._items[self._gone :]
        return twin

    def first(self) -> Item[M] | None:
        """The item at the head; ``None`` of an empty line."""
        items = self._items
        return items[self._gone] if len(items) > self._gone else None

    def add(self, item: Item[M]) -> None:
        """Somebody new at his place."""
        insort(self._items, item, self._gone)

    def leave(self, number: int = 1) -> None:
        """The first ``number`` are gone."""
        self._gone += number
        if self._gone > _MOST_GONE:
            del self._items[: self._gone]
            self._gone = 0

    def turn(self, stride: int) -> int:
        """The first one goes ``stride`` further back. Returns the pass that it had."""
        passing, order, member = self._items[self._gone]
        self._gone += 1
        insort(self._items, (passing + stride, order, member), self._gone)
        if self._gone > _MOST_GONE:
            self.leave(0)
        return passing

    def __iter__(self) -> Iterator[Item[M]]:
        return islice(self._items, self._gone, None)

    def __len__(self) -> int:
        return len(self._items) - self._gone
