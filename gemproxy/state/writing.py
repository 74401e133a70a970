"""From one state to the next: what of it has to be written.

What has not changed is the same object in both (see :mod:`gemproxy.state.model`), so ``is``
decides.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from itertools import starmap
from typing import TypeVar

from gemproxy.pool.cooldowns import Cooldown
from gemproxy.pool.snapshot import PoolSnapshot
from gemproxy.state import rows
from gemproxy.state.model import State
from gemproxy.translate.shared.signatures import RememberedCall

_T = TypeVar("_T")

_TABLES = (
    "checkpoint",
    "keys",
    "overrides",
    "rests",
    "signatures",
    "request_metrics",
    "audit_events",
)
_EMPTY = State(PoolSnapshot(0.0))


def clear(connection: sqlite3.Connection) -> None:
    """Empty every table."""
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names


def write(connection: sqlite3.Connection, before: State | None, state: State) -> None:
    """Bring a database that holds ``before`` to ``state``, within a transaction.

    ``None`` is whatever an earlier run left there: everything is written. Keys, the operator's
    words, metrics and events that ``state`` does not have stay; the rest of it is replaced.
    """
    if before is None:
        connection.execute("UPDATE keys SET left_at = ? WHERE left_at IS NULL", (state.taken_at,))
        connection.execute("DELETE FROM rests")
        connection.execute("DELETE FROM signatures")
        before = _EMPTY
    connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?)", (state.taken_at,))
    _write_keys(connection, before.pool, state.pool)
    _write_overrides(connection, before.pool, state.pool)
    for kind, rests_before, rests in (
        ("cooldown", before.pool.cooldowns, state.pool.cooldowns),
        ("denial", before.pool.denials, state.pool.denials),
    ):
        _write_rests(connection, kind, rests_before, rests)
    _write_calls(connection, before.signatures, state.signatures)
    metrics = _news(before.metrics, state.metrics)
    connection.executemany(rows.PUT_METRICS, map(rows.metrics_row, metrics))
    events = _news(before.events, state.events)
    connection.executemany(rows.PUT_EVENT, map(rows.event_row, events))


def _write_keys(connection: sqlite3.Connection, before: PoolSnapshot, pool: PoolSnapshot) -> None:
    changed = _news(before.keys, pool.keys)
    connection.executemany(rows.PUT_KEY, map(rows.key_row, changed))
    gone = {kept.id for kept in before.keys} - {kept.id for kept in pool.keys}
    connection.executemany(
        "UPDATE keys SET left_at = ? WHERE id = ?", ((pool.taken_at, key_id) for key_id in gone)
    )


def _write_overrides(
    connection: sqlite3.Connection, before: PoolSnapshot, pool: PoolSnapshot
) -> None:
    changed = set(pool.overrides) - set(before.overrides)
    connection.executemany(rows.PUT_OVERRIDE, starmap(rows.override_row, changed))
    present = "(SELECT id FROM keys WHERE left_at IS NULL)"
    connection.execute(
        "UPDATE overrides SET left_at = NULL"  # noqa: S608 - nothing of it comes from outside
        f" WHERE left_at IS NOT NULL AND key_id IN {present}"
    )
    connection.execute(
        "UPDATE overrides SET left_at = ?"  # noqa: S608 - nothing of it comes from outside
        f" WHERE left_at IS NULL AND key_id NOT IN {present}",
        (pool.taken_at,),
    )


def _write_rests(
    connection: sqlite3.Connection,
    kind: str,
    before: tuple[Cooldown, ...],
    rests: tuple[Cooldown, ...],
) -> None:
    present = {(rest.project, rest.model) for rest in rests}
    over = {(rest.project, rest.model) for rest in before} - present
    connection.executemany(
        "DELETE FROM rests WHERE kind = ? AND project = ? AND model = ?",
        ((kind, *rest) for rest in over),
    )
    begun = _news(before, rests)
    connection.executemany(rows.PUT_REST, (rows.rest_row(kind, rest) for rest in begun))


def _write_calls(
    connection: sqlite3.Connection,
    before: Mapping[str, RememberedCall],
    calls: Mapping[str, RememberedCall],
) -> None:
    forgotten = before.keys() - calls.keys()
    connection.executemany(
        "DELETE FROM signatures WHERE call_id = ?", ((call_id,) for call_id in forgotten)
    )
    fresh = ((name, call) for name, call in calls.items() if before.get(name) is not call)
    connection.executemany(rows.PUT_CALL, starmap(rows.call_row, fresh))


def _news(before: Iterable[object], after: Iterable[_T]) -> list[_T]:
    """What is in ``after`` only. ``before`` is still alive, so no identity is used twice."""
    known = set(map(id, before))
    return [each for each in after if id(each) not in known]
