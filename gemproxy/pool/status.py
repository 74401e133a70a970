"""What the pool tells of itself: plain values for the admin API, the metrics and the log.

Times are epoch seconds. Nothing here holds a secret, only its mask.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from gemproxy.pool.eligibility import Reason
from gemproxy.pool.snapshot import LastError


@dataclass(frozen=True, slots=True)
class CooldownStatus:
    """One model (``*``: all) that a key may not use for now; ``quota_minute`` or ``quota_day``."""

    model: str
    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """Everything that an operator sees of one key (schema ``Key`` of the admin API)."""

    id: str
    name: str
    project: str
    masked: str
    #: ``active``, ``disabled``, ``circuit_open`` or ``circuit_half_open``.
    status: str
    enabled: bool
    needs_attention: str | None
    weight: int
    effective_weight: float
    health_score: float
    success_count: int
    failure_count: int
    consecutive_failures: int
    requests_total: int
    #: Of the last few dozen answers.
    avg_latency_ms: float | None
    p95_latency_ms: float | None
    last_used: float | None
    last_error: LastError | None
    next_retry: float | None
    cooldowns: tuple[CooldownStatus, ...]
    #: Models that the key's project was refused, for the time being.
    denied_models: tuple[str, ...]
    #: How long the latest answers took, oldest first.
    recent_latencies_ms: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """How many keys there are: ``total = healthy + unhealthy + disabled``.

    ``unhealthy`` keys have a breaker that is not closed; ``recovering`` are those among them that
    are half-open. ``needs_attention`` counts enabled keys by why Google rejects them, the most
    frequent reason first.
    """

    total: int
    healthy: int
    unhealthy: int
    disabled: int
    recovering: int
    needs_attention: tuple[tuple[str, int], ...] = ()


class SkippedKey(Struct, frozen=True):
    """A key that was not eligible for a request, and why."""

    key: str
    reason: Reason
    until: float | None = None


@dataclass(frozen=True, slots=True)
class PoolChange:
    """What a reload did, as names of keys."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
