"""The kinds of rows in a state: everything that a store needs to know about each.

:data:`KINDS` is the list. A kind defines

- where its rows are in a :class:`~gemproxy.state.model.State`;
- which rows of two states are the same row (``identity``), and whether it has changed (``content``;
  an unchanged row is the same object in the next state);
- what happens to a stored row that a newer state lacks (``absent``);
- its table: columns, order, the rows that are loaded at a start, retention;
- which values are impossible (``judge``): a damaged file may decode without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from operator import attrgetter, itemgetter
from typing import Any, Generic, TypeVar, cast

import msgspec

from gemproxy.core.audit import AuditEvent
from gemproxy.core.client_registry import ClientRow
from gemproxy.core.errors import StorageCorrupt
from gemproxy.core.limits import LimitCount
from gemproxy.core.stored_answers import AnswerRow
from gemproxy.pool.cooldowns import Cooldown
from gemproxy.pool.quota_ledger import QuotaSnapshot
from gemproxy.pool.resources import Resource
from gemproxy.pool.snapshot import KeySnapshot, Override, PoolSnapshot
from gemproxy.state import plausibility
from gemproxy.state.model import (
    MAX_EVENTS,
    PERIODS,
    USAGE_REMEMBERED,
    MetricsRow,
    RecordRow,
    SeenRow,
    State,
    UsageRow,
    event_identity,
)
from gemproxy.state.record_query import earlier_keys
from gemproxy.translate.shared.signatures import RememberedCall

_V = TypeVar("_V")


class Absent(Enum):
    """What happens to a stored row that the next state does not have."""

    STAYS = "the state has the latest rows only; what is stored is history"
    GOES = "the state has all rows that there are"
    LEAVES = "the key is not in the file at present; its row is kept for some time"


@dataclass(frozen=True)
class Retention:
    """Ages in days, sizes in bytes and rows."""

    #: Of metrics, and of rows of keys that have left the file.
    days: float = 7.0
    #: Of usage by hour, and by day.
    usage_hour_days: float = 35.0
    usage_days: float = 400.0
    #: Of the records of requests.
    record_days: float = 14.0
    records: int = 1_000_000
    #: Beyond this size, without what the records may take, records, the oldest metrics and hours of
    #: usage are deleted whatever their age.
    bytes: int = 256 * 1024 * 1024
    event_days: float = 365.0
    events: int = 10_000
    #: Seconds after a start, and after the clock was set, in which nothing counts as old: a clock
    #: that is wrong for a short time must not delete the history.
    settle: float = 0.0


class Kept(Enum):
    """How long a store keeps the rows of a table; :class:`Retention` has the limits."""

    WHILE_PRESENT = "until a state does not have them"
    UNTIL_LEFT_LONG_AGO = "``Retention.days`` after ``left_at``"
    AS_METRICS = "``Retention.days``, fewer while the database is crowded"
    AS_USAGE = "hours ``Retention.usage_hour_days``, days ``usage_days``"
    AS_RECORDS = "``Retention.record_days``, and the latest ``Retention.records``"
    AS_EVENTS = "``Retention.event_days``, and the latest ``Retention.events``"
    AS_SEEN = "``Retention.usage_days``"
    AS_CLIENTS = "of deleted ones those of ``Retention.event_days``, and at least the latest"


@dataclass(frozen=True)
class RowSelection:
    """A part of a table: the clauses after ``FROM table`` in a query, and their parameters."""

    clauses: str = ""
    parameters: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Children(Generic[_V]):
    """Rows of a further table that belong to a row, and that the database deletes with it."""

    name: str
    columns: tuple[str, ...]
    of: Callable[[_V], Iterable[tuple[Any, ...]]]


@dataclass(frozen=True)
class Table(Generic[_V]):
    """How the rows of a kind are stored in a database.

    ``key`` names the columns that identify a row. ``encode`` returns the values of ``columns``;
    ``decode`` converts a row, by column name, for :func:`msgspec.convert`. ``constant`` is a column
    with a fixed value, if two kinds share a table.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    encode: Callable[[_V], tuple[Any, ...]]
    decode: Callable[[dict[str, Any]], object] = dict
    constant: tuple[str, str] | None = None
    kept: Kept = Kept.WHILE_PRESENT
    #: The rows to load: all with ``None``, else those that are needed at that epoch time.
    select: Callable[[float | None], Sequence[RowSelection]] = lambda _now: (RowSelection(),)
    #: The column with a key's id, if rows belong to keys that may leave the file.
    key_id: str | None = None
    #: Whether other columns of an existing row are kept when it is written again.
    updates: bool = False
    children: Children[_V] | None = None


