"""How the state's values stand in the database's rows: the statements, and both directions.

Lists within a value (a health window, what was used of a limit) are JSON in one column, since
nothing ever asks for a part of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, TypeVar

import msgspec

from gemproxy.core.audit import AuditEvent
from gemproxy.pool.cooldowns import Cooldown
from gemproxy.pool.snapshot import KeySnapshot, Override
from gemproxy.state.model import PERIODS, MetricsRow
from gemproxy.translate.shared.signatures import RememberedCall

_T = TypeVar("_T")

_METRICS = tuple(field.name for field in fields(MetricsRow))
_EVENT = ("at", "action", "target", "address", "token", "target_id", "before", "after")
_KEY = (
    "id",
    "name",
    "open_until",
    "cooldown",
    "consecutive_failures",
    "buckets",
    "needs_attention",
    "requests_total",
    "last_used",
    "last_error",
    "usage",
)


def _statement(table: str, columns: Iterable[str]) -> str:
    names = tuple(columns)
    marks = ", ".join("?" * len(names))
    return f"INSERT OR REPLACE INTO {table} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608


#: A key that is written is in the file: ``left_at`` becomes NULL again.
PUT_KEY = _statement("keys", _KEY)
PUT_REST = _statement("rests", ("kind", "project", "model", "until", "reason"))
PUT_CALL = _statement("signatures", ("call_id", "signature", "issued_upstream"))
PUT_METRICS = _statement("request_metrics", _METRICS)
PUT_EVENT = _statement("audit_events", _EVENT)
PUT_OVERRIDE = (
    "INSERT INTO overrides (key_id, enabled, weight) VALUES (?, ?, ?) ON CONFLICT (key_id)"
    " DO UPDATE SET enabled = excluded.enabled, weight = excluded.weight"
)

#: Fail where a table or a column that is read or written is not there.
LOOKS = tuple(
    f"SELECT {', '.join(columns)} FROM {table} LIMIT 0"  # noqa: S608
    for table, columns in {
        "checkpoint": ("id", "taken_at"),
        "keys": (*_KEY, "left_at"),
        "overrides": ("key_id", "enabled", "weight", "left_at"),
        "rests": ("kind", "project", "model", "until", "reason"),
        "signatures": ("number", "call_id", "signature", "issued_upstream"),
        "request_metrics": _METRICS,
        "audit_events": _EVENT,
    }.items()
)

_GET_METRICS = f"SELECT {', '.join(_METRICS)} FROM request_metrics"  # noqa: S608


def key_row(kept: KeySnapshot) -> tuple[Any, ...]:
    """For :data:`PUT_KEY`."""
    return (
        kept.id,
        kept.name,
        kept.breaker.until,
        kept.breaker.cooldown,
        kept.breaker.consecutive_failures,
        _json(kept.buckets),
        kept.needs_attention,
        kept.requests_total,
        kept.last_used,
        kept.last_error and _json(kept.last_error),
        kept.usage and _json(kept.usage),
    )


def rest_row(kind: str, rest: Cooldown) -> tuple[Any, ...]:
    """For :data:`PUT_REST`; ``kind`` is ``cooldown`` or ``denial``."""
    return kind, rest.project, rest.model, rest.until, rest.reason


def call_row(call_id: str, call: RememberedCall) -> tuple[Any, ...]:
    """For :data:`PUT_CALL`."""
    return call_id, call.signature, call.issued_upstream


def override_row(key_id: str, override: Override) -> tuple[Any, ...]:
    """For :data:`PUT_OVERRIDE`."""
    return key_id, override.enabled, override.weight


def metrics_row(row: MetricsRow) -> tuple[Any, ...]:
    """For :data:`PUT_METRICS`."""
    return tuple(getattr(row, name) for name in _METRICS)


def event_row(event: AuditEvent) -> tuple[Any, ...]:
    """For :data:`PUT_EVENT`."""
    return (
        event.at,
        event.action,
        event.target,
        event.actor.address,
        event.actor.token,
        event.target_id,
        _json(dict(event.before)),
        _json(dict(event.after)),
    )


def get_keys(connection: sqlite3.Connection) -> Iterator[KeySnapshot]:
    """Every key, also those that have left the file. Raises :class:`msgspec.ValidationError`."""
    for row in connection.execute(f"SELECT {', '.join(_KEY)} FROM keys"):  # noqa: S608
        kept = dict(zip(_KEY, row, strict=True))
        kept["breaker"] = {
            "until": kept.pop("open_until"),
            "cooldown": kept.pop("cooldown"),
            "consecutive_failures": kept.pop("consecutive_failures"),
        }
        for name in ("buckets", "last_error", "usage"):
            kept[name] = kept[name] and msgspec.json.decode(kept[name])
        yield _checked(kept, KeySnapshot)


def get_overrides(connection: sqlite3.Connection) -> Iterator[tuple[str, Override]]:
    """The operator's words, by key id."""
    for key_id, enabled, weight in connection.execute(
        "SELECT key_id, enabled, weight FROM overrides"
    ):
        word = {"enabled": None if enabled is None else bool(enabled), "weight": weight}
        yield _text(key_id), _checked(word, Override)


def get_rests(connection: sqlite3.Connection, kind: str) -> Iterator[Cooldown]:
    """The rests of one kind."""
    for row in connection.execute(
        "SELECT project, model, until, reason FROM rests WHERE kind = ?", (kind,)
    ):
        names = ("project", "model", "until", "reason")
        yield _checked(dict(zip(names, row, strict=True)), Cooldown)


def get_calls(connection: sqlite3.Connection) -> Iterator[tuple[str, RememberedCall]]:
    """The signatures, oldest first."""
    for call_id, signature, issued_upstream in connection.execute(
        "SELECT call_id, signature, issued_upstream FROM signatures ORDER BY number"
    ):
        call = {"signature": signature, "issued_upstream": bool(issued_upstream)}
        yield _text(call_id), _checked(call, RememberedCall)


def get_metrics(connection: sqlite3.Connection, now: float | None) -> Iterator[MetricsRow]:
    """The rows, by period and time; with ``now`` those that a ledger remembers then."""
    for period in PERIODS:
        since = -1.0 if now is None else now - period.remembered
        for row in connection.execute(
            f"{_GET_METRICS} WHERE period = ? AND start > ? ORDER BY start",
            (period.seconds, since),
        ):
            yield _checked(dict(zip(_METRICS, row, strict=True)), MetricsRow)


def get_events(connection: sqlite3.Connection, latest: int | None) -> Iterator[AuditEvent]:
    """The audit events, oldest first; with ``latest`` at most so many."""
    columns = ", ".join(_EVENT)
    for row in connection.execute(
        f"SELECT * FROM (SELECT {columns} FROM audit_events ORDER BY at DESC LIMIT ?)"  # noqa: S608
        " ORDER BY at",
        (-1 if latest is None else latest,),
    ):
        event = dict(zip(_EVENT, row, strict=True))
        event["actor"] = {"address": event.pop("address"), "token": event.pop("token")}
        for name in ("before", "after"):
            event[name] = msgspec.json.decode(event[name])
        yield _checked(event, AuditEvent)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _text(value: object) -> str:
    return msgspec.convert(value, str)


def _checked(value: dict[str, Any], kind: type[_T]) -> _T:
    return msgspec.convert(value, kind)
