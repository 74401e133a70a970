"""A question about the stored usage: of which time, of whom, by what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from gemproxy.state.model import USAGE_COUNTS, UsageRow, UsageSeries

#: The dimensions of a row.
DIMENSIONS = UsageSeries._fields
#: Rows that an answer may have.
MAX_ROWS = 50_000

_ADDED = (*USAGE_COUNTS, "cost")
_added_of = attrgetter(*_ADDED)


@dataclass(frozen=True)
class UsageQuery:
    """Rows of one ``period`` with ``first <= start < end``, of the series that ``filters`` admit.

    They are summed by the dimensions in ``by``, and for each ``start`` if ``by_time``.
    """

    period: int
    first: int
    end: int
    by: tuple[str, ...] = ()
    by_time: bool = False
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def admits(self, row: UsageRow) -> bool:
        """Whether the row is asked for."""
        return (
            row.period == self.period
            and self.first <= row.start < self.end
            and all(getattr(row, name) in values for name, values in self.filters.items())
        )


def selected(query: UsageQuery, rows: Iterable[UsageRow]) -> Iterator[UsageRow]:
    """The rows that are asked for."""
    return filter(query.admits, rows)


def summed(query: UsageQuery, rows: Iterable[UsageRow]) -> list[UsageRow]:
    """The sums of ``rows``; what is not in ``query.by`` is empty, and ``start`` may be 0."""
    sums: dict[tuple[Any, ...], list[float]] = {}
    names = tuple(name for name in DIMENSIONS if name in query.by)
    for row in rows:
        start = row.start if query.by_time else 0
        key = (start, *(getattr(row, name) for name in names))
        numbers = _added_of(row)
        present = sums.get(key)
        if present is None:
            sums[key] = list(numbers)
        else:
            for place, number in enumerate(numbers):
                present[place] += number
    return [_row(query.period, key, names, numbers) for key, numbers in sums.items()]


def _row(
    period: int, key: tuple[Any, ...], names: Sequence[str], numbers: Sequence[float]
) -> UsageRow:
    start, *values = key
    series = dict.fromkeys(DIMENSIONS, "") | dict(zip(names, values, strict=True))
    counts: dict[str, Any] = dict(zip(_ADDED, numbers, strict=True))
    return UsageRow(period, start, **series, **counts)


def starts_of(rows: Iterable[UsageRow]) -> frozenset[tuple[int, int]]:
    """The hours and days that ``rows`` are of."""
    return frozenset((row.period, row.start) for row in rows)


def merged(present: Sequence[UsageRow], waiting: Sequence[UsageRow]) -> list[UsageRow]:
    """``present``, and ``waiting`` for the hours and days that it has nothing of."""
    starts = starts_of(present)
    return [*present, *(row for row in waiting if (row.period, row.start) not in starts)]