@dataclass(frozen=True)
class Kind(Generic[_V]):
    """One kind of row; see the module."""

    name: str
    #: The type of a row, for decoding.
    type: Any
    table: Table[_V]
    absent: Absent
    identity: Callable[[_V], Hashable]
    judge: Callable[[_V], Iterator[tuple[str, bool]]]
    #: Whether the rows are in ``state.pool``.
    pooled: bool = False
    #: Makes the state's field from the rows: a tuple, or a mapping from rows of two members.
    gather: Callable[[Iterable[_V]], Any] = tuple
    #: A value that changes if and only if the row has changed.
    content: Callable[[_V], Hashable] = id
    #: The row as a value that JSON can encode.
    plain: Callable[[_V], object] = lambda row: row
    order: Callable[[_V], Any] | None = None
    #: Whether a file may lack the rows, since an earlier version did not have them.
    optional: bool = False

    def of(self, state: State) -> Sequence[_V]:
        """The rows of ``state``."""
        found: Any = getattr(state.pool if self.pooled else state, self.name)
        rows: Any = tuple(found.items()) if isinstance(found, Mapping) else found
        return cast("Sequence[_V]", rows)

    def row(self, by_column: dict[str, Any]) -> _V:
        """A row of the table. Raises what a damaged one raises."""
        row: _V = msgspec.convert(self.table.decode(by_column), self.type)
        return row

    def merge(self, older: Iterable[_V], newer: Iterable[_V]) -> tuple[_V, ...]:
        """The rows in a store that held ``older`` and saves ``newer``."""
        if self.absent is Absent.GOES:
            return tuple(newer)
        merged = {self.identity(row): row for row in older}
        merged.update((self.identity(row), row) for row in newer)
        if self.order is None:
            return tuple(merged.values())
        return tuple(sorted(merged.values(), key=self.order))

    def changed(self, before: Iterable[_V], after: Iterable[_V]) -> list[_V]:
        """The rows of ``after`` that are new or changed. ``before`` must still be in memory."""
        known = set(map(self.content, before))
        return [row for row in after if self.content(row) not in known]

    def missing(self, before: Iterable[_V], after: Iterable[_V]) -> set[Hashable]:
        """Identities that ``before`` has and ``after`` lacks."""
        return set(map(self.identity, before)) - set(map(self.identity, after))


def build_state(taken_at: float, rows: Mapping[str, Iterable[Any]]) -> State:
    """A state from its rows, by the names of the kinds."""
    fields_of = {
        pooled: {kind.name: kind.gather(rows[kind.name]) for kind in KINDS if kind.pooled is pooled}
        for pooled in (True, False)
    }
    return State(PoolSnapshot(taken_at, **fields_of[True]), **fields_of[False])


def merge_states(older: State, newer: State) -> State:
    """The state in a store that held ``older`` and saves ``newer``."""
    rows = {kind.name: kind.merge(kind.of(older), kind.of(newer)) for kind in KINDS}
    return build_state(newer.taken_at, rows)


def check_plausible(state: State) -> State:
    """``state``, unchanged. Raises :class:`StorageCorrupt`, which names an impossible value."""
    for name, sound in _judgements(state):
        if not sound:
            raise StorageCorrupt(f"its contents make no sense: {name}")
    return state


