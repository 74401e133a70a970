"""Search the recorded requests.

A search goes from the newest record back in time, along the index with the fewest records. It
looks at a bounded number of them, so that it takes a bounded time however few it finds; then it
says where to go on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
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
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM {_TABLE}"  # noqa: S608 - our own names


class _Driver(NamedTuple):
    """An index by which records are looked at, newest first, and its condition."""

    hint: str
    condition: str = "1"
    parameters: tuple[object, ...] = ()
    #: The table of the index, the column with the record's number, and how records are found.
    table: str = _TABLE
    number: str = "number"
    join: str = ""

    def select(self, columns: Sequence[str], conditions: Iterable[str] = (), join: str = "") -> str:
        """The beginning of a query for a range of numbers."""
        conditions = (
            self.condition,
            f"{self.number} >= ?",
            f"{self.number} < ?",
            *conditions,
        )
        names = ", ".join(self.number if name == "number" else name for name in columns)
        return (
            f"SELECT {names} FROM {self.table} {self.hint}{join} WHERE {' AND '.join(conditions)}"  # noqa: S608
        )


#: The keys that were tried before the last one.
_KEYS = "record_keys"
_TRIED = _Driver(
    "INDEXED BY record_of_tried_key",
    "tried = ?",
    table=_KEYS,
    number="record",
    join=f" CROSS JOIN {_TABLE} ON number = record",
)


def search_records(connection: sqlite3.Connection, query: RecordQuery) -> FoundRecords:
    """The records that ``query`` asks for, newest first, among the first :data:`MOST_LOOKED_AT`."""
    drivers = _drivers(connection, query)
    first = query.first
    looked_at = connection.execute(
        f"{_union(driver.select(('number',)) for driver in drivers)} LIMIT 1 OFFSET ?",
        (*_parameters(drivers, (first, query.end)), MOST_LOOKED_AT - 1),
    ).fetchone()
    if looked_at is not None:
        (first,) = looked_at
    conditions: list[str] = []
    parameters: list[object] = [first, query.end]
    if query.failed:
        conditions.append(f"outcome NOT IN ({_marks(NO_FAILURE)})")
        parameters += NO_FAILURE
    for name, values in query.filters.items():
        condition = f"{name} IN ({_marks(values)})"
        parameters += values
        if name == "key":
            # The plus sign: one look-up by the record, not one for each of the values.
            condition = (
                f"({condition} OR EXISTS (SELECT 1 FROM {_KEYS}"  # noqa: S608 - our own names
                f" WHERE record = number AND +tried IN ({_marks(values)})))"
            )
            parameters += values
        conditions.append(condition)
    if query.statuses:
        conditions.append(f"({' OR '.join(['status BETWEEN ? AND ?'] * len(query.statuses))})")
        parameters += [limit for pair in query.statuses for limit in pair]
    found = connection.execute(
        f"{_union(each.select(_COLUMNS, conditions, each.join) for each in drivers)} LIMIT ?",
        (*_parameters(drivers, parameters), query.limit),
    )
    rows = _rows(found)
    full = len(rows) == query.limit
    return FoundRecords(rows, first if looked_at is not None and not full else None)


def _union(selects: Iterable[str]) -> str:
    """The queries merged, newest first."""
    return f"{' UNION ALL '.join(selects)} ORDER BY 1 DESC"


def _parameters(drivers: Iterable[_Driver], more: Iterable[object]) -> list[object]:
    more = tuple(more)
    return [value for driver in drivers for value in (*driver.parameters, *more)]


def _drivers(connection: sqlite3.Connection, query: RecordQuery) -> tuple[_Driver, ...]:
    """The index with the fewest records; of a key there are two, without a record in common."""
    choices: list[tuple[_Driver, ...]] = []
    if query.excludes_success:
        choices.append((_Driver("INDEXED BY record_without_success", "outcome <> 'success'"),))
    for name, index in _INDEXES.items():
        values = query.filters.get(name, ())
        if len(values) == 1 and not (name == "outcome" and values == (SUCCESS,)):
            condition = f"{name} = ?"
            if name == "outcome":
                # A partial index is used only if its condition is repeated.
                condition += " AND outcome <> 'success'"
            driver = _Driver(f"INDEXED BY {index}", condition, values)
            tried = _TRIED._replace(parameters=values)
            choices.append((driver, tried) if name == "key" else (driver,))
    if not choices:
        return (_Driver("NOT INDEXED"),)
    if len(choices) == 1:
        return choices[0]
    return min(choices, key=lambda drivers: sum(_size(connection, each) for each in drivers))


def _size(connection: sqlite3.Connection, driver: _Driver) -> int:
    """The number of records of the index, as far as it is counted."""
    (number,) = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM {driver.table} {driver.hint}"  # noqa: S608
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
