"""Sum the stored usage."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from gemproxy.state.kinds import USAGE
from gemproxy.state.model import USAGE_COUNTS, UsageRow
from gemproxy.state.usage_query import DIMENSIONS, MAX_ROWS, UsageQuery

_NUMBERS = (*USAGE_COUNTS, "cost")


def read_usage(
    connection: sqlite3.Connection, query: UsageQuery, excluded: Iterable[tuple[int, int]]
) -> list[UsageRow]:
    """The sums for ``query``, without the ``excluded`` hours and days; at most ``MAX_ROWS + 1``.

    Raises what a damaged row raises; see :func:`gemproxy.state.sqlite.database.unreadable`.
    """
    names = [name for name in DIMENSIONS if name in query.by]
    grouped = [*(("start",) if query.by_time else ()), *names]
    sums = [f"sum({name})" for name in _NUMBERS]
    conditions = ["period = ?", "start >= ?", "start < ?"]
    parameters: list[object] = [query.period, query.first, query.end]
    without = [start for period, start in excluded if period == query.period]
    conditions += ["start <> ?"] * len(without)
    parameters += without
    for name, values in query.filters.items():
        conditions.append(f"{name} IN ({', '.join('?' * len(values))})")
        parameters += values
    group = f" GROUP BY {', '.join(grouped)}" if grouped else ""
    found = connection.execute(
        f"SELECT {', '.join([*grouped, *sums])} FROM {USAGE.table.name}"  # noqa: S608 - our own names
        f" WHERE {' AND '.join(conditions)}{group} LIMIT ?",
        (*parameters, MAX_ROWS + 1),
    )
    empty = {"period": query.period, "start": 0, **dict.fromkeys(DIMENSIONS, "")}
    columns = (*grouped, *_NUMBERS)
    return [
        msgspec.convert(empty | dict(zip(columns, row, strict=True)), UsageRow)
        for row in found
        # Without groups, the sums of no rows are a row of NULLs.
        if row[-1] is not None
    ]
