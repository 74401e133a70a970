"""What the pool reports: status on request, and events to a listener.

Plain values for the admin API, which sends the statuses as they are, the metrics and the log.
Nothing here holds a secret, only its mask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from msgspec import Struct

from gemproxy.pool.breaker import BreakerState
from gemproxy.pool.cooldowns import Cooldown
from gemproxy.pool.eligibility import Eligibility, Reason
from gemproxy.pool.snapshot import LastError, Override
from gemproxy.pool.state import KeyState


class CooldownStatus(Struct, frozen=True):
    """A cooldown of the key's project for a model (``*``: all)."""

    model: str
    until: datetime
    reason: str


class LastErrorStatus(Struct, frozen=True):
    """The latest failure that was charged to a key."""

    at: datetime
    outcome: str
    status: int | None
    message: str


class KeyStatus(Struct, frozen=True):
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
    #: Of the latest answers.
    avg_latency_ms: float | None
    p95_latency_ms: float | None
    last_used: datetime | None
    last_error: LastErrorStatus | None
    next_retry: datetime | None
    cooldowns: tuple[CooldownStatus, ...]
    #: Models that Google does not let the key or its project use.
    denied_models: tuple[str, ...]
    #: How long the latest answers took, oldest first.
    recent_latencies_ms: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """The number of keys: ``total = healthy + unhealthy + disabled``.

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
    """A key that was not eligible for a request, and the reason."""

    key: str
    reason: Reason
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class PoolChange:
    """The changes of a reload, as names of keys."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Transition:
    """The breaker of the key named ``key`` changed its state.

    If it opened, ``last_error`` is the cause, and ``needs_attention`` says why Google rejects the
    key, if it does.
    """

    key: str
    before: BreakerState
    after: BreakerState
    needs_attention: str | None = None
    last_error: LastError | None = None


class PoolListener:
    """Is called when something happens in the pool. Subclasses override what they need.

    A method must not raise, nor call the pool. Changes by a restart or a reload are not reported.
    """

    def breaker_changed(self, change: Transition) -> None:
        """The breaker of a key opened, became half-open, or closed."""

    def cooldown_set(self, cooldown: Cooldown) -> None:
        """A project, or a key, may not use a model for some time, in epoch seconds."""

    def override_changed(self, key: str, override: Override) -> None:
        """An operator enabled or disabled the key of this name, or set its weight."""


_STATUS = {
    BreakerState.CLOSED: "active",
    BreakerState.OPEN: "circuit_open",
    BreakerState.HALF_OPEN: "circuit_half_open",
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
        last_used=calendar.optional_date(entry.last_used),
        last_error=None
        if error is None
        else LastErrorStatus(calendar.date(error.at), error.outcome, error.status, error.message),
        next_retry=calendar.optional_date(entry.breaker.until)
        if state is BreakerState.OPEN
        else None,
        cooldowns=tuple(
            CooldownStatus(cooldown.model, calendar.date(cooldown.until), cooldown.reason)
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
        # state_at() is only needed for a breaker that is not closed.
        if entry.breaker.state is BreakerState.CLOSED:
            healthy += 1
        else:
            recovering += entry.breaker.state_at(now) is BreakerState.HALF_OPEN
        if entry.needs_attention is not None:
            attention[entry.needs_attention] += 1
    unhealthy = total - healthy - disabled
    reasons = tuple(attention.most_common())
    return PoolCounts(total, healthy, unhealthy, disabled, recovering, reasons)


def skipped_keys(
    entries: Iterable[KeyState],
    eligibility: Eligibility,
    model: str,
    now: float,
    *,
    tried: Collection[str],
    tokens: int = 0,
    reserve: float = 0.0,
) -> Iterator[SkippedKey]:
    """Those of ``entries`` that are ineligible now; ``tried`` are ids."""
    for entry in entries:
        ineligible = eligibility.check(entry, model, now, tokens=tokens, reserve=reserve)
        if ineligible is not None:
            until = eligibility.calendar.optional_date(ineligible.until)
            yield SkippedKey(entry.key.name, ineligible.reason, until)
        elif entry.id in tried:
            yield SkippedKey(entry.key.name, Reason.ALREADY_TRIED)


class _Key(Protocol):
    """The fields of a key's status that decide its state, in the pool or in the admin API."""

    @property
    def status(self) -> str: ...

    @property
    def enabled(self) -> bool: ...

    @property
    def needs_attention(self) -> str | None: ...

    @property
    def cooldowns(self) -> Sequence[object]: ...


def _of_status(word: str) -> Callable[[_Key], bool]:
    return lambda key: key.status == word


def _needs_attention(key: _Key) -> bool:
    return key.enabled and key.needs_attention is not None


def _cools_down(key: _Key) -> bool:
    return key.enabled and len(key.cooldowns) > 0


def _in_trouble(key: _Key) -> bool:
    return condition_of(key) in _TROUBLES


STATES: Final[Mapping[str, Callable[[_Key], bool]]] = {
    "attention": _needs_attention,
    "open": _of_status("circuit_open"),
    "half-open": _of_status("circuit_half_open"),
    "cooling": _cools_down,
    "disabled": _of_status("disabled"),
    "active": _of_status("active"),
    "trouble": _in_trouble,
}
"""The states by which keys are filtered, the worst first. A key may be in several: a rejected one
has an open breaker as well. ``trouble`` are the first four together."""

#: As the admin API spells them.
_SPELLINGS: Final = {"circuit_open": "open", "circuit_half_open": "half-open"}
_TROUBLES: Final = frozenset({"attention", "open", "half-open", "cooling"})


def condition_of(key: _Key) -> str:
    """The worst of the key's states; a disabled key has no other."""
    if not key.enabled:
        return "disabled"
    return next(
        (state for state, holds in STATES.items() if state != "trouble" and holds(key)), "active"
    )


def state_named(name: str) -> str | None:
    """The state of this name; ``None`` if there is none."""
    state = _SPELLINGS.get(name, name)
    return state if state in STATES else None


def is_in(key: _Key, state: str) -> bool:
    """Whether the key is in this state, one of :data:`STATES`."""
    return STATES[state](key)


def badness(key: _Key) -> int:
    """A sort key: the worst state first."""
    return _ORDER[condition_of(key)]


_ORDER: Final = {state: place for place, state in enumerate(STATES)}
