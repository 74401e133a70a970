"""The state in memory, states to keep, and threads that are none."""

from __future__ import annotations

from dataclasses import replace

from twisted.python.failure import Failure

from gemproxy.core.audit import Actor, AuditEvent
from gemproxy.core.client_registry import ClientRow, FormerToken
from gemproxy.core.interfaces import ResilientStateStore, StoreStatus
from gemproxy.core.limits import LimitCount
from gemproxy.core.stored_answers import AnswerRow
from gemproxy.pool.breaker import BreakerSnapshot
from gemproxy.pool.cooldowns import Cooldown
from gemproxy.pool.limits import LedgerSnapshot
from gemproxy.pool.quota_ledger import LearnedLimit, QuotaSnapshot
from gemproxy.pool.resources import Resource
from gemproxy.pool.snapshot import KeySnapshot, LastError, Override, PoolSnapshot
from gemproxy.state.kinds import merge_states
from gemproxy.state.model import (
    PERIODS,
    CountedRows,
    MetricsRow,
    RecordRow,
    SeenRow,
    State,
    UsageRow,
)
from gemproxy.translate.shared.signatures import RememberedCall

#: 2026-08-01 12:00 UTC.
NOON = 1_785_585_600.0


class MemoryStateStore(ResilientStateStore):
    """A store without a disk; ``failure`` makes its calls fail, ``late`` comes to light once."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state
        self.failure: Exception | None = None
        self.late: State | None = None
        self.saved: list[State] = []
        self.closed = False

    def load(self, now: float | None = None) -> State | None:
        self._fail()
        if self.state is None or now is None:
            return self.state
        since = {period.seconds: now - period.remembered for period in PERIODS}
        rows = tuple(row for row in self.state.metrics if row.start > since[row.period])
        return replace(self.state, metrics=rows)

    def save(self, state: State) -> None:
        self._fail()
        self.saved.append(state)
        self.state = state if self.state is None else merge_states(self.state, state)

    def counted(self, now: float) -> CountedRows:
        state = self.load(now)
        return CountedRows() if state is None else CountedRows(state.metrics, state.usage)

    def recovered(self) -> State | None:
        late, self.late = self.late, None
        return late

    def status(self) -> StoreStatus:
        latest = self.state and self.state.taken_at
        if self.failure is None:
            return StoreStatus("sqlite", latest)
        return StoreStatus("none", latest, str(self.failure), NOON, NOON)

    def close(self) -> None:
        self.closed = True

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class ImmediateThreadPool:
    """Does at once what it is asked to; ``hold`` makes it wait for ``release``."""

    def __init__(self) -> None:
        self.running = False
        self.hold = False
        self._held = []

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def callInThreadWithCallback(self, on_result, function, *arguments, **options) -> None:
        assert self.running

        def work() -> None:
            try:
                result = function(*arguments, **options)
            except Exception:  # noqa: BLE001 - as the real one
                on_result(False, Failure())
            else:
                on_result(True, result)

        if self.hold:
            self._held.append(work)
        else:
            work()

    def release(self) -> None:
        self.hold = False
        held, self._held = self._held, []
        for work in held:
            work()


def key_snapshot(name: str = "primary", **options) -> KeySnapshot:
    """A key with a history in every field."""
    history = {
        "id": f"{name}-fingerprint",
        "name": name,
        "breaker": BreakerSnapshot(NOON + 30, 30.0, 3),
        "buckets": ((NOON - 45, 7, 1), (NOON - 15, 0, 3)),
        "needs_attention": "leaked",
        "requests_total": 11,
        "last_used": NOON - 1,
        "last_error": LastError(NOON - 1, "key", 403, "Key “primary” leaked.\nSee the console."),
        "usage": LedgerSnapshot(((NOON - 2, 120), (NOON - 1, 80)), 11, NOON + 7 * 3600),
    }
    return KeySnapshot(**(history | options))


def idle_key(name: str) -> KeySnapshot:
    """A key to which nothing has happened."""
    return KeySnapshot(
        f"{name}-fingerprint", name, BreakerSnapshot(), (), None, 0, None, None, None
    )


def minute(start: float = NOON, **options) -> MetricsRow:
    """A row of metrics with something in every column."""
    fields = {
        "period": 60,
        "start": int(start),
        "route": "/v1/chat/completions",
        "model": "gemini-3.8-flash",
        "status_class": "2xx",
        "key": "primary",
        "requests": 5,
        "failures": 1,
        "retries": 2,
        "prompt_tokens": 1000,
        "cached_tokens": 100,
        "completion_tokens": 500,
        "reasoning_tokens": 300,
        "seconds": 7.25,
        "first_chunks": 3,
        "first_chunk_seconds": 1.5,
    }
    return MetricsRow(**(fields | options))


def audit_event(at: float = NOON, **options) -> AuditEvent:
    """Somebody disabled a key."""
    fields = {
        "at": at,
        "actor": Actor("192.0.2.7", "admin"),
        "action": "key.disable",
        "target": "primary",
        "target_id": "primary-fingerprint",
        "before": {"enabled": True},
        "after": {"enabled": False, "models": ("a", "b")},
    }
    return AuditEvent(**(fields | options))


def used(**options) -> UsageRow:
    """A row of usage."""
    values = {"period": 3600, "start": int(NOON), "requests": 3, "input": 100, "cost": 0.1}
    series = {
        "client": "ci",
        "endpoint": "chat",
        "model": "gemini-3.8-flash",
        "project": "team-a",
    }
    return UsageRow(**(series | values | options))


def recorded(number: int = 1, **options) -> RecordRow:
    """The record of a request that ended so many microseconds after noon."""
    values = {
        "digest": 7,
        "client": "ci",
        "endpoint": "chat",
        "model": "gemini-3.8-flash",
        "key": "primary",
        "status": 200,
        "outcome": "success",
        "data": '[["req_1"],[]]',
    }
    return RecordRow(int(NOON) * 1_000_000 + number, **(values | options))


def full_state(taken_at: float = NOON, **options) -> State:
    """A state with something in every corner."""
    fields = {
        "pool": PoolSnapshot(
            taken_at,
            (key_snapshot(), idle_key("spare")),
            (Cooldown("team-a", "gemini-3.8-flash", NOON + 60, "quota_minute"),),
            (Cooldown("team-a", "*", NOON + 3600, "denied"),),
            (
                ("primary-fingerprint", Override(enabled=False)),
                ("absent-fingerprint", Override(weight=7)),
            ),
            (
                QuotaSnapshot(
                    "team-a",
                    "gemini-3.8-flash",
                    ("gemini-3.8-flash", "gemini-flash-latest"),
                    (LearnedLimit("rpm", 60, "PerMinute", NOON - 5, 2, 17),),
                    NOON - 5,
                    20,
                    3000,
                    19,
                    NOON + 7 * 3600,
                    ((NOON - 4, 3, 120), (NOON - 1, 1, 80)),
                ),
                QuotaSnapshot("team-b", "*", (), (), NOON),
            ),
        ),
        "signatures": {
            "call_1": RememberedCall("c2lnbmF0dXJl", issued_upstream=True),
            "call_2": RememberedCall(None, issued_upstream=False),
        },
        "metrics": (minute(), minute(NOON - 60, key="spare"), minute(NOON, period=3600)),
        "events": (audit_event(NOON - 5), audit_event()),
        "resources": (
            Resource("files/one", "team-a", NOON + 3600.0),
            Resource("cachedContents/two", "spare", NOON + 60.0),
        ),
        "records": (recorded(), recorded(2, client="", outcome="service", status=503)),
        "usage": (used(), used(period=86400, start=int(NOON) - 43200, cost=0.3)),
        "answers": (
            AnswerRow("resp_1", "a", NOON, b'{"output":', b"[]", b"}", ("d1",)),
            AnswerRow("resp_2", "", NOON, b'{"output":', b"[1]", b"}", ("d1", "d2")),
        ),
        "clients": (
            ClientRow("app", "0a" * 16, NOON, NOON, "0b" * 32, settings={"limits.rpm": 7}),
            ClientRow(
                "rotated",
                "1a" * 16,
                NOON,
                NOON + 1,
                "1b" * 32,
                (FormerToken("1c" * 32, NOON + 60),),
                {"models": ("gemini-3*",), "budget.usdPerDay": 0.5, "debug": True},
            ),
            ClientRow("deleted", "2a" * 16, NOON, NOON + 2, ""),
        ),
        "client_seen": (SeenRow("app", NOON - 3.0), SeenRow("shop", NOON)),
        "answer_texts": {"d1": b'[{"role":"user"}]', "d2": b"[]"},
        "client_limits": (
            LimitCount("ci", "day", 20_667, 7, 1200, 0.3),
            LimitCount("ci", "month", 20_638, 0, 0, 4.5),
        ),
    }
    return State(**(fields | options))


def comparable(state: State | None, *, records: bool = False) -> object:
    """The state without the order of what has none."""
    if state is None:
        return None
    pool = state.pool
    return (
        pool.taken_at,
        {kept.id: kept for kept in pool.keys},
        set(pool.cooldowns),
        set(pool.denials),
        dict(pool.overrides),
        set(pool.quotas),
        list(state.signatures.items()),
        {row.identity: row for row in state.metrics},
        state.events,
        set(state.resources),
        {row.identity: row for row in state.usage},
        *((set(state.records),) if records else ()),
        state.answers,
        state.answer_texts,
        set(state.client_limits),
        {row.name: row for row in state.clients},
        {row.client: row for row in state.client_seen},
    )