def _judgements(state: State) -> Iterator[tuple[str, bool]]:
    yield "taken_at", plausibility.is_time(state.taken_at)
    for kind in KINDS:
        for row in kind.of(state):
            yield from kind.judge(row)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _from_json(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return row | {name: row[name] and msgspec.json.decode(row[name]) for name in names}


# -- keys ----------------------------------------------------------------------------------------


def _encode_key(kept: KeySnapshot) -> tuple[Any, ...]:
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


def _decode_key(row: dict[str, Any]) -> object:
    row["breaker"] = {
        "until": row.pop("open_until"),
        "cooldown": row.pop("cooldown"),
        "consecutive_failures": row.pop("consecutive_failures"),
    }
    return _from_json(row, "buckets", "last_error", "usage")


KEYS: Kind[KeySnapshot] = Kind(
    "keys",
    KeySnapshot,
    Table(
        "keys",
        (
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
        ),
        ("id",),
        _encode_key,
        _decode_key,
        kept=Kept.UNTIL_LEFT_LONG_AGO,
        key_id="id",
    ),
    Absent.LEAVES,
    attrgetter("id"),
    plausibility.judge_key,
    pooled=True,
)

# -- what an operator set for a key --------------------------------------------------------------

_Override = tuple[str, Override]


def _decode_override(row: dict[str, Any]) -> object:
    enabled = row["enabled"]
    return row["key_id"], {
        "enabled": None if enabled is None else bool(enabled),
        "weight": row["weight"],
    }


OVERRIDES: Kind[_Override] = Kind(
    "overrides",
    _Override,
    Table(
        "overrides",
        ("key_id", "enabled", "weight"),
        ("key_id",),
        lambda row: (row[0], row[1].enabled, row[1].weight),
        _decode_override,
        kept=Kept.UNTIL_LEFT_LONG_AGO,
        key_id="key_id",
        updates=True,
    ),
    Absent.STAYS,
    itemgetter(0),
    plausibility.judge_override,
    pooled=True,
    content=lambda row: row,
)

# -- which project may not use which model -------------------------------------------------------


def _cooldowns(name: str, constant: str) -> Kind[Cooldown]:
    return Kind(
        name,
        Cooldown,
        Table(
            "rests",
            ("project", "model", "until", "reason"),
            ("project", "model"),
            attrgetter("project", "model", "until", "reason"),
            constant=("kind", constant),
        ),
        Absent.GOES,
        attrgetter("project", "model"),
        plausibility.judge_cooldown,
        pooled=True,
    )


COOLDOWNS = _cooldowns("cooldowns", "cooldown")
DENIALS = _cooldowns("denials", "denial")

# -- quotas that the upstream has named -----------------------------------------------------------

_QUOTA_COLUMNS = tuple(field.name for field in fields(QuotaSnapshot))


def _encode_quota(kept: QuotaSnapshot) -> tuple[Any, ...]:
    return tuple(
        _json(value) if isinstance(value, tuple) else value
        for value in (getattr(kept, name) for name in _QUOTA_COLUMNS)
    )


QUOTAS: Kind[QuotaSnapshot] = Kind(
    "quotas",
    QuotaSnapshot,
    Table(
        "known_quotas",
        _QUOTA_COLUMNS,
        ("project", "model"),
        _encode_quota,
        lambda row: _from_json(row, "names", "limits", "uses"),
    ),
    Absent.GOES,
    attrgetter("project", "model"),
    plausibility.judge_quota,
    pooled=True,
    optional=True,
)

# -- thought signatures --------------------------------------------------------------------------

_Signature = tuple[str, RememberedCall]


def _decode_signature(row: dict[str, Any]) -> object:
    return row["call_id"], {
        "signature": row["signature"],
        "issued_upstream": bool(row["issued_upstream"]),
    }


SIGNATURES: Kind[_Signature] = Kind(
    "signatures",
    _Signature,
    Table(
        "signatures",
        ("call_id", "signature", "issued_upstream"),
        ("call_id",),
        lambda row: (row[0], row[1].signature, row[1].issued_upstream),
        _decode_signature,
        select=lambda _now: (RowSelection("ORDER BY number"),),
    ),
    Absent.GOES,
    itemgetter(0),
    plausibility.judge_nothing,
    gather=dict,
    content=lambda row: (row[0], id(row[1])),
)

# -- which project a file or a cache belongs to ---------------------------------------------------

_RESOURCE_COLUMNS = tuple(field.name for field in fields(Resource))

RESOURCES: Kind[Resource] = Kind(
    "resources",
    Resource,
    Table(
        "resources",
        _RESOURCE_COLUMNS,
        ("name",),
        attrgetter(*_RESOURCE_COLUMNS),
        select=lambda _now: (RowSelection("ORDER BY expires"),),
    ),
    Absent.GOES,
    attrgetter("name"),
    plausibility.judge_resource,
    optional=True,
    order=attrgetter("expires"),
)

# -- counted requests ----------------------------------------------------------------------------

_METRICS_COLUMNS = tuple(field.name for field in fields(MetricsRow))


def _select_metrics(now: float | None) -> Sequence[RowSelection]:
    """With ``now``, the rows that a ledger keeps in memory at that time."""
    return tuple(
        RowSelection(
            "WHERE period = ? AND start > ? ORDER BY start",
            (period.seconds, -1.0 if now is None else now - period.remembered),
        )
        for period in PERIODS
    )


METRICS: Kind[MetricsRow] = Kind(
    "metrics",
    MetricsRow,
    Table(
        "request_metrics",
        _METRICS_COLUMNS,
        ("period", "start", "route", "model", "status_class", "key"),
        attrgetter(*_METRICS_COLUMNS),
        kept=Kept.AS_METRICS,
        select=_select_metrics,
    ),
    Absent.STAYS,
    attrgetter("identity"),
    plausibility.judge_metrics_row,
)

# -- what operators changed ----------------------------------------------------------------------


def _encode_event(event: AuditEvent) -> tuple[Any, ...]:
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


def _decode_event(row: dict[str, Any]) -> object:
    row["actor"] = {"address": row.pop("address"), "token": row.pop("token")}
    return _from_json(row, "before", "after")


def _select_events(now: float | None) -> Sequence[RowSelection]:
    """With ``now``, the events that the daemon keeps in memory."""
    if now is None:
        return (RowSelection("ORDER BY at"),)
    latest = "SELECT at FROM audit_events ORDER BY at DESC LIMIT 1 OFFSET ?"
    return (RowSelection(f"WHERE at >= ifnull(({latest}), -1e999) ORDER BY at", (MAX_EVENTS - 1,)),)


EVENTS: Kind[AuditEvent] = Kind(
    "events",
    AuditEvent,
    Table(
        "audit_events",
        ("at", "action", "target", "address", "token", "target_id", "before", "after"),
        ("at", "action", "target", "address", "token"),
        _encode_event,
        _decode_event,
        kept=Kept.AS_EVENTS,
        select=_select_events,
    ),
    Absent.STAYS,
    event_identity,
    plausibility.judge_event,
    plain=lambda event: replace(event, before=dict(event.before), after=dict(event.after)),
    order=attrgetter("at"),
)

# -- what clients used ---------------------------------------------------------------------------

_USAGE_COLUMNS = UsageRow.__struct_fields__


def _select_usage(now: float | None) -> Sequence[RowSelection]:
    """With ``now``, the rows that a ledger keeps in memory at that time."""
    return tuple(
        RowSelection(
            "WHERE period = ? AND start > ? ORDER BY start",
            (period, -1.0 if now is None else now - remembered),
        )
        for period, remembered in USAGE_REMEMBERED.items()
    )


USAGE: Kind[UsageRow] = Kind(
    "usage",
    UsageRow,
    Table(
        "usage",
        _USAGE_COLUMNS,
        ("period", "start", "client", "endpoint", "model", "project"),
        attrgetter(*_USAGE_COLUMNS),
        kept=Kept.AS_USAGE,
        select=_select_usage,
    ),
    Absent.STAYS,
    attrgetter("identity"),
    plausibility.judge_usage_row,
    optional=True,
)

# -- answers that clients may name ---------------------------------------------------------------

_AnswerText = tuple[str, bytes]

ANSWER_TEXTS: Kind[_AnswerText] = Kind(
    "answer_texts",
    _AnswerText,
    Table(
        "answer_texts",
        ("digest", "text"),
        ("digest",),
        lambda row: row,
        lambda row: (row["digest"], row["text"]),
    ),
    Absent.GOES,
    itemgetter(0),
    plausibility.judge_nothing,
    gather=dict,
    content=itemgetter(0),
    optional=True,
)

ANSWERS: Kind[AnswerRow] = Kind(
    "answers",
    AnswerRow,
    Table(
        "answers",
        ("id", "client", "created", "start", "output", "tail", "history"),
        ("id",),
        lambda row: (
            row.id,
            row.client,
            row.created,
            row.start,
            row.output,
            row.end,
            _json(row.history),
        ),
        lambda row: _from_json(row | {"end": row.pop("tail")}, "history"),
        select=lambda _now: (RowSelection("ORDER BY number"),),
    ),
    Absent.GOES,
    attrgetter("id"),
    plausibility.judge_answer,
    optional=True,
)

# -- what clients used of their own limits ---------------------------------------------------------

_LIMIT_COLUMNS = tuple(field.name for field in fields(LimitCount))

CLIENT_LIMITS: Kind[LimitCount] = Kind(
    "client_limits",
    LimitCount,
    Table(
        "client_limits",
        _LIMIT_COLUMNS,
        ("client", "period", "start"),
        attrgetter(*_LIMIT_COLUMNS),
    ),
    Absent.GOES,
    attrgetter("identity"),
    plausibility.judge_limit_count,
    optional=True,
)

# -- finished requests ---------------------------------------------------------------------------

#: Records in an export, the latest.
_MOST_EXPORTED = 100_000
_RECORD_COLUMNS = tuple(field.name for field in fields(RecordRow))


def _select_records(now: float | None) -> Sequence[RowSelection]:
    """Nothing at a start: records are read when somebody asks for them."""
    if now is not None:
        return ()
    latest = "SELECT number FROM request_records ORDER BY number DESC LIMIT 1 OFFSET ?"
    clauses = f"WHERE number >= ifnull(({latest}), 0) ORDER BY number"
    return (RowSelection(clauses, (_MOST_EXPORTED - 1,)),)


def _record_keys(row: RecordRow) -> Iterator[tuple[int, str]]:
    for key in earlier_keys(row):
        yield row.number, key


RECORDS: Kind[RecordRow] = Kind(
    "records",
    RecordRow,
    Table(
        "request_records",
        _RECORD_COLUMNS,
        ("number",),
        attrgetter(*_RECORD_COLUMNS),
        kept=Kept.AS_RECORDS,
        select=_select_records,
        children=Children("record_keys", ("record", "tried"), _record_keys),
    ),
    Absent.STAYS,
    attrgetter("number"),
    plausibility.judge_record,
    order=attrgetter("number"),
    optional=True,
)

# -- clients that were made at run time -----------------------------------------------------------

CLIENTS: Kind[ClientRow] = Kind(
    "clients",
    ClientRow,
    Table(
        "clients",
        ("name", "id", "created", "changed", "digest", "former", "settings"),
        ("name",),
        lambda row: (
            row.name,
            row.id,
            row.created,
            row.changed,
            row.digest,
            _json(row.former),
            _json(dict(row.settings)),
        ),
        lambda row: _from_json(row, "former", "settings"),
        kept=Kept.AS_CLIENTS,
        select=lambda _now: (RowSelection("ORDER BY created"),),
    ),
    # A deleted client has a row without token, which overwrites the one with it.
    Absent.STAYS,
    attrgetter("name"),
    plausibility.judge_client,
    plain=lambda row: replace(row, settings=dict(row.settings)),
    order=attrgetter("created"),
    optional=True,
)

CLIENT_SEEN: Kind[SeenRow] = Kind(
    "client_seen",
    SeenRow,
    Table(
        "client_seen",
        ("client", "at"),
        ("client",),
        attrgetter("client", "at"),
        kept=Kept.AS_SEEN,
    ),
    Absent.STAYS,
    attrgetter("client"),
    plausibility.judge_seen,
    optional=True,
)

#: In the order of writing. Keys come first, since they mark the rows of keys that have left.
KINDS: tuple[Kind[Any], ...] = (
    KEYS,
    OVERRIDES,
    COOLDOWNS,
    DENIALS,
    QUOTAS,
    SIGNATURES,
    RESOURCES,
    METRICS,
    EVENTS,
    USAGE,
    ANSWER_TEXTS,
    ANSWERS,
    CLIENT_LIMITS,
    RECORDS,
    CLIENTS,
    CLIENT_SEEN,
)
