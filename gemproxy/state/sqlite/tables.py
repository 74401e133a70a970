"""Read the tables of all kinds of rows, and write the changes between two states.

No kind is known here by name: :mod:`gemproxy.state.kinds` describes columns and rules. What has not
changed between two states is not written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec

from gemproxy.pool.snapshot import PoolSnapshot
from gemproxy.state.kinds import KEYS, KINDS, Absent, Kind, Table, build_state, check_plausible
from gemproxy.state.model import State

_EMPTY = State(PoolSnapshot(0.0))
_PRESENT = f"(SELECT id FROM {KEYS.table.name} WHERE left_at IS NULL)"  # noqa: S608


def read_state(connection: sqlite3.Connection, now: float | None) -> State | None:
    """The last saved state; with ``now``, only what is needed at that epoch time.

    Raises whatever a damaged row raises; see :func:`gemproxy.state.sqlite.database.unreadable`.
    """
    found = connection.execute("SELECT taken_at FROM checkpoint").fetchone()
    if found is None:
        return None
    rows = {kind.name: tuple(_read(connection, kind, now)) for kind in KINDS}
    return check_plausible(build_state(msgspec.convert(found[0], float), rows))


def write_state(connection: sqlite3.Connection, before: State | None, state: State) -> None:
    """Write the changes from ``before`` to ``state``, within a transaction.

    If ``before`` is ``None`` the contents are unknown, and everything is written.
    """
    if before is None:
        for kind in KINDS:
            _leave_all(connection, kind, state.taken_at)
        before = _EMPTY
    connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?)", (state.taken_at,))
    for kind in KINDS:
        _write(connection, kind, kind.of(before), kind.of(state), state.taken_at)


def clear(connection: sqlite3.Connection) -> None:
    """Empty every table."""
    for table in ("checkpoint", *(kind.table.name for kind in KINDS)):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names


def check_tables(connection: sqlite3.Connection) -> None:
    """Raise :class:`sqlite3.OperationalError` if a table or a column is missing."""
    _look(connection, "checkpoint", ("id", "taken_at"))
    for kind in KINDS:
        table = kind.table
        columns = [*table.columns, *(("left_at",) if table.key_id else ())]
        if table.constant is not None:
            columns.append(table.constant[0])
        _look(connection, table.name, columns)
        if table.children is not None:
            _look(connection, table.children.name, table.children.columns)


def _look(connection: sqlite3.Connection, table: str, columns: Iterable[str]) -> None:
    connection.execute(f"SELECT {', '.join(columns)} FROM {table} LIMIT 0").fetchall()  # noqa: S608


def _read(connection: sqlite3.Connection, kind: Kind[Any], now: float | None) -> Iterator[Any]:
    table = kind.table
    names = ", ".join(table.columns)
    for selection in table.select(now):
        clauses, parameters = selection.clauses, selection.parameters
        if table.constant is not None:
            clauses, parameters = f"WHERE {table.constant[0]} = ?", (table.constant[1],)
        found = connection.execute(
            f"SELECT {names} FROM {table.name} {clauses}",  # noqa: S608 - our own names
            parameters,
        )
        for row in found:
            by_column = dict(zip(table.columns, row, strict=True))
            yield kind.row(by_column)


def _write(
    connection: sqlite3.Connection,
    kind: Kind[Any],
    before: Sequence[Any],
    after: Sequence[Any],
    taken_at: float,
) -> None:
    table = kind.table
    rest = () if table.constant is None else (table.constant[1],)
    if kind.absent is Absent.GOES:
        gone = kind.missing(before, after)
        connection.executemany(_delete(table), ((*rest, *_parts(key)) for key in gone))
    changed = kind.changed(before, after)
    connection.executemany(_put(table), ((*rest, *table.encode(row)) for row in changed))
    if table.children is not None:
        connection.executemany(
            _put_rows(table.children.name, table.children.columns),
            chain.from_iterable(map(table.children.of, changed)),
        )
    if kind.absent is Absent.LEAVES:
        gone = kind.missing(before, after)
        connection.executemany(
            f"UPDATE {table.name} SET left_at = ? WHERE {table.key[0]} = ?",  # noqa: S608
            ((taken_at, *_parts(key)) for key in gone),
        )
    elif table.key_id is not None:
        _follow_keys(connection, table, taken_at)


def _leave_all(connection: sqlite3.Connection, kind: Kind[Any], taken_at: float) -> None:
    """Treat every stored row as one that the next state lacks."""
    table = kind.table
    if kind.absent is Absent.GOES:
        connection.execute(f"DELETE FROM {table.name}")  # noqa: S608 - our own name
    elif kind.absent is Absent.LEAVES:
        connection.execute(
            f"UPDATE {table.name} SET left_at = ? WHERE left_at IS NULL",  # noqa: S608
            (taken_at,),
        )


def _follow_keys(connection: sqlite3.Connection, table: Table[Any], taken_at: float) -> None:
    """Mark the rows of keys that have left the file, and unmark those of keys that are back."""
    name, column = table.name, table.key_id
    connection.execute(
        f"UPDATE {name} SET left_at = NULL"  # noqa: S608 - our own names
        f" WHERE left_at IS NOT NULL AND {column} IN {_PRESENT}"
    )
    connection.execute(
        f"UPDATE {name} SET left_at = ?"  # noqa: S608 - our own names
        f" WHERE left_at IS NULL AND {column} NOT IN {_PRESENT}",
        (taken_at,),
    )


def _put(table: Table[Any]) -> str:
    columns = (*_constant(table), *table.columns)
    if not table.updates:
        return _put_rows(table.name, columns)
    put = _put_rows(table.name, columns, "INSERT")
    values = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in table.key)
    return f"{put} ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {values}"


def _put_rows(table: str, columns: Sequence[str], verb: str = "INSERT OR REPLACE") -> str:
    marks = ", ".join("?" * len(columns))
    return f"{verb} INTO {table} ({', '.join(columns)}) VALUES ({marks})"


def _delete(table: Table[Any]) -> str:
    conditions = " AND ".join(f"{name} = ?" for name in (*_constant(table), *table.key))
    return f"DELETE FROM {table.name} WHERE {conditions}"  # noqa: S608 - our own names


def _constant(table: Table[Any]) -> tuple[str, ...]:
    return () if table.constant is None else (table.constant[0],)


def _parts(identity: Any) -> tuple[Any, ...]:
    """The values of the columns of ``Table.key``."""
    return identity if isinstance(identity, tuple) else (identity,)
