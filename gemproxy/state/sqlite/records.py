"""Search the recorded requests.

A search goes from the newest record back in time, along the index with the fewest records. It
looks at a bounded number of them, so that it takes a bounded time however few it finds; then it
says where to go on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from gemproxy.state.kinds import RECORDS
from gemproxy.state.model import RecordRow
from gemproxy.state.record_query import NO_FAILURE, SUCCESS, FoundRecords, RecordQuery

#: Records that one search looks at, in less than a tenth of a second.
MOST_LOOKED_AT = 50_000
#: Records that are counted to choose an index.
_MOST_COUNTED = 20_000
_TABLE = RECORDS.table.name
_INDEXES = {
    "outcome": "record_of_outcome",
    "key": "record_of_key",
    "client": "record_of_client",
    "model": "record_of_model",
}
_COLUMNS = RECORDS.table.columns
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM {RECORDS.table.name}"  # noqa: S608 - our own names


def search_records(connection: sqlite3.Connection, query: RecordQuery) -> FoundRecords:
    """The records that ``query`` asks for, newest first, among the first :data:`MOST_LOOKED_AT`."""
    driver = _driver(connection, query)
    first = query.first
    looked_at = connection.execute(
        f"SELECT number FROM {_TABLE} {driver.hint} WHERE {driver.condition}"  # noqa: S608
        " AND number >= ? AND number < ? ORDER BY number DESC LIMIT 1 OFFSET ?",
        (*driver.parameters, query.first, query.end, MOST_LOOKED_AT - 1),
    ).fetchone()
    if looked_at is not None:
        (first,) = looked_at
    conditions = [driver.condition, "number >= ?", "number < ?"]
    parameters: list[object] = [*driver.parameters, first, query.end]
    if query.failed:
        conditions.append(f"outcome NOT IN ({_marks(NO_FAILURE)})")
        parameters += NO_FAILURE
    for name, values in query.filters.items():
        conditions.append(f"{name} IN ({_marks(values)})")
        parameters += values
    if query.statuses:
        conditions.append(f"({' OR '.join(['status BETWEEN ? AND ?'] * len(query.statuses))})")
        parameters += [limit for pair in query.statuses for limit in pair]
    found = connection.execute(
        f"{_SELECT} {driver.hint} WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?",
        (*parameters, query.limit),
    )
    rows = _rows(found)
    full = len(rows) == query.limit
    return FoundRecords(rows, first if looked_at is not None and not full else None)


class _Driver(NamedTuple):
    """The index by which records are looked at, newest first, and its condition."""

    hint: str
    condition: str = "1"
    parameters: tuple[object, ...] = ()


def _driver(connection: sqlite3.Connection, query: RecordQuery) -> _Driver:
    """The index with the fewest records."""
    drivers = []
    if query.excludes_success:
        drivers.append(_Driver("INDEXED BY record_without_success", "outcome <> 'success'"))
    for name, index in _INDEXES.items():
        values = query.filters.get(name, ())
        if len(values) == 1 and not (name == "outcome" and values == (SUCCESS,)):
            condition = f"{name} = ?"
            if name == "outcome":
                # A partial index is used only if its condition is repeated.
                condition += " AND outcome <> 'success'"
            drivers.append(_Driver(f"INDEXED BY {index}", condition, values))
    if not drivers:
        return _Driver("NOT INDEXED")
    if len(drivers) == 1:
        return drivers[0]
    return min(drivers, key=lambda driver: _size(connection, driver))


def _size(connection: sqlite3.Connection, driver: _Driver) -> int:
    """The number of records of the index, as far as it is counted."""
    (number,) = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM {_TABLE} {driver.hint}"  # noqa: S608 - our own names
        f" WHERE {driver.condition} LIMIT ?)",
        (*driver.parameters, _MOST_COUNTED),
    ).fetchone()
    return int(number)


def _marks(values: tuple[str, ...]) -> str:
    return ", ".join("?" * len(values))


def find_records(connection: sqlite3.Connection, digest: int) -> list[RecordRow]:
    """The records whose id has ``digest``, newest first; a client may use an id again."""
    found = connection.execute(
        f"{_SELECT} WHERE digest = ? ORDER BY number DESC LIMIT 20", (digest,)
    )
    return _rows(found)


def _rows(found: Iterable[tuple[object, ...]]) -> list[RecordRow]:
    return [RECORDS.row(dict(zip(_COLUMNS, row, strict=True))) for row in found]
