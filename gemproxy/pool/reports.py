"""The pool in plain values, for those who watch it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from gemproxy.pool.breaker import State
from gemproxy.pool.eligibility import Eligibility
from gemproxy.pool.key_state import KeyState
from gemproxy.pool.status import CooldownStatus, KeyStatus, PoolCounts

_STATUS = {
    State.CLOSED: "active",
    State.OPEN: "circuit_open",
    State.HALF_OPEN: "circuit_half_open",
}


def key_status(entry: KeyState, eligibility: Eligibility, now: float) -> KeyStatus:
    """Everything that an operator sees of one key."""
    calendar, error = eligibility.calendar, entry.last_error
    successes, failures = entry.window.tally(now)
    average, p95 = entry.latencies_ms()
    state = entry.breaker.state_at(now)
    project = entry.key.project
    return KeyStatus(
        id=entry.id,
        name=entry.key.name,
        project=project,
        masked=entry.key.secret.masked,
        status=_STATUS[state] if entry.enabled else "disabled",
        enabled=entry.enabled,
        needs_attention=entry.needs_attention,
        weight=entry.weight,
        effective_weight=entry.weight
        * entry.effective_health(now, eligibility.settings.minimum_requests),
        health_score=entry.window.score(now),
        success_count=successes,
        failure_count=failures,
        consecutive_failures=entry.breaker.consecutive_failures,
        requests_total=entry.requests_total,
        avg_latency_ms=average,
        p95_latency_ms=p95,
        last_used=calendar.optional_epoch(entry.last_used),
        last_error=error and replace(error, at=calendar.epoch(error.at)),
        next_retry=calendar.optional_epoch(entry.breaker.until) if state is State.OPEN else None,
        cooldowns=tuple(
            CooldownStatus(cooldown.model, calendar.epoch(cooldown.until), cooldown.reason)
            for cooldown in eligibility.cooldowns.of_project(project, now)
        ),
        denied_models=eligibility.denied_models(entry, now),
        recent_latencies_ms=entry.recent_latencies_ms(),
    )


def pool_counts(entries: Iterable[KeyState], now: float) -> PoolCounts:
    """How many keys there are in each state."""
    total = healthy = disabled = recovering = 0
    attention: Counter[str] = Counter()
    for entry in entries:
        total += 1
        if not entry.enabled:
            disabled += 1
            continue
        # Nearly all are closed, and that does not change with time.
        if entry.breaker.state is State.CLOSED:
            healthy += 1
        else:
            recovering += entry.breaker.state_at(now) is State.HALF_OPEN
        if entry.needs_attention is not None:
            attention[entry.needs_attention] += 1
    unhealthy = total - healthy - disabled
    reasons = tuple(attention.most_common())
    return PoolCounts(total, healthy, unhealthy, disabled, recovering, reasons)
